"""The scripts in examples/ are short and print what examples/README.md shows; the README's Python lines as well."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.code_blocks import blocks

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples"
NUMBER = re.compile(r"\d+\.\d+")
BLOCKS = re.findall(r"^```console\n\$ python (.*?)\n(.*?)^```$", (FOLDER / "README.md").read_text("utf-8"), re.M | re.S)


def test_every_script_is_shown_and_short() -> None:
    scripts = sorted(FOLDER.glob("*.py"))
    assert sorted(command.split()[0] for command, _ in BLOCKS) == [f"examples/{path.name}" for path in scripts]
    assert all(len(path.read_text("utf-8").splitlines()) < 40 for path in scripts)


@pytest.mark.slow
@pytest.mark.parametrize(("command", "shown"), BLOCKS, ids=[command for command, _ in BLOCKS])
def test_it_prints_what_the_page_shows(command: str, shown: str, tmp_path: Path) -> None:
    with tarfile.open(ROOT / "tests/old_runs/version-0.1.tar.gz") as archive:
        archive.extractall(tmp_path / "runs", filter="data")
    script, *arguments = command.split()
    check([str(ROOT / script), *arguments], shown, tmp_path)


@pytest.mark.slow
def test_the_lines_of_the_readme_print_what_it_shows(tmp_path: Path) -> None:
    page = (ROOT / "README.md").read_text("utf-8")
    ((code, shown),) = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", page, re.M | re.S)
    check(["-c", code], shown, tmp_path)


@pytest.mark.slow
def test_the_python_of_the_api_pages_runs(tmp_path: Path) -> None:
    """The blocks of both pages continue each other, as in a notebook."""
    pages = [ROOT / "docs/api" / name for name in ("scorer.md", "evaluation.md")]
    code = "".join(block.text for page in pages for block in blocks(page) if not block.illustration)
    code += "assert wide.height == 4 and scored.columns[0] == 'record_id' and len(scores) == 13\n"
    code += "result.plot('roc').save('roc.svg')\n"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("unsafe") and lines[13].startswith("(marginal; answer ")
    assert [line.split()[0] for line in lines[14:17]] == ["0", "1", "2"] and "saw None" in lines[15]
    assert lines[17].startswith("note: gold has no column 'split'")
    assert (tmp_path / "roc.svg").read_text("utf-8").startswith("<svg")


def check(arguments: list[str], shown: str, folder: Path) -> None:
    """Python prints with these arguments what the page shows, up to 0.02 in each number."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed, expected = ([float(number) for number in NUMBER.findall(text)] for text in (done.stdout, shown))
    assert NUMBER.sub("#", done.stdout) == NUMBER.sub("#", shown)
    assert printed == pytest.approx(expected, abs=0.02)

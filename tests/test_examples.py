"""The scripts in examples/ are short and print what examples/README.md shows; the README's Python lines as well."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

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

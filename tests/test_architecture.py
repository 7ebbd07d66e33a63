"""docs/architecture.md lists only existing paths, every folder of code, and the imports between folders."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
PACKAGES = ("schemas", "scoring", "annotation", "pipeline")
FOLDERS = (*PACKAGES, "marginalia", "tests", "benchmarks", "docs", "examples")
NAMED = sorted(set(re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]*|Makefile|setup\.py)`", PAGE)))


def tree() -> list[str]:
    """The folders of the tree, as paths."""
    block = re.search(r"^```text\n(schemas/.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
    assert block is not None
    folders: list[str] = []
    above: list[str] = []
    for line in block[1].splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        above = [*above[:depth], line.split()[0].rstrip("/")]
        folders.append("/".join(above))
    return folders


@pytest.mark.parametrize("path", NAMED)
def test_a_path_on_the_page_exists(path: str) -> None:
    assert (ROOT / path).exists()


def test_many_paths_are_named() -> None:
    assert len(NAMED) > 80


def test_the_tree_shows_every_folder_of_code_and_no_other() -> None:
    shown = tree()
    assert [folder for folder in shown if not (ROOT / folder).is_dir()] == []
    with_code = {path.parent.relative_to(ROOT).as_posix() for name in PACKAGES for path in (ROOT / name).rglob("*.py")}
    assert with_code - set(shown) == set()


def test_arrows_between_the_folders_of_the_pipeline_are_those_of_the_imports() -> None:
    block = re.search(r"^```text\n(commands .*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
    assert block is not None
    drawn = {
        (line.split()[0], target.strip())
        for line in block[1].splitlines()
        if "→" in line
        for target in line.partition("→")[2].split(",")
    }
    imported = set()
    for path in (ROOT / "pipeline").glob("*/**/*.py"):
        folder = path.relative_to(ROOT / "pipeline").parts[0]
        targets = re.findall(r"^\s*(?:from|import) marginalia\.pipeline\.(\w+)", path.read_text("utf-8"), re.MULTILINE)
        imported |= {(folder, target) for target in targets if target != folder and folder != "commands"}
    assert drawn == imported

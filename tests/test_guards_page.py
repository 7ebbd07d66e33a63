"""docs/guards.md lists the guard files as they are."""

from __future__ import annotations

import yaml

from tests.guards_page import GUARDS, PAGE, tables, updated


def test_the_page_lists_the_guard_files_as_they_are() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == updated(page), "run: python -m tests.guards_page --write"


def test_tokens_are_shown_as_they_are() -> None:
    assert "&lt;UNSAFE-S4>" in tables()
    assert "&lt;&#124;begin_of_text&#124;>" in tables()


def test_every_file_has_a_row_in_both_tables() -> None:
    answers, seen = tables().split("\n## ")
    for path in GUARDS.glob("*.yaml"):
        title = yaml.safe_load(path.read_text(encoding="utf-8"))["title"]
        assert f"| `{path.stem}` | {title} |" in answers
        assert f"| `{path.stem}` |" in seen

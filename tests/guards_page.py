"""The tables of docs/guards.md, made from the guard files. `python -m tests.guards_page --write` updates the page."""

from __future__ import annotations

import argparse
from pathlib import Path

from marginalia.scoring.guard_facts import shipped_guards

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/guards.md"
GUARDS = ROOT / "scoring/guards"
BEGIN, END = "<!-- tables: python -m tests.guards_page --write -->", "<!-- end of the tables -->"
NOT_SEEN = "**not seen**"


def updated(page: str) -> str:
    """The page with tables of the guard files as they are."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"


def tables() -> str:
    """Two tables: what each guard answers, and where its texts were seen."""
    head = ("file", "guard", "answer", "categories", "judges", "reasons first", "licence")
    facts = shipped_guards()
    answers = [
        (
            f"`{one.name}`",
            one.title,
            one.answer,
            one.categories,
            one.judges,
            "yes" if one.reasons else "no",
            one.licence,
        )
        for one in facts
    ]
    seen = [
        (f"`{one.name}`", one.prompt_seen or NOT_SEEN, one.answer_seen or NOT_SEEN, one.note or "") for one in facts
    ]
    return "\n\n".join(
        [_table(head, answers), "## Where the texts were seen", _table(("file", "prompt", "answer", "remarks"), seen)]
    )


def _yes(fact: bool) -> str:
    return "yes" if fact else "no"


def _table(head: tuple[str, ...], rows: list[tuple[str | None, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(_escaped(cell or '') for cell in line)} |" for line in lines)


def _escaped(cell: str) -> str:
    """Text of which Markdown makes no cell, tag or escape."""
    return cell.replace("|", "&#124;").replace("<", "&lt;").replace("\\", "&#92;")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="update docs/guards.md")
    if parser.parse_args().write:
        PAGE.write_text(updated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(tables())

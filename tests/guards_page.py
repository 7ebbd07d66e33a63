"""The tables of docs/guards.md, made from the guard files. `python -m tests.guards_page --write` updates the page."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/guards.md"
GUARDS = ROOT / "scoring/guards"
BEGIN, END = "<!-- tables: python -m tests.guards_page --write -->", "<!-- end of the tables -->"
KINDS = {  # of guards that do not answer in text
    "classifier": "probabilities of classes",
    "moderations": "scores of a moderation endpoint",
    "decisions": "decisions of an endpoint",
    "systemone": "decisions of an endpoint",
}
NOT_SEEN = "**not seen**"


def updated(page: str) -> str:
    """The page with tables of the guard files as they are."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"


def tables() -> str:
    """Two tables: what each guard answers, and where its texts were seen."""
    files = [(path.stem, yaml.safe_load(path.read_text(encoding="utf-8"))) for path in sorted(GUARDS.glob("*.yaml"))]
    answers = [
        (f"`{name}`", file["title"], _answer(file), _categories(file), _sides(file), _reasons(file), file["licence"])
        for name, file in files
    ]
    seen = [(f"`{name}`", *_seen(file["confirmed"])) for name, file in files]
    head = ("file", "guard", "answer", "categories", "judges", "reasons first", "licence")
    return "\n\n".join(
        [_table(head, answers), "## Where the texts were seen", _table(("file", "prompt", "answer", "remarks"), seen)]
    )


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_escaped, line))} |" for line in lines)


def _escaped(cell: str) -> str:
    """Text of which Markdown makes no cell, tag or escape."""
    return cell.replace("|", "&#124;").replace("<", "&lt;").replace("\\", "&#92;")


def _answer(file: dict[str, Any]) -> str:
    """In a few words, what a guard's answer consists of."""
    if (kind := file.get("kind", "generative")) != "generative":
        return KINDS.get(kind, kind)
    pieces = list(_pieces(file["answer"]))
    scale = next((piece for piece in pieces if "levels" in piece or "integers" in piece), None)
    if file.get("calls") == "per_label":
        return "one label per call: " + ("verdict" if scale is None else _scale(scale))
    lists = {tuple(piece.get("rows", ())): piece for piece in pieces if "labels" in piece}
    words = [piece for piece in pieces if "word" in piece or "token" in piece]
    questions = {row for piece in words for row in piece.get("rows", ())} - {"unsafe"}
    parts = ["verdict"] if any("verdict" in piece for piece in pieces) else []
    parts += [] if scale is None else [_scale(scale)]
    parts += [] if not questions else ["1 question"] if len(questions) == 1 else [f"{len(questions)} questions"]
    if len(lists) > 1:
        parts.append(f"{len(lists)} lists of categories")
    parts += [
        "list of categories" if piece["labels"] else "one category" for piece in lists.values() if len(lists) == 1
    ]
    return ", ".join(parts) + (" (special tokens)" if any("token" in piece for piece in pieces) else "")


def _scale(piece: dict[str, Any]) -> str:
    if "levels" in piece:
        return f"{len(piece['levels'])} levels"
    return f"number from {piece['integers'][0]} to {piece['integers'][1]}"


def _pieces(answer: Any) -> Iterator[dict[str, Any]]:
    """Every piece with keys, at any depth."""
    if isinstance(answer, dict):
        yield answer
        answer = [*answer.get("any", ()), *answer.get("optional", ())]
    for part in answer if isinstance(answer, list) else ():
        yield from _pieces(part)


def _categories(file: dict[str, Any]) -> str:
    if file.get("labels"):
        return str(len(file["labels"]))
    return f"of {file['taxonomy']}" if file.get("taxonomy") else "yours"


def _sides(file: dict[str, Any]) -> str:
    return ", ".join(file["judges"]) + (": separate rows" if file.get("sides") else "")


def _reasons(file: dict[str, Any]) -> str:
    return "yes" if "reasoning" in file else "no"


def _seen(confirmed: dict[str, Any]) -> tuple[str, str, str]:
    return confirmed["prompt"] or NOT_SEEN, confirmed["answer"] or NOT_SEEN, confirmed.get("note") or ""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="update docs/guards.md")
    if parser.parse_args().write:
        PAGE.write_text(updated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(tables())

"""The fenced code blocks of the documentation's pages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
MARK = "<!-- illustration -->"  # before a block that no test runs; Markdown shows nothing
_FENCE = re.compile(rf"(?P<mark>^{MARK}\n+)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """`before` is the page's text between the previous block and this one; `line` is that of the opening fence."""

    line: int
    language: str
    text: str
    before: str
    illustration: bool


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found, end = [], 0
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start("language")) + 1
        before = text[end : match.start()]
        found.append(Block(line, match["language"], match["text"], before, match["mark"] is not None))
        end = match.end()
    return found

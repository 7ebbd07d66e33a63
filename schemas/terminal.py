"""Text for a terminal whose encoding may lack some characters (ASCII, cp1252, latin-1)."""

from __future__ import annotations

import codecs
import io
import json
import sys
import unicodedata
from collections.abc import Sequence
from typing import Any

from marginalia.schemas.text_checks import one_line


def replace_unknown_characters() -> None:
    """Makes stdout and stderr write `?` for a character that their encoding lacks, instead of raising
    UnicodeEncodeError. A stream that already escapes such characters, as stderr does by default, is not changed."""
    for stream in (sys.stdout, sys.stderr):
        # surrogateescape (the C locale's handler) only helps with undecodable file names
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="replace")


def json_for_stdout(data: Any) -> str:
    """`data` as indented JSON. If stdout is not UTF-8, non-ASCII characters are escaped, so that none is lost."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return json.dumps(data, ensure_ascii=codecs.lookup(encoding).name != "utf-8", indent=2)


def fitted(text: str, width: int, most: int) -> list[str]:
    """`text` as at most `most` lines of at most `width` columns, broken at spaces where possible; … where it is cut.
    Line ends and control characters are shown as spaces. Wide characters take two columns."""
    lines: list[str] = []
    rest = one_line(text).strip()
    while rest and len(lines) < most:
        end = _columns(rest, width)
        space = rest.rfind(" ", 0, end + 1)
        if end < len(rest) and space > end // 2:
            end = space
        lines.append(rest[:end].rstrip())
        rest = rest[end:].lstrip()
    if rest:
        lines[-1] = lines[-1][: _columns(lines[-1], width - 2)].rstrip() + " …"
    return lines


def _columns(text: str, width: int) -> int:
    """How many characters of `text` fit into `width` columns, at least one."""
    used = 0
    for at, character in enumerate(text):
        used += 0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in "WF")
        if used > width:
            return max(at, 1)
    return len(text)


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with the first column to the left and the others, numbers, to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows]
    return ["  ".join(row) for row in aligned]

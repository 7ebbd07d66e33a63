"""What a terminal shows: tables and text that fit its width, JSON, and encodings that lack some characters."""

from __future__ import annotations

import codecs
import io
import json
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from marginalia.schemas.text_checks import one_line

if TYPE_CHECKING:
    from rich.console import Console

LEAST_WIDTH = 40  # columns that a terminal is assumed to have at least
PIPED_WIDTH = 100  # of texts that are shortened, where there is no terminal
GAP = 2  # spaces between two columns of a table
LONG_WORD = 20  # columns; a longer word, such as a path, may be broken in a table of a narrow terminal
# what is aligned to the right: numbers, also with a sign, unit or percent sign, and what stands for a missing one
_NUMBER = re.compile(r"[-+−]?[\d.,]+( ?%| [kM]?B| s)?|[–—·-]|")


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


def terminal_width() -> int | None:
    """Columns of the terminal, or the environment variable COLUMNS; None when stdout is not a terminal."""
    columns = shutil.get_terminal_size((0, 0)).columns
    return max(columns, LEAST_WIDTH) if columns else None


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, indent: int = 2) -> str:
    """Rows of cells as aligned columns, numbers to the right. `headers`: one per column, or none.

    It fits the terminal: cells are broken at spaces, and columns for which even that leaves no room follow below, next
    to the first column again. Nothing is left out. Without a terminal each row is one line."""
    cells = [[one_line(cell) for cell in row] for row in [*([headers] if headers else []), *rows]]
    columns = [list(column) for column in zip(*cells, strict=True)]
    width = terminal_width()
    room = None if width is None else width - indent
    blocks = [columns] if room is None or not columns else list(_blocks(columns, room))
    shown = [_aligned(block, room, has_header=bool(headers)) for block in blocks]
    return "\n\n".join("\n".join(" " * indent + line for line in lines) for lines in shown)


def _blocks(columns: list[list[str]], room: int) -> Iterator[list[list[str]]]:
    """The columns in groups that fit, the first one in each."""
    first, *others = columns
    block = [first]
    for column in others:
        if len(block) > 1 and sum(map(_least_width, [*block, column])) + GAP * len(block) > room:
            yield block
            block = [first]
        block.append(column)
    yield block


def _aligned(columns: list[list[str]], room: int | None, *, has_header: bool) -> list[str]:
    """The lines of a table in `room` columns, or in as many as it needs."""
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    widths = [max(map(cell_len, column)) for column in columns]
    if room is not None:
        widths = _widths(list(map(_least_width, columns)), widths, room - GAP * (len(columns) - 1))
    shown = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, show_header=has_header)
    for column, width in zip(columns, widths, strict=True):
        body = column[has_header:]
        is_number = any(body) and all(map(_NUMBER.fullmatch, body))
        header = Text(column[0]) if has_header else ""
        shown.add_column(header, justify="right" if is_number else "left", width=width, overflow="fold")
    for row in list(zip(*columns, strict=True))[has_header:]:
        shown.add_row(*map(Text, row))
    console = _console(sum(widths) + GAP * len(widths))
    with console.capture() as captured:
        console.print(shown)
    return [line.rstrip() for line in captured.get().splitlines()]


def _widths(least: list[int], most: list[int], room: int) -> list[int]:
    """The columns' widths: at least `least`, then all grow alike until the room is used or each has its `most`."""
    widths = list(least)
    while growing := [index for index, width in enumerate(widths) if width < most[index]][: max(room - sum(widths), 0)]:
        for index in growing:
            widths[index] += 1
    return widths


def _least_width(column: list[str]) -> int:
    """The columns of the longest word of its cells, at most LONG_WORD."""
    from rich.cells import cell_len

    return min(max((cell_len(word) for cell in column for word in cell.split()), default=0), LONG_WORD)


def _console(width: int) -> Console:
    """A console that keeps plain text, whatever stdout is."""
    from rich.console import Console

    return Console(
        file=io.StringIO(),
        width=width,
        height=25,
        color_system=None,
        force_terminal=False,
        force_jupyter=False,
        legacy_windows=False,
    )


def wrapped(text: str, *, hanging: int = 4) -> str:
    """`text` with the lines that are too wide for the terminal broken at spaces; their further lines are indented by
    `hanging` more columns. A word that is too wide, such as a path, is not broken. Unchanged without a terminal."""
    width = terminal_width()
    if width is None:
        return text
    return "\n".join(part for line in text.split("\n") for part in _parts(line, width, hanging))


def _parts(line: str, width: int, hanging: int) -> list[str]:
    if len(line) <= width:
        return [line]
    indent = " " * (len(line) - len(line.lstrip()))
    return textwrap.wrap(
        line.strip(),
        width,
        initial_indent=indent,
        subsequent_indent=indent + " " * hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )


def fitted(text: str, width: int, most: int) -> list[str]:
    """`text` as at most `most` lines of at most `width` columns, broken at spaces where possible; … where it is cut.
    Line ends and control characters are shown as spaces. Wide characters take two columns."""
    from rich.cells import set_cell_size
    from rich.text import Text

    whole = one_line(text).strip()
    shown = whole[: 4 * width * most]  # combining characters take no column
    lines = [line.plain.rstrip() for line in Text(shown).wrap(_console(width), width, overflow="fold")] if shown else []
    if len(lines) > most or len(shown) < len(whole):
        lines = lines[:most]
        lines[-1] = set_cell_size(lines[-1], width - 2).rstrip() + " …"
    return lines

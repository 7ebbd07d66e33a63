"""Finds out how a CSV file is written: the delimiter, the quotes, and how quotes inside cells are written.

Python's `csv.Sniffer` decides by the frequency of characters, which texts full of commas and quotes mislead. Here a
dialect is tried: it is right only if the strict reader accepts the sample and every row has as many cells as the
header. So a wrong guess ends in an error, never in shifted columns."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from marginalia.schemas.sources.file_format import FileFormat

if TYPE_CHECKING:
    from _csv import Reader

DELIMITERS = (",", ";", "\t", "|")
# the limit of the csv module (131,072 characters) is smaller than a long text; TextLines has one for whole rows
csv.field_size_limit(1 << 25)
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)


@dataclass(frozen=True)
class Dialect:
    """`quote` and `escape` are None if there are none. `spaces`: blanks after delimiters are not part of cells."""

    delimiter: str
    quote: str | None = '"'
    escape: str | None = None
    spaces: bool = False

    def rows(self, lines: Iterable[str]) -> Reader:
        """The strict reader of these lines: csv.Error for a misplaced quote."""
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quotechar=self.quote,
            quoting=csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE,
            escapechar=self.escape,
            skipinitialspace=self.spaces,
            strict=True,
        )


@dataclass(frozen=True)
class _Trial:
    """How far a dialect reads the sample. `width`: cells of the header; `rows`: rows before the first problem."""

    dialect: Dialect
    width: int
    rows: int
    is_valid: bool


def separator_line(line: str) -> str | None:
    """The delimiter that a first line such as `sep=;` states, as Excel writes it; None for any other line."""
    match = _SEPARATOR_LINE.fullmatch(line)
    return match[1] if match else None


def detect(sample: Sequence[str], *, is_whole: bool, how: FileFormat, delimiters: Sequence[str]) -> Dialect:
    """The dialect of the lines in `sample`, the beginning of the file or (`is_whole`) all of it. What `how` states is
    taken as it is. If no dialect fits, the result is the one that reads the most rows: reading names the line."""
    candidates = _candidates(sample, how, delimiters)
    tried = [_try(dialect, sample, is_whole, is_guessed=how.quote is None) for dialect in candidates]
    valid = [trial for trial in tried if trial.is_valid]
    several = [trial for trial in valid if trial.width > 1]
    if several:
        return max(several, key=lambda trial: trial.width).dialect  # the first of those with the most columns
    split = [trial for trial in tried if trial.width > 1]
    if split:
        return max(split, key=lambda trial: trial.rows).dialect
    return (valid or tried)[0].dialect


def _candidates(sample: Sequence[str], how: FileFormat, delimiters: Sequence[str]) -> Iterator[Dialect]:
    """Dialects, the most common first."""
    header = next((line for line in sample if line.strip()), "").strip()
    escaped = any('\\"' in line for line in sample)
    if how.quote is not None:
        quotes = [(how.quote or None, how.escape or None)]
        if how.escape is None and how.quote and escaped:
            quotes.append((how.quote, "\\"))
    else:
        quotes = [('"', how.escape or None)]
        if how.escape is None and escaped:
            quotes.append(('"', "\\"))
        quotes += [(None, how.escape or None), ("'", how.escape or None)]
        if header.startswith("'") and header.endswith("'"):
            quotes.reverse()
    for quote, escape in quotes:
        for delimiter in [how.delimiter] if how.delimiter else delimiters:
            yield Dialect(delimiter, quote, escape, _has_spaces(header, delimiter, quote))


def _has_spaces(header: str, delimiter: str, quote: str | None) -> bool:
    """Whether spaces follow all delimiters in the header. Names do not begin with a space, so they are layout."""
    names = next(csv.reader([header], delimiter=delimiter, quotechar=quote or '"'), [])
    return delimiter != "\t" and len(names) > 1 and all(name.startswith(" ") for name in names[1:])


def _try(dialect: Dialect, sample: Sequence[str], is_whole: bool, *, is_guessed: bool) -> _Trial:
    """`is_guessed`: whether the quote is not stated."""
    width = rows = used = 0
    reader = dialect.rows(sample)
    try:
        for cells in reader:
            if not is_whole and reader.line_num >= len(sample):
                break  # the sample may end inside this row
            if cells:
                width = width or len(cells)
                is_quoted = is_guessed and dialect.quote != '"' and _looks_quoted(cells, dialect.delimiter)
                if len(cells) != width or is_quoted:
                    return _Trial(dialect, width, rows, is_valid=False)
                rows += 1
            used = reader.line_num
    except csv.Error:
        # a row that the end of the sample cuts is no problem; a quote that swallows half of the sample is
        is_cut = not is_whole and reader.line_num >= len(sample) and used > len(sample) // 2
        return _Trial(dialect, width, rows, is_valid=is_cut)
    return _Trial(dialect, width, rows, is_valid=is_whole or used > len(sample) // 2)


def _looks_quoted(cells: Sequence[str], delimiter: str) -> bool:
    """Whether double quotes, read as a part of the text, are more likely to be quotes around cells: a cell is enclosed
    in them, or they open in one cell and close in a later one or never. In TSV, which often has no quotes around
    cells, a text may begin with a quote that is not closed."""
    if any(len(cell) > 1 and cell.startswith('"') and cell.endswith('"') for cell in cells):
        return True
    odd = [cell for cell in cells if cell.count('"') % 2]
    opening = [at for at, cell in enumerate(odd) if cell.startswith('"')]
    return any(delimiter != "\t" or any(cell.endswith('"') for cell in odd[at + 1 :]) for at in opening)

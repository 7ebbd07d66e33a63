"""Rows of CSV and TSV. Every cell is text, and a blank cell is an empty text.

The reader is Python's `csv` in strict mode: it works line by line with bounded memory and knows its line, which the
readers of polars and pyarrow do not."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from io import BufferedReader
from itertools import chain
from pathlib import Path

from marginalia.schemas.errors import InputError
from marginalia.schemas.sources.csv_dialect import DELIMITERS, Dialect, detect, separator_line
from marginalia.schemas.sources.file_format import MOST_COLUMNS, FileFacts, FileFormat
from marginalia.schemas.sources.text_lines import TextLines, detected_encoding

SAMPLE_CHARACTERS = 1 << 20
QUOTES = "write a quote inside a quoted cell twice; or state quote and escape under files in the mapping"
RAGGED = "quote cells that contain the delimiter; or state delimiter and quote under files in the mapping"


def csv_rows(
    path: Path, file: BufferedReader, how: FileFormat, facts: FileFacts
) -> Iterator[tuple[str, dict[str, str]]]:
    """(`line 12`, row) for each row; the line is the row's first, from 1. Blank lines are left out.

    Writes the dialect and the columns to `facts`. Raises InputError with the line for a row with more or fewer cells
    than the header, a misplaced quote, two columns of the same name, and what TextLines refuses."""
    encoding = how.encoding or detected_encoding(file)
    lines = TextLines(path, file, "utf-8-sig" if encoding == "utf-8" else encoding)
    try:
        start, sample, is_whole, delimiter = _sample(lines)
        if delimiter is not None and how.delimiter is None:
            how = how.model_copy(update={"delimiter": delimiter})
        delimiters = ("\t",) if facts.format == "tsv" else DELIMITERS
        dialect = detect(sample, is_whole=is_whole, how=how, delimiters=delimiters)
        facts.encoding, facts.header = encoding, how.header
        facts.delimiter, facts.quote = dialect.delimiter, dialect.quote
        facts.escape, facts.spaces = dialect.escape, dialect.spaces
        columns = how.columns
        for line, cells in _rows(path, lines, sample, start, dialect):
            if not columns:
                columns = _columns(path, line, cells, how)
            if not facts.columns:
                facts.columns = list(columns)
                if how.header:
                    continue
            if len(cells) != len(columns):
                raise _ragged(path, line, cells, columns, how)
            yield f"line {line}", dict(zip(columns, cells, strict=True))
    finally:
        lines.close()


def _sample(lines: TextLines) -> tuple[int, list[str], bool, str | None]:
    """The number of the table's first line, its first lines, whether these are all, and the delimiter that a line such
    as `sep=;` above the table states."""
    sample: list[str] = []
    size, start = 0, 1
    delimiter = None
    for line in lines:
        lines.begin_row(lines.number + 1)  # where rows begin is not known yet: the limit holds for each line
        if lines.number == 1 and (delimiter := separator_line(line)) is not None:
            start = 2
            continue
        sample.append(line)
        size += len(line)
        if size > SAMPLE_CHARACTERS:
            return start, sample, False, delimiter
    return start, sample, True, delimiter


def _rows(
    path: Path, lines: TextLines, sample: list[str], start: int, dialect: Dialect
) -> Iterator[tuple[int, list[str]]]:
    """(number of its first line, cells) for each row that is not a blank line."""
    reader = dialect.rows(chain(sample, lines))
    first = start
    while True:
        lines.begin_row(first)
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise InputError.at(path, f"not valid CSV: {_problem(error)}", line=first, hint=QUOTES) from None
        if cells is None:
            return
        if cells:
            yield first, cells
        first = start + reader.line_num


def _problem(error: csv.Error) -> str:
    """What is wrong with a row, for the errors of the strict reader."""
    text = str(error)
    return "a quote that opens here is never closed" if text == "unexpected end of data" else text


def _columns(path: Path, line: int, cells: list[str], how: FileFormat) -> list[str]:
    """The names of the columns; one without a name, such as the index that pandas writes, is called `column_1`."""
    if len(cells) > MOST_COLUMNS:
        raise InputError.at(path, f"has {len(cells):,} columns; the limit is {MOST_COLUMNS:,}", line=line, hint=RAGGED)
    numbered = [f"column_{number}" for number in range(1, len(cells) + 1)]
    if not how.header:
        return numbered
    names = [cell.strip() or number for cell, number in zip(cells, numbered, strict=True)]
    if repeated := sorted({f"'{name}'" for name, count in Counter(names).items() if count > 1}):
        problem = f"several columns are named {', '.join(repeated)}"
        hint = "column names must be unique; a file without a header needs files: {header: false}"
        raise InputError.at(path, problem, line=line, hint=hint)
    return names


def _ragged(path: Path, line: int, cells: list[str], columns: list[str], how: FileFormat) -> InputError:
    seen = f"{len(cells):,} {'cell' if len(cells) == 1 else 'cells'}"
    named = "the header has" if how.header else "files.columns names" if how.columns else "the first row has"
    return InputError.at(path, f"has {seen}; {named} {len(columns):,}", line=line, hint=RAGGED)

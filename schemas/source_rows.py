"""Rows of users' files as plain Python values, each with its position: CSV, TSV, JSON, JSONL and Parquet, also
compressed with gzip, zstd or bzip2. Files are read row by row. The caller checks the values."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from marginalia.schemas.errors import InputError
from marginalia.schemas.sources.csv_rows import csv_rows
from marginalia.schemas.sources.file_format import EXPECTED, TABLES, FileFacts, FileFormat, format_of
from marginalia.schemas.sources.json_lists import (
    VALUES,
    find_lists,
    has_rows_as_values,
    list_rows,
    only_list,
    refuse_columns,
)
from marginalia.schemas.sources.json_values import json_value
from marginalia.schemas.sources.jsonl_rows import BYTE_ORDER_MARK, MOST_LINE_BYTES, jsonl_rows
from marginalia.schemas.sources.parquet_rows import parquet_rows
from marginalia.schemas.sources.unpacking import open_unpacked, refuse_other_formats
from marginalia.schemas.storage.regular_files import check_regular

SourceRow = dict[str, Any]
WILDCARDS = "*?["


class SourceFiles:
    """The rows of one or several files, in the order of the files. With several, a position begins with the file.

    `facts`: what was found in each file that has been begun; complete once all rows have been read."""

    def __init__(self, paths: Sequence[Path], how: FileFormat | None = None) -> None:
        self._paths, self._how = paths, how or FileFormat()
        self.facts: list[FileFacts] = []

    @property
    def name(self) -> str:
        """The file, or the folder that all files have in common: what messages name before a position."""
        return str(self._paths[0] if len(self._paths) == 1 else _common_folder(self._paths))

    def __iter__(self) -> Iterator[tuple[str, SourceRow]]:
        self.facts = []
        folder = None if len(self._paths) == 1 else _common_folder(self._paths)
        for path in self._paths:
            prefix = "" if folder is None else f"{os.path.relpath(path, folder)}: "
            for position, row in self._rows(path):
                yield prefix + position, row

    def _rows(self, path: Path) -> Iterator[tuple[str, SourceRow]]:
        if not path.exists():
            raise InputError.at(path, "no such file", hint=EXPECTED)
        if path.is_dir():
            raise InputError.at(path, "is a folder", hint=EXPECTED)
        check_regular(path)
        facts = FileFacts(path, *format_of(path, self._how))
        if problem := self._how.problem_with(facts.format):
            raise InputError.at(path, problem, hint="correct files in the mapping")
        self.facts.append(facts)
        known: set[str] = set()
        for position, row in _rows_of(path, self._how, facts):
            facts.rows += 1
            if not row.keys() <= known:
                facts.add_columns(row)
                known = set(facts.columns)
            yield position, row


def read_rows(path: Path, how: FileFormat | None = None) -> Iterator[tuple[str, SourceRow]]:
    """(position, row) for each row of a file; position is `line 12` (from 1), `item 12 (line 40)` in a JSON list or
    `row 12` in Parquet (from 0). `how` states what should not be detected.

    Raises InputError for a file or a row that cannot be read."""
    return iter(SourceFiles([path], how))


def files_of(source: str, folder: Path) -> list[Path]:
    """The files that a path or a pattern such as `parts/*.csv` names, sorted; relative ones are inside `folder`. If no
    file fits, the pattern itself."""
    path = Path(source)
    if (folder / path).exists() or not is_pattern(source):
        return [folder / path]
    root = Path(path.anchor) if path.is_absolute() else folder
    files = sorted(file for file in root.glob(str(path.relative_to(path.anchor))) if file.is_file())
    return files or [folder / path]


def is_pattern(source: str) -> bool:
    """Whether a path has characters of a pattern; a file may have them in its name, too."""
    return any(character in source for character in WILDCARDS)


def _rows_of(path: Path, how: FileFormat, facts: FileFacts) -> Iterator[tuple[str, SourceRow]]:
    if facts.format == "parquet":
        yield from parquet_rows(path, facts.codec)
        return
    if facts.format == "json" and (records := _list_key(path, how, facts)) is not None:
        facts.records = records
        with open_unpacked(path, facts.codec) as file:
            yield from list_rows(path, file, records)
        return
    with open_unpacked(path, facts.codec) as file:
        refuse_other_formats(path, file)
        if facts.format in TABLES:
            yield from csv_rows(path, file, how, facts)
        else:
            facts.format = "jsonl"  # also a file .json with one object per line
            yield from jsonl_rows(path, file)


def _list_key(path: Path, how: FileFormat, facts: FileFacts) -> str | None:
    """The key of the list of rows in a JSON file, empty if the file is a list; None: it is JSONL.

    A file .json is JSONL if its first line is an object, and it has further lines or no list of objects."""
    if how.records is not None:
        return how.records
    with open_unpacked(path, facts.codec) as file:
        refuse_other_formats(path, file)
        if file.peek().removeprefix(BYTE_ORDER_MARK).lstrip().startswith(b"["):
            return ""
        lines = (line for line in iter(partial(file.readline, MOST_LINE_BYTES), b"") if line.strip())
        first = next(lines, b"").removeprefix(BYTE_ORDER_MARK)
        if first.lstrip().startswith(b"["):
            return ""
        value = _json(first)
        is_object = isinstance(value, dict)
        if is_object and any(lines):
            return None
    with open_unpacked(path, facts.codec) as file:
        found = find_lists(path, file) if first else []
    if first and len(found) != 1:
        with open_unpacked(path, facts.codec) as file:
            if has_rows_as_values(path, file):
                return VALUES
    if is_object and not found:
        refuse_columns(path, value)
        return None
    return only_list(path, found)


def _json(line: bytes) -> Any:
    """The value in a line; None if it is not JSON."""
    try:
        return json_value(line.decode("utf-8"))
    except (ValueError, RecursionError):  # a UnicodeDecodeError is a ValueError
        return None


def _common_folder(paths: Sequence[Path]) -> Path:
    return Path(os.path.commonpath([path.parent for path in paths]))

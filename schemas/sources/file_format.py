"""The format of a file of rows: what the user states, what its name says, and what was found in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from marginalia.schemas.base_model import StrictModel
from marginalia.schemas.errors import InputError
from marginalia.schemas.text_checks import one_line

Format = Literal["csv", "tsv", "json", "jsonl", "parquet"]
Encoding = Literal["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252", "cp1250", "cp1251", "latin-1"]
FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
CODECS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
EXPECTED = "expected .csv, .tsv, .json, .jsonl or .parquet, also with .gz, .zst or .bz2"
SPREADSHEETS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")
MOST_COLUMNS = 10_000
TABLES = ("csv", "tsv")
_NAMES = {",": "','", ";": "';'", "\t": "tab", "|": "'|'"}


class FileFormat(StrictModel):
    """How a file is written. What is left out is detected."""

    format: Format | None = Field(default=None, description="left out: by the file's name")
    delimiter: str | None = Field(
        default=None, min_length=1, max_length=1, description="CSV and TSV: the character between columns"
    )
    quote: str | None = Field(
        default=None, max_length=1, description="CSV and TSV: the character around cells; '': cells are not quoted"
    )
    escape: str | None = Field(
        default=None, max_length=1, description="CSV and TSV: the character before a quote inside a cell; '': none"
    )
    encoding: Encoding | None = Field(default=None, description="CSV and TSV; left out: UTF-8, or UTF-16 with a mark")
    header: bool = Field(default=True, description="CSV and TSV: whether the first row has the names of the columns")
    columns: list[str] = Field(default=[], description="the names of the columns, with header: false")
    records: str | None = Field(
        default=None,
        description="JSON: the key of the list of rows, such as data.items; *: the values of the object are the rows, "
        "and their keys the column (key); left out: the only list",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.columns and self.header:
            raise ValueError("columns needs header: false")
        if len(set(self.columns)) < len(self.columns):
            raise ValueError("columns has a name twice")
        marks = [mark for mark in (self.delimiter, self.quote, self.escape) if mark]
        if len(set(marks)) < len(marks) or {"\r", "\n", "\0"} & set(marks):
            raise ValueError("delimiter, quote and escape must be different characters and not line ends")
        if self.format is not None and (problem := self.problem_with(self.format)):
            raise ValueError(problem)
        return self

    def problem_with(self, file_format: Format) -> str | None:
        """Which of the keys says nothing about a file of this format; None if all do."""
        stated = self.model_fields_set - {"format"}
        if file_format not in TABLES and (further := sorted(stated - {"records"})):
            return f"{further[0]} needs the format csv or tsv; the format is {file_format}"
        if file_format != "json" and self.records is not None:
            return f"records needs the format json; the format is {file_format}"
        return None


@dataclass
class FileFacts:
    """What was found in a file. `columns` and `rows` are complete once all rows have been read.

    `codec`: gzip, zstd, bz2, or None. `delimiter`, `quote`, `escape`, `spaces` (after delimiters) and `encoding` are
    those of CSV and TSV. `records`: the key of the list of rows in a JSON object."""

    path: Path
    format: Format
    codec: str | None = None
    encoding: str = "utf-8"
    delimiter: str | None = None
    quote: str | None = None
    escape: str | None = None
    spaces: bool = False
    header: bool = True
    records: str | None = None
    columns: list[str] = field(default_factory=list)
    rows: int = 0

    @property
    def is_guessed(self) -> bool:
        """Whether the reading depends on more than the file's name."""
        return self.format in TABLES or self.records is not None

    def add_columns(self, names: Iterable[str]) -> None:
        """Notes further columns, as rows of JSON have them. Raises InputError for more than MOST_COLUMNS."""
        known = set(self.columns)
        self.columns += [name for name in names if name not in known]
        if len(self.columns) > MOST_COLUMNS:
            raise InputError.at(
                self.path, f"has more than {MOST_COLUMNS:,} columns", hint="expected one row per record"
            )

    def __str__(self) -> str:
        """`data.csv: CSV, ';' between columns, UTF-8, 1,680 rows, columns id, text, label`."""
        parts = [self.format.upper() + (f" ({self.codec})" if self.codec else "")]
        if self.records is not None:
            rows = {"": "a list of rows", "*": "each value is a row"}
            parts.append(rows.get(self.records, f"rows in {self.records}"))
        if self.format in TABLES:
            parts += self._dialect()
        parts.append(f"{self.rows:,} {'row' if self.rows == 1 else 'rows'}")
        shown = ", ".join(self.columns[:12]) + (f" and {len(self.columns) - 12} more" if len(self.columns) > 12 else "")
        parts.append(f"{'column' if len(self.columns) == 1 else 'columns'} {shown}")
        return one_line(f"{self.path.name}: {', '.join(parts)}")

    def _dialect(self) -> list[str]:
        parts = []
        if self.delimiter is not None and len(self.columns) > 1:
            spaces = " and spaces" if self.spaces else ""
            parts.append(f"{_NAMES.get(self.delimiter, repr(self.delimiter))}{spaces} between columns")
        if self.quote != '"':
            parts.append(f"cells quoted with {self.quote}" if self.quote else "cells not quoted")
        if self.escape:
            parts.append(f"quotes in cells escaped with {self.escape}")
        if not self.header:
            parts.append("no header")
        return [*parts, self.encoding.upper().removesuffix("-SIG")]


def name_without_format(path: Path) -> str:
    """`anna` for anna.csv and anna.jsonl.gz."""
    stem = path.stem if path.suffix.lower() in CODECS else path.name
    suffix = Path(stem).suffix
    return stem.removesuffix(suffix) if suffix.lower() in FORMATS else stem


def format_of(path: Path, how: FileFormat) -> tuple[Format, str | None]:
    """The format of a file and its compression. Raises InputError if the name says neither and `how` does not."""
    codec = CODECS.get(path.suffix.lower())
    suffix = Path(path.stem if codec else path.name).suffix.lower()
    if how.format is not None:
        return how.format, codec
    if suffix in FORMATS:
        return FORMATS[suffix], codec
    if suffix in SPREADSHEETS:
        raise InputError.at(path, "is a spreadsheet", hint="save its sheet as CSV UTF-8, and import that")
    raise InputError.at(path, f"unknown format '{path.suffix}'", hint=EXPECTED)

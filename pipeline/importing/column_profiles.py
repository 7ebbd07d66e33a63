"""What the columns of a file contain: how much of each is filled, with which values, and of which form."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from marginalia.pipeline.importing.row_paths import read_json
from marginalia.schemas.label_cells import is_blank, listed

MOST_ROWS = 50_000  # that are looked at
MOST_VALUES = 300  # different ones that are counted per column
MOST_PATHS = 1_000
MOST_DISTINCT = 2_000_000  # hashes of values, in all columns together
MOST_DEPTH = 4
SHOWN_CHARACTERS = 200  # of a text that is kept as an example


@dataclass
class ColumnProfile:
    """One path of the rows. `filled`: rows with a cell that is not blank; `cells`: values, several per row in a list.

    `forms`: how often a cell was text, a number, true or false, a list or an object, also as JSON in text.
    `values`: how often each short value occurred, until there are MOST_VALUES; `is_open`: there are more. `distinct`:
    hashes of the values, of all if `are_all_compared`. `characters`: of all texts."""

    path: str
    filled: int = 0
    cells: int = 0
    forms: Counter[str] = field(default_factory=Counter)
    values: Counter[str] = field(default_factory=Counter)
    is_open: bool = False
    distinct: set[int] = field(default_factory=set)
    are_all_compared: bool = True
    characters: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def form(self) -> str:
        """The most common form."""
        return self.forms.most_common(1)[0][0] if self.forms else "blank"

    @property
    def mean_characters(self) -> float:
        """Characters per cell."""
        return self.characters / self.cells if self.cells else 0.0

    def add(self, cell: Any, *, is_compared: bool) -> None:
        """Counts a cell that is not blank and has no cells inside. `is_compared`: also in `distinct`."""
        text = str(cell).lower() if isinstance(cell, bool) else str(cell).strip()
        if isinstance(cell, float) and cell.is_integer():
            text = str(int(cell))
        self.cells += 1
        self.characters += len(text)
        if is_compared:
            self.distinct.add(hash(text))
        self.are_all_compared &= is_compared
        shown = text[:SHOWN_CHARACTERS]
        if shown in self.values or (len(self.values) < MOST_VALUES and len(text) <= SHOWN_CHARACTERS):
            self.values[shown] += 1
        else:
            self.is_open = True
        if len(self.examples) < 3 and shown not in self.examples:
            self.examples.append(shown)


@dataclass
class Profiles:
    """The profiles by path, in the order of the rows. `rows`: rows that were looked at; `is_all`: there were no
    more."""

    rows: int = 0
    is_all: bool = True
    columns: dict[str, ColumnProfile] = field(default_factory=dict)

    def name_classes(self, names: Mapping[str, Sequence[str]]) -> None:
        """Replaces the numbers of classes by their names. `names`: path without brackets → the names."""
        for path, column in self.columns.items():
            known = names.get(re.sub(r"\[\*\]", "", path))
            if known is not None:
                column.values = Counter(
                    {known[int(value)]: count for value, count in column.values.items() if _is_class(value, known)}
                )
                column.examples = list(column.values)[:3]

    def under(self, path: str) -> list[ColumnProfile]:
        """The profiles of the cells inside an object or list."""
        return [column for name, column in self.columns.items() if name.startswith((f"{path}.", f"{path}["))]


def profiles_of(rows: Iterable[tuple[str, dict[str, Any]]]) -> Profiles:
    """The profiles of the first MOST_ROWS rows. A cell inside an object has the path `a.b`, one inside the items of a
    list `a[*].b`, which is what a mapping calls it."""
    profiles, room = Profiles(), MOST_DISTINCT
    for _, row in rows:
        if profiles.rows == MOST_ROWS:
            profiles.is_all = False
            break
        profiles.rows += 1
        touched: set[str] = set()
        for path, cell, form in _cells(row, "", 0):
            if path not in profiles.columns:
                if len(profiles.columns) == MOST_PATHS:
                    continue
                profiles.columns[path] = ColumnProfile(path)
            column = profiles.columns[path]
            if form == "blank":
                continue
            column.forms[form] += 1
            column.filled += path not in touched
            touched.add(path)
            if form not in ("list", "object"):
                before = len(column.distinct)
                column.add(cell, is_compared=room > 0)
                room -= len(column.distinct) - before
    return profiles


def _is_class(value: str, names: Sequence[str]) -> bool:
    return value.isdecimal() and int(value) < len(names)


def _cells(value: dict[str, Any], parent: str, depth: int) -> Iterator[tuple[str, Any, str]]:
    """(path, cell, form) of every cell in an object, and of the cells inside them."""
    for name, cell in value.items():
        yield from _cell(f"{parent}.{name}" if parent else name, cell, depth)


def _cell(path: str, cell: Any, depth: int) -> Iterator[tuple[str, Any, str]]:
    if isinstance(cell, str):
        cell = listed(cell) or read_json(cell) or ([] if cell.strip() == "[]" else cell)
    if is_blank(cell):
        yield path, cell, "blank"
    elif isinstance(cell, dict):
        yield path, cell, "object"
        if depth < MOST_DEPTH:
            yield from _cells(cell, path, depth + 1)
    elif isinstance(cell, list):
        yield path, cell, "list"
        for item in cell if depth < MOST_DEPTH else []:
            if isinstance(item, dict):
                yield from _cells(item, f"{path}[*]", depth + 1)
            elif not isinstance(item, list):
                yield from _cell(f"{path}[*]", item, depth + 1)
    else:
        form = "bool" if isinstance(cell, bool) else "number" if isinstance(cell, int | float) else "text"
        yield path, cell, form

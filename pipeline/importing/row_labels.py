"""The labels of one row of somebody's data set, by the mapping's `labels`.

A record without labels is either one that nobody labelled (null) or one to which no category applies (an empty list),
and a blank cell must never be taken for the second."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from marginalia.pipeline.importing.column_mapping import LabelColumn
from marginalia.schemas.errors import InputError, did_you_mean
from marginalia.schemas.label_cells import is_blank, listed
from marginalia.schemas.messages import refuse_binary
from marginalia.schemas.taxonomy import Taxonomy

NONE = "none"
FORM = "labels.form of the mapping: list, text with a separator, or flags"
FLAG = "a number between is no label: decide from which one on the label applies"
FLAGS = {"1": True, "true": True, "0": False, "false": False}


@dataclass(frozen=True)
class RowLabels:
    """`labels` in taxonomy order; null: nobody has labelled the record. `only_ignored`: it names nothing but values
    that this taxonomy has no label for. `partly`: some of its columns or flags are blank."""

    labels: list[str] | None
    ignored: list[str] = field(default_factory=list)
    only_ignored: bool = False
    partly: bool = False


@dataclass(frozen=True)
class _Named:
    """What a row names: label values as they are written. `some_applies`: the flag of "no category" is false."""

    values: list[str]
    some_applies: bool = False
    partly: bool = False


UNLABELLED = RowLabels(None)


def labels_of(column: LabelColumn, row: dict[str, Any], where: str, taxonomy: Taxonomy) -> RowLabels:
    """Raises InputError, with `where` in front, for a cell of another form, an unknown value and a contradiction."""
    named = _named(column, row, where, taxonomy)
    if named is None:
        return UNLABELLED if column.blank == "unlabelled" else RowLabels([])
    if named.partly and column.blank == "unlabelled":
        return RowLabels(None, partly=True)
    values = named.values
    found: set[str] = set()
    none_applies = False
    ignored = [value for value in values if value in column.ignore]
    for value in values:
        if value in column.ignore:
            continue
        # an id that no taxonomy has; beside others it is a contradiction, and more than an unknown word
        beside = value == NONE and not column.meanings and len(set(values)) > 1
        ids = [] if beside else _ids(column, value, where, taxonomy)
        found.update(ids)
        none_applies = none_applies or not ids
    if none_applies and (found or ignored):
        problem = f"{column.name} says that no category applies and names one: {', '.join(values)}"
        raise InputError(f"{where}: {problem}", hint="mend the row: either no category applies, or these do")
    if not values and named.some_applies:
        return UNLABELLED  # of a category that it does not name
    labels = [label for label in taxonomy.ids if label in found]
    return RowLabels(labels, ignored, only_ignored=bool(ignored) and not found)


def _named(column: LabelColumn, row: dict[str, Any], where: str, taxonomy: Taxonomy) -> _Named | None:
    """What the row names; None where it is blank."""
    if column.column is None:
        return _flagged(column, {name: row[name] for name in column.read_from}, where)
    cell = row[column.column]
    where = f"{where}: '{column.column}'"
    if is_blank(cell):
        return None
    if column.form == "flags" and isinstance(cell, dict):
        return _flagged(column, cell, where)
    known = {*(column.values or taxonomy.ids), *column.ignore}
    if column.form == "text" and isinstance(cell, str) and (listed(cell) is None or cell.strip() in known):
        values = _split(cell, column.separator, known, where)
        return _Named(values) if values else None
    if column.form != "flags" and (items := listed(cell)) is not None:
        for item in items:
            refuse_binary(item, "a label", where)
        values = [str(item).strip() for item in items if not is_blank(item)]
        return _Named(values) if values or not items else None
    raise InputError(f"{where} is {str(cell)[:80]!r}, the mapping's form is {column.form}", hint=FORM)


def _flagged(column: LabelColumn, cells: dict[str, Any], where: str) -> _Named | None:
    flags = {name: _flag(name, cell, where) for name, cell in cells.items()}
    if all(flag is None for flag in flags.values()):
        return None
    no_category = [name for name, ids in column.meanings.items() if not ids]
    some_applies = any(flags.get(name) is False for name in no_category)
    return _Named([name for name, flag in flags.items() if flag], some_applies, partly=None in flags.values())


def _flag(name: str, cell: Any, where: str) -> bool | None:
    """None where the cell is blank."""
    if is_blank(cell):
        return None
    if isinstance(cell, bool | int | float) and cell in (0, 1):
        return bool(cell)
    if isinstance(cell, str) and cell.strip().lower() in FLAGS:
        return FLAGS[cell.strip().lower()]
    raise InputError(f"{where}: '{name}' is {str(cell)[:80]!r}, expected 0 or 1, or false or true", hint=FLAG)


def _split(text: str, separator: str | None, known: Collection[str], where: str) -> list[str]:
    """The values in a text. A separator inside a known value does not end it."""
    if separator is None:
        return [text.strip()]
    pieces = [piece.strip() for piece in text.split(separator)]
    joined = {tuple(part.strip() for part in value.split(separator)): value for value in known if separator in value}
    if not joined:
        return [piece for piece in pieces if piece]
    # for the pieces before each place: in how many ways they can be read, and in one of these the last value's start
    ways, starts = [1], [0]
    for end in range(1, len(pieces) + 1):
        lengths = {1, *(len(parts) for parts in joined if tuple(pieces[max(0, end - len(parts)) : end]) == parts)}
        readable = [
            end - n for n in lengths if ways[end - n] and (n > 1 or not pieces[end - 1] or pieces[end - 1] in known)
        ]
        ways.append(min(2, sum(ways[start] for start in readable)))
        starts.append(min(readable, default=0))
    if ways[-1] > 1:
        hint = "give labels.separator another character"
        raise InputError(f"{where}: {text[:80]!r} can be read in more than one way", hint=hint)
    if not ways[-1]:
        parts = {part for value in joined for part in value}
        return [piece for piece in pieces if piece not in known and piece not in parts] or [text.strip()]  # unknown
    values: list[str] = []
    end = len(pieces)
    while end:
        part = tuple(pieces[starts[end] : end])
        values.append(joined[part] if len(part) > 1 else part[0])
        end = starts[end]
    return [value for value in reversed(values) if value]


def _ids(column: LabelColumn, value: str, where: str, taxonomy: Taxonomy) -> list[str]:
    if not column.meanings:
        hint = "other values than the taxonomy's ids are read by labels.values of a mapping"
        return [taxonomy.require(value, f"{where}: {column.name}", hint=hint)]
    if value not in column.meanings:
        near = did_you_mean(value, [*column.meanings, *column.ignore])
        raise InputError(
            f"{where}: {column.name}: unknown label value '{value}'{near}",
            hint="add it to labels.values or labels.ignore of the mapping",
        )
    ids = column.meanings[value]
    return [ids] if isinstance(ids, str) else list(ids or [])

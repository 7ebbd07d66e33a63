"""The labels of one row, by the mapping's `labels`.

A record without labels is either one that nobody labelled (null) or one to which no category applies (an empty list). A
blank cell means the first, unless the mapping says otherwise."""

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
FLAG = "a number between 0 and 1 is not a label: decide from which value on the label applies"
FLAGS = {"1": True, "true": True, "0": False, "false": False}


@dataclass(frozen=True)
class RowLabels:
    """`labels` in taxonomy order; None: nobody has labelled the record. `ignored`: the values in the mapping's
    `ignore`; `only_ignored`: there are no others. `partly`: some of the columns or flags are blank."""

    labels: list[str] | None
    ignored: list[str] = field(default_factory=list)
    only_ignored: bool = False
    partly: bool = False


@dataclass(frozen=True)
class _RawLabels:
    """The label values of a row as they are written. `some_applies`: the flag of "no category applies" is false.
    `partly`: some flags are blank."""

    values: list[str]
    some_applies: bool = False
    partly: bool = False


UNLABELLED = RowLabels(None)


def labels_of(column: LabelColumn, row: dict[str, Any], where: str, taxonomy: Taxonomy) -> RowLabels:
    """The labels of `row`. Raises InputError, which begins with `where`, for a cell in another form, an unknown value
    or a contradiction."""
    raw = _raw_labels(column, row, where, taxonomy)
    if raw is None:
        return UNLABELLED if column.blank == "unlabelled" else RowLabels([])
    if raw.partly and column.blank == "unlabelled":
        return RowLabels(None, partly=True)
    values = raw.values
    label_ids: set[str] = set()
    none_applies = False
    ignored = [value for value in values if value in column.ignore]
    for value in values:
        if value in column.ignore:
            continue
        # "none" is never a label id; together with labels it is a contradiction rather than an unknown label
        none_and_labels = value == NONE and not column.meanings and len(set(values)) > 1
        ids = [] if none_and_labels else _ids(column, value, where, taxonomy)
        label_ids.update(ids)
        none_applies = none_applies or not ids
    if none_applies and (label_ids or ignored):
        problem = f"{column.name} says that no category applies, but also names one: {', '.join(values)}"
        raise InputError(f"{where}: {problem}", hint="fix the row: either no category applies, or these do")
    if not values and raw.some_applies:
        return UNLABELLED  # some category applies, but not one of the mapping's
    labels = [label for label in taxonomy.ids if label in label_ids]
    return RowLabels(labels, ignored, only_ignored=bool(ignored) and not label_ids)


def _raw_labels(column: LabelColumn, row: dict[str, Any], where: str, taxonomy: Taxonomy) -> _RawLabels | None:
    """The label values in the row; None where it is blank."""
    if column.column is None:
        return _flagged(column, {name: row[name] for name in column.label_columns}, where)
    cell = row[column.column]
    where = f"{where}: '{column.column}'"
    if is_blank(cell):
        return None
    if column.form == "flags" and isinstance(cell, dict):
        return _flagged(column, cell, where)
    known = {*(column.values or taxonomy.ids), *column.ignore}
    if column.form == "text" and isinstance(cell, str) and (listed(cell) is None or cell.strip() in known):
        values = _split(cell, column.separator, known, where)
        return _RawLabels(values) if values else None
    if column.form != "flags" and (items := listed(cell)) is not None:
        for item in items:
            refuse_binary(item, "a label", where)
        values = [str(item).strip() for item in items if not is_blank(item)]
        return _RawLabels(values) if values or not items else None
    raise InputError(f"{where} is {str(cell)[:80]!r}, expected the form {column.form} of the mapping", hint=FORM)


def _flagged(column: LabelColumn, cells: dict[str, Any], where: str) -> _RawLabels | None:
    flags = {name: _flag(name, cell, where) for name, cell in cells.items()}
    if all(flag is None for flag in flags.values()):
        return None
    no_category = [name for name, ids in column.meanings.items() if not ids]
    some_applies = any(flags.get(name) is False for name in no_category)
    return _RawLabels([name for name, flag in flags.items() if flag], some_applies, partly=None in flags.values())


def _flag(name: str, cell: Any, where: str) -> bool | None:
    """The cell as a flag; None where it is blank."""
    if is_blank(cell):
        return None
    if isinstance(cell, bool | int | float) and cell in (0, 1):
        return bool(cell)
    if isinstance(cell, str) and cell.strip().lower() in FLAGS:
        return FLAGS[cell.strip().lower()]
    raise InputError(f"{where}: '{name}' is {str(cell)[:80]!r}, expected 0 or 1, or false or true", hint=FLAG)


def _split(text: str, separator: str | None, known: Collection[str], where: str) -> list[str]:
    """The label values in a text. A separator that is part of a known value does not split it.

    Raises InputError when the text can be split into known values in more than one way."""
    if separator is None:
        return [text.strip()]
    pieces = [piece.strip() for piece in text.split(separator)]
    by_pieces = {tuple(part.strip() for part in value.split(separator)): value for value in known if separator in value}
    if not by_pieces:
        return [piece for piece in pieces if piece]
    # ways[end]: in how many ways (0, 1, or 2 for more) the first `end` pieces can be read; starts[end]: where the last
    # value begins in one of them
    ways, starts = [1], [0]
    for end in range(1, len(pieces) + 1):
        lengths = {1, *(len(parts) for parts in by_pieces if tuple(pieces[max(0, end - len(parts)) : end]) == parts)}
        readable = [
            end - n for n in lengths if ways[end - n] and (n > 1 or not pieces[end - 1] or pieces[end - 1] in known)
        ]
        ways.append(min(2, sum(ways[start] for start in readable)))
        starts.append(min(readable, default=0))
    if ways[-1] > 1:
        hint = "use a labels.separator that is not part of a value"
        raise InputError(f"{where}: {text[:80]!r} can be read in more than one way", hint=hint)
    if not ways[-1]:
        parts = {part for value in by_pieces for part in value}
        # unknown values, which the caller refuses
        return [piece for piece in pieces if piece not in known and piece not in parts] or [text.strip()]
    values: list[str] = []
    end = len(pieces)
    while end:
        part = tuple(pieces[starts[end] : end])
        values.append(by_pieces[part] if len(part) > 1 else part[0])
        end = starts[end]
    return [value for value in reversed(values) if value]


def _ids(column: LabelColumn, value: str, where: str, taxonomy: Taxonomy) -> list[str]:
    if not column.meanings:
        hint = "map values that are not ids of the taxonomy with labels.values of a mapping"
        return [taxonomy.require(value, f"{where}: {column.name}", hint=hint)]
    if value not in column.meanings:
        near = did_you_mean(value, [*column.meanings, *column.ignore])
        raise InputError(
            f"{where}: {column.name}: unknown label value '{value}'{near}",
            hint="add it to labels.values or labels.ignore of the mapping",
        )
    ids = column.meanings[value]
    return [ids] if isinstance(ids, str) else list(ids or [])

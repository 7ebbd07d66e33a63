"""The labels of one row, and which labels were judged in it, by the mapping's `labels`.

A record without labels is either one that nobody labelled (null) or one to which none of the judged labels applies (an
empty list). A blank cell means the first, unless the mapping says otherwise. Of several cells, a blank one means that
its labels were not judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from marginalia.pipeline.importing.column_mapping import JudgedColumn, LabelColumn
from marginalia.pipeline.importing.flag_cells import flag_of
from marginalia.pipeline.importing.row_paths import read_json
from marginalia.pipeline.importing.separated_values import split_values
from marginalia.schemas.errors import InputError, did_you_mean
from marginalia.schemas.label_cells import is_blank, listed
from marginalia.schemas.messages import refuse_binary
from marginalia.schemas.taxonomy import Taxonomy

NONE = "none"
FORM = "labels.form of the mapping: list, text with a separator, or flags"
JUDGED = "labels.judged of the mapping, or the row's column of judged labels, must list every judged label"
UNLABELLED_CLASS = -1  # what `datasets` writes for an example without a class


@dataclass(frozen=True)
class RowLabels:
    """`labels` in taxonomy order; None: nobody has labelled the record. `judged`: the labels that were judged, in
    taxonomy order; None: all, or no label at all. `ignored`: the values in the mapping's `ignore`; `only_ignored`:
    there are no others. `partly`: some labels were not judged in this row, as opposed to in the whole source."""

    labels: list[str] | None
    judged: list[str] | None = None
    ignored: list[str] = field(default_factory=list)
    only_ignored: bool = False
    partly: bool = False


@dataclass(frozen=True)
class _RawLabels:
    """The label values of a row as they are written. `blank`: names of the columns or flags that are not filled.
    `some_applies`: the flag of "no category applies" is false."""

    values: list[str]
    blank: list[str] = field(default_factory=list)
    some_applies: bool = False


UNLABELLED = RowLabels(None)


def labels_of(column: LabelColumn, cells: Mapping[str, Any], where: str, taxonomy: Taxonomy) -> RowLabels:
    """The labels of a row, from its cells by path. Raises InputError, which begins with `where`, for a cell in another
    form, an unknown value or a contradiction."""
    raw = _raw_labels(column, cells, where, taxonomy)
    if raw is None:
        if column.blank == "unlabelled":
            return UNLABELLED
        raw = _RawLabels([])
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
    if ignored and not label_ids:
        return RowLabels([], ignored=ignored, only_ignored=True)
    if not values and raw.some_applies:
        return UNLABELLED  # some category applies, but not one of the mapping's
    asked = _judged_in_row(column, cells, where, taxonomy)
    if outside := sorted(label_ids - {*asked}):
        raise InputError(f"{where}: has the label '{outside[0]}', which its judged labels leave out", hint=JUDGED)
    # who says that no category applies has judged all of them
    open_labels = set() if none_applies else {label for name in raw.blank for label in _meant(column, name)} - label_ids
    judged = [label for label in asked if label not in open_labels]
    partly = len(judged) < len(column.judged_in(taxonomy.ids))
    if not judged:
        return UNLABELLED
    if partly and column.kind == "intended":  # an empty list would say that the writer was asked for no category
        return RowLabels(None, partly=True)
    return RowLabels(
        labels=[label for label in taxonomy.ids if label in label_ids],
        judged=None if judged == taxonomy.ids else judged,
        ignored=ignored,
        partly=partly,
    )


def _judged_in_row(column: LabelColumn, cells: Mapping[str, Any], where: str, taxonomy: Taxonomy) -> list[str]:
    """The labels that the row says something about, apart from blank cells, in taxonomy order."""
    cell = cells[column.judged.column] if isinstance(column.judged, JudgedColumn) else None
    if not isinstance(column.judged, JudgedColumn) or is_blank(cell):
        return column.judged_in(taxonomy.ids)
    where = f"{where}: '{column.judged.column}'"
    names = listed(cell)
    if names is None or not all(isinstance(name, str) for name in names):
        raise InputError(f"{where} is {str(cell)[:80]!r}, expected a list of label ids, or null", hint=JUDGED)
    judged = {taxonomy.require(name, where, hint=JUDGED) for name in names}
    return [label for label in taxonomy.ids if label in judged]


def _raw_labels(column: LabelColumn, cells: Mapping[str, Any], where: str, taxonomy: Taxonomy) -> _RawLabels | None:
    """The label values in the row; None where it is blank."""
    if column.column is None:
        return _flagged(column, {name: cells[name] for name in (*column.columns, *column.ignore)}, where)
    cell = _named_classes(column, cells[column.column], where)
    if is_blank(cell):
        return None
    where = f"{where}: '{column.column}'"
    if column.form == "flags":
        flags = read_json(cell) if isinstance(cell, str) else cell
        if isinstance(flags, dict):
            return _flagged(column, dict.fromkeys(column.values or taxonomy.ids) | flags, where)
    if column.form == "text":
        cell = _as_text(cell)
        known = {*(column.values or taxonomy.ids), *column.ignore}
        if isinstance(cell, str) and (listed(cell) is None or cell.strip() in known):
            values = split_values(cell, column.separator, known, where)
            return _RawLabels(values) if values else None
    if column.form == "list" and column.classes and isinstance(cell, str) and listed(cell) is None:
        return _RawLabels([cell.strip()])  # one class per record
    if column.form != "flags" and (items := listed(cell)) is not None:
        return _listed(column, items, where)
    raise InputError(f"{where} is {str(cell)[:80]!r}, expected the form {column.form} of the mapping", hint=FORM)


def _listed(column: LabelColumn, items: list[Any], where: str) -> _RawLabels | None:
    for item in items:
        refuse_binary(item, "a label", where)
        if isinstance(item, dict):
            problem = f"{where}: an item is an object with the keys {', '.join(map(str, item))}"
            raise InputError(problem, hint=f"name one of them in labels.column of the mapping: {column.column}[*].KEY")
    values = [str(item).strip() for item in items if not is_blank(item)]
    return _RawLabels(values) if values or not items else None


def _flagged(column: LabelColumn, cells: Mapping[str, Any], where: str) -> _RawLabels | None:
    flags = {name: flag_of(column, name, cell, where) for name, cell in cells.items()}
    if all(flag is None for flag in flags.values()):
        return None
    no_category = [name for name, ids in column.meanings.items() if not ids]
    return _RawLabels(
        values=[name for name, flag in flags.items() if flag],
        blank=[name for name, flag in flags.items() if flag is None and column.blank == "unlabelled"],
        some_applies=any(flags.get(name) is False for name in no_category),
    )


def _named_classes(column: LabelColumn, cell: Any, where: str) -> Any:
    """The cell with the names of its classes instead of their numbers."""
    if not column.classes:
        return cell
    if isinstance(items := listed(cell), list):
        return [_named_class(column, item, where) for item in items]
    return _named_class(column, cell, where)


def _named_class(column: LabelColumn, cell: Any, where: str) -> Any:
    number = cell.strip() if isinstance(cell, str) else cell
    if isinstance(number, bool) or not isinstance(number, int | float | str):
        return cell
    try:
        at = int(number) if int(number) == float(number) else None
    except (ValueError, OverflowError):  # a name, which stays
        return cell
    if at == UNLABELLED_CLASS:
        return None
    if at is None or not 0 <= at < len(column.classes):
        problem = f"{column.name} is {cell}, expected a class from 0 to {len(column.classes) - 1}"
        raise InputError(f"{where}: {problem}", hint="labels.classes of the mapping names the classes")
    return column.classes[at]


def _as_text(cell: Any) -> Any:
    """A number, true or false as text; other cells unchanged."""
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return str(cell) if isinstance(cell, int | float) else cell


def _meant(column: LabelColumn, name: str) -> list[str]:
    """The ids that a blank column or flag would have judged."""
    if column.meanings:
        return column.ids_of(name) if name in column.meanings else []
    return [name]


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
    return column.ids_of(value)

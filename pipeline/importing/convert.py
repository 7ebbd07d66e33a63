"""Rows of somebody's data set → records of ours, by a mapping. Nothing is dropped without being counted."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pipeline.importing.mapping import LabelColumn, Mapping
from schemas.errors import InputError, did_you_mean
from schemas.records import messages_of
from schemas.taxonomy import Taxonomy
from schemas.text import check_text

NONE = "none"
NO_ID = "mend the row, or leave id out of the mapping: then ids are made from the texts"
FORM = "labels.form of the mapping: list, text with a separator, or flags"


@dataclass(frozen=True)
class Imported:
    """One record. `labels` is null when the source has none for it; empty when it says that none applies."""

    id: str
    messages: list[dict[str, str]]
    labels: list[str] | None
    attributes: list[dict[str, str]]


@dataclass
class Conversion:
    """The records in the order of the source. `counts`: rows, records, and what happened to the others (skipped,
    unusable, duplicates, conflicting_duplicates, only_ignored_values) or to their texts and labels (stripped,
    ignored_values, unlabelled). `ignored`: how often each ignored value stood there."""

    records: list[Imported] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)


def convert(
    rows: Iterable[tuple[str, dict[str, Any]]], mapping: Mapping, taxonomy: Taxonomy, source: str
) -> Conversion:
    """`rows` are (place, row) pairs, where place reads `line 12`. Raises InputError with `source` and the place."""
    result = Conversion()
    seen: dict[str, tuple[str, Imported]] = {}
    for place, row in rows:
        where = f"{source}: {place}"
        result.counts["rows"] += 1
        _require_columns(mapping, row, where)
        if any(str(row[column]) in values for column, values in mapping.skip.items()):
            result.counts["skipped"] += 1
            continue
        try:
            messages = _messages(mapping, row, where, result.counts)
        except InputError as error:
            if mapping.unusable == "refuse":
                raise InputError(error.message, hint="mend the row, or set unusable: skip in the mapping") from error
            result.counts["unusable"] += 1
            continue
        labels, usable = _labels(mapping.labels, row, where, taxonomy, result)
        if not usable:
            result.counts["only_ignored_values"] += 1
            continue
        record = Imported(_id(mapping, row, messages, where), messages, labels, _attributes(mapping, row))
        if record.id in seen:
            _duplicate(mapping, record, where, seen[record.id], result.counts)
            continue
        seen[record.id] = (place, record)
        if labels is None:
            result.counts["unlabelled"] += 1
        result.records.append(record)
    result.counts["records"] = len(result.records)
    if not result.records:
        counted = ", ".join(f"{number} {name}" for name, number in sorted(result.counts.items()) if number)
        raise InputError(f"{source}: no records to import ({counted or 'the file is empty'})")
    return result


def _require_columns(mapping: Mapping, row: dict[str, Any], where: str) -> None:
    for column in mapping.columns():
        if column not in row:
            near = did_you_mean(column, row)
            seen = f"{where}: no column '{column}'{near}; it has {', '.join(sorted(row))}"
            raise InputError(seen, hint="--mapping takes a YAML file that names its columns")


def _messages(mapping: Mapping, row: dict[str, Any], where: str, counts: Counter[str]) -> list[dict[str, str]]:
    found: Any
    if mapping.text is not None:
        found = [{"role": "user", "content": row[mapping.text]}]
    elif isinstance(mapping.messages, str):
        found = row[mapping.messages]
    else:
        parts = [(part, row[part.column]) for part in mapping.messages or []]
        found = [{"role": part.role, "content": text} for part, text in parts if text or not part.optional]
    # checked first, so that what is stripped is known to be text
    messages = messages_of({"messages": found}, where)
    if not mapping.strip:
        return messages
    stripped = [{"role": item["role"], "content": item["content"].strip()} for item in messages]
    counts["stripped"] += stripped != messages
    return stripped


def _labels(
    column: LabelColumn | None, row: dict[str, Any], where: str, taxonomy: Taxonomy, result: Conversion
) -> tuple[list[str] | None, bool]:
    """The record's labels in taxonomy order, and False when it holds nothing but ignored values."""
    if column is None or row[column.column] is None:
        return None, True
    values = _values(column, row[column.column], where)
    found: set[str] = set()
    none_applies = False
    ignored = [value for value in values if value in column.ignore]
    for value in values:
        if value in column.ignore:
            continue
        # an id that no taxonomy has; beside others it is a contradiction, and more than an unknown word
        beside = value == NONE and not column.values and len(set(values)) > 1
        ids = [] if beside else _ids(column, value, where, taxonomy)
        found.update(ids)
        none_applies = none_applies or not ids
    if none_applies and (found or ignored):
        problem = f"'{column.column}' says that no category applies and names one: {', '.join(values)}"
        raise InputError(f"{where}: {problem}", hint="mend the row: either no category applies, or these do")
    result.ignored.update(ignored)
    result.counts["ignored_values"] += len(ignored)
    return [label for label in taxonomy.ids if label in found], bool(found) or not ignored


def _values(column: LabelColumn, cell: Any, where: str) -> list[str]:
    if column.form == "list" and isinstance(cell, list):
        return [str(value).strip() for value in cell]
    if column.form == "text" and isinstance(cell, str):
        parts = cell.split(column.separator) if column.separator else [cell]
        return [part.strip() for part in parts if part.strip()]
    if column.form == "flags" and isinstance(cell, dict):
        for value, flag in cell.items():
            if not isinstance(flag, bool):
                raise InputError(
                    f"{where}: '{column.column}': '{value}' is {flag!r}, expected true or false", hint=FORM
                )
        return [value for value, flag in cell.items() if flag]
    raise InputError(
        f"{where}: '{column.column}' is {str(cell)[:80]!r}, the mapping's form is {column.form}", hint=FORM
    )


def _ids(column: LabelColumn, value: str, where: str, taxonomy: Taxonomy) -> list[str]:
    if not column.values:
        hint = "other values than the taxonomy's ids are read by labels.values of a mapping"
        return [taxonomy.require(value, f"{where}: '{column.column}'", hint=hint)]
    if value not in column.values:
        near = did_you_mean(value, [*column.values, *column.ignore])
        raise InputError(
            f"{where}: '{column.column}': unknown label value '{value}'{near}",
            hint="add it to labels.values or labels.ignore of the mapping",
        )
    ids = column.values[value]
    return [ids] if isinstance(ids, str) else list(ids or [])


def _id(mapping: Mapping, row: dict[str, Any], messages: list[dict[str, str]], where: str) -> str:
    """The row's own id, or one made from its messages: equal texts have equal ids."""
    if mapping.id is None:
        text = json.dumps(messages, ensure_ascii=False, sort_keys=True)
        return f"t-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    value = row[mapping.id]
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where}: '{mapping.id}' must be a non-empty string, saw {value!r}", hint=NO_ID)
    return check_text(value.strip(), f"{where}: {mapping.id}", hint="mend the row")


def _duplicate(
    mapping: Mapping, record: Imported, where: str, first: tuple[str, Imported], counts: Counter[str]
) -> None:
    if mapping.duplicates == "refuse":
        what = f"id '{record.id}'" if mapping.id else "the same text"
        raise InputError(
            f"{where}: {what} stands there twice, first in {first[0]}", hint="set duplicates: first in the mapping"
        )
    if mapping.id is not None and record.messages != first[1].messages:
        raise InputError(f"{where}: id '{record.id}' has another text in {first[0]}", hint="give each text its own id")
    counts["duplicates"] += 1
    counts["conflicting_duplicates"] += record.labels != first[1].labels


def _attributes(mapping: Mapping, row: dict[str, Any]) -> list[dict[str, str]]:
    return [{"name": name, "value": str(row[name])} for name in mapping.attributes if row[name] is not None]

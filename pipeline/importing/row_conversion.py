"""Converts the rows of an existing data set to records, by a mapping. Every row that does not become a record is
counted."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from marginalia.pipeline.importing.column_mapping import Mapping
from marginalia.pipeline.importing.row_labels import UNLABELLED, labels_of
from marginalia.schemas.errors import InputError, did_you_mean
from marginalia.schemas.messages import messages_of, refuse_binary
from marginalia.schemas.taxonomy import Taxonomy
from marginalia.schemas.text_checks import check_text

NO_ID = "fix the row, or remove id from the mapping: then ids are made from the texts"


@dataclass(frozen=True)
class ImportedRecord:
    """One record. `labels` is None when the source does not label it; empty when the source says that no category
    applies."""

    id: str
    messages: list[dict[str, str]]
    labels: list[str] | None
    attributes: list[dict[str, str]]


@dataclass
class Conversion:
    """The records in the order of the source. `counts`: rows; records; rows left out (skipped, unusable, duplicates,
    and of these conflicting_duplicates, only_ignored_values); and changes to texts and labels (stripped,
    ignored_values, unlabelled, and of these partly_labelled). `ignored`: how often each ignored label value
    occurred."""

    records: list[ImportedRecord] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)


def convert(
    rows: Iterable[tuple[str, dict[str, Any]]], mapping: Mapping, taxonomy: Taxonomy, source: str
) -> Conversion:
    """`rows`: pairs of a location, such as `line 12`, and a row. Raises InputError, with `source` and the location, for
    a row that the mapping does not fit, and when no row becomes a record."""
    result = Conversion()
    seen: dict[str, tuple[str, ImportedRecord]] = {}
    for location, row in rows:
        where = f"{source}: {location}"
        result.counts["rows"] += 1
        _require_columns(mapping, row, where)
        if any({str(row[column]), _as_text(row[column])} & {*values} for column, values in mapping.skip.items()):
            result.counts["skipped"] += 1
            continue
        try:
            messages = _messages(mapping, row, where, result.counts)
        except InputError as error:
            if mapping.unusable == "refuse":
                raise InputError(error.message, hint="fix the row, or set unusable: skip in the mapping") from error
            result.counts["unusable"] += 1
            continue
        row_labels = labels_of(mapping.labels, row, where, taxonomy) if mapping.labels is not None else UNLABELLED
        result.ignored.update(row_labels.ignored)
        result.counts["ignored_values"] += len(row_labels.ignored)
        if row_labels.only_ignored:
            result.counts["only_ignored_values"] += 1
            continue
        identifier = _id(mapping, row, messages, where)
        record = ImportedRecord(identifier, messages, row_labels.labels, _attributes(mapping, row, where))
        if record.id in seen:
            _duplicate(mapping, record, where, seen[record.id], result.counts)
            continue
        seen[record.id] = (location, record)
        result.counts["unlabelled"] += row_labels.labels is None
        result.counts["partly_labelled"] += row_labels.partly
        result.records.append(record)
    result.counts["records"] = len(result.records)
    if not result.records:
        counts = ", ".join(f"{number} {name}" for name, number in sorted(result.counts.items()) if number)
        raise InputError(f"{source}: no records to import ({counts or 'the file is empty'})")
    return result


def _require_columns(mapping: Mapping, row: dict[str, Any], where: str) -> None:
    for column in mapping.columns():
        if column not in row:
            near = did_you_mean(column, row)
            problem = f"{where}: no column '{column}'{near}; it has {', '.join(sorted(row))}"
            raise InputError(problem, hint="--mapping takes a YAML file that names its columns")
        refuse_binary(row[column], f"column '{column}'", where)


def _messages(mapping: Mapping, row: dict[str, Any], where: str, counts: Counter[str]) -> list[dict[str, str]]:
    raw: Any
    if mapping.text is not None:
        raw = [{"role": "user", "content": row[mapping.text]}]
    elif isinstance(mapping.messages, str):
        raw = row[mapping.messages]
    else:
        parts = [(part, row[part.column]) for part in mapping.messages or []]
        raw = [{"role": part.role, "content": text} for part, text in parts if text or not part.optional]
    # checked before stripping, which needs text
    messages = messages_of({"messages": raw}, where)
    if not mapping.strip:
        return messages
    stripped = [{"role": item["role"], "content": item["content"].strip()} for item in messages]
    counts["stripped"] += stripped != messages
    return stripped


def _id(mapping: Mapping, row: dict[str, Any], messages: list[dict[str, str]], where: str) -> str:
    """The row's own id, or one made from its messages, so that equal texts have equal ids."""
    if mapping.id is None:
        text = json.dumps(messages, ensure_ascii=False, sort_keys=True)
        return f"t-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    value = row[mapping.id]
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where}: '{mapping.id}' must be a non-empty string, saw {value!r}", hint=NO_ID)
    return check_text(value.strip(), f"{where}: {mapping.id}", hint="fix the row")


def _duplicate(
    mapping: Mapping, record: ImportedRecord, where: str, first: tuple[str, ImportedRecord], counts: Counter[str]
) -> None:
    """Counts a record whose id occurred before, in `first` (its location and record), or refuses it."""
    first_location, first_record = first
    if mapping.duplicates == "refuse":
        key = f"id '{record.id}'" if mapping.id else "text"
        raise InputError(
            f"{where}: duplicate {key}, first in {first_location}", hint="set duplicates: first in the mapping"
        )
    if mapping.id is not None and record.messages != first_record.messages:
        raise InputError(
            f"{where}: id '{record.id}' has another text in {first_location}", hint="give each text its own id"
        )
    counts["duplicates"] += 1
    counts["conflicting_duplicates"] += record.labels != first_record.labels


def _attributes(mapping: Mapping, row: dict[str, Any], where: str) -> list[dict[str, str]]:
    attributes = []
    for name in mapping.attributes:
        if row[name] is not None:
            value = check_text(_as_text(row[name]), f"{where}: {name}", hint="fix the row")
            attributes.append({"name": name, "value": value})
    return attributes


def _as_text(value: Any) -> str:
    """`value` as text: a string unchanged, other JSON types as JSON, times and decimal numbers as Python writes
    them."""
    if isinstance(value, bool | int | float | list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)

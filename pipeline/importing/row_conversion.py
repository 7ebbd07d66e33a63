"""Rows of somebody's data set → records of ours, by a mapping. Nothing is dropped without being counted."""

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

NO_ID = "mend the row, or leave id out of the mapping: then ids are made from the texts"


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
    ignored_values, unlabelled, and of these partly_labelled). `ignored`: how often each ignored value stood there."""

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
        if any({str(row[column]), _as_text(row[column])} & {*values} for column, values in mapping.skip.items()):
            result.counts["skipped"] += 1
            continue
        try:
            messages = _messages(mapping, row, where, result.counts)
        except InputError as error:
            if mapping.unusable == "refuse":
                raise InputError(error.message, hint="mend the row, or set unusable: skip in the mapping") from error
            result.counts["unusable"] += 1
            continue
        named = labels_of(mapping.labels, row, where, taxonomy) if mapping.labels is not None else UNLABELLED
        result.ignored.update(named.ignored)
        result.counts["ignored_values"] += len(named.ignored)
        if named.only_ignored:
            result.counts["only_ignored_values"] += 1
            continue
        identifier = _id(mapping, row, messages, where)
        record = Imported(identifier, messages, named.labels, _attributes(mapping, row, where))
        if record.id in seen:
            _duplicate(mapping, record, where, seen[record.id], result.counts)
            continue
        seen[record.id] = (place, record)
        result.counts["unlabelled"] += named.labels is None
        result.counts["partly_labelled"] += named.partly
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
        refuse_binary(row[column], f"column '{column}'", where)


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


def _attributes(mapping: Mapping, row: dict[str, Any], where: str) -> list[dict[str, str]]:
    found = []
    for name in mapping.attributes:
        if row[name] is not None:
            value = check_text(_as_text(row[name]), f"{where}: {name}", hint="mend the row")
            found.append({"name": name, "value": value})
    return found


def _as_text(value: Any) -> str:
    """A text as it is, what JSON knows as JSON, and a time or a decimal number as Python writes it."""
    if isinstance(value, bool | int | float | list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)

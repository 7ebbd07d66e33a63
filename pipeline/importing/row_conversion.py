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
from marginalia.pipeline.importing.conversations import conversation
from marginalia.pipeline.importing.row_answers import AnswerReader, ImportedAnswer
from marginalia.pipeline.importing.row_labels import UNLABELLED, RowLabels, labels_of
from marginalia.pipeline.importing.row_paths import AbsentColumns, cells_of
from marginalia.schemas.errors import InputError
from marginalia.schemas.label_cells import is_blank, listed
from marginalia.schemas.messages import messages_of
from marginalia.schemas.taxonomy import Taxonomy
from marginalia.schemas.text_checks import check_text

NO_ID = "fix the row, or remove id from the mapping: then ids are made from the texts"


@dataclass(frozen=True)
class ImportedRecord:
    """One record. `labels` is None when the source does not label it; empty when none of the judged labels applies.
    `judged` is None when all labels were judged, or when there are no labels."""

    id: str
    messages: list[dict[str, str]]
    labels: list[str] | None
    judged: list[str] | None
    attributes: list[dict[str, str]]


@dataclass
class Conversion:
    """The records in the order of the source, and the answers of the mapping's annotators. `counts`: rows; records;
    rows left out (skipped, unusable, duplicates, and of these conflicting_duplicates, only_ignored_values); and changes
    to texts and labels (stripped, ignored_values, unlabelled, partly_labelled: some of its labels were not judged,
    because their cells are blank or the column of judged labels leaves them out). With annotators, `answers` are
    counted, and duplicates, only_ignored_values, unlabelled and partly_labelled count answers. `ignored`: how often
    each ignored label value occurred. `absent`: label column → how many rows (or answers in a row) lack it. `unread`:
    the columns of the first row that the mapping does not read."""

    records: list[ImportedRecord] = field(default_factory=list)
    answers: list[ImportedAnswer] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)
    absent: Counter[str] = field(default_factory=Counter)
    unread: list[str] = field(default_factory=list)


def convert(
    rows: Iterable[tuple[str, dict[str, Any]]], mapping: Mapping, taxonomy: Taxonomy, source: str
) -> Conversion:
    """`rows`: pairs of a location, such as `line 12`, and a row. Raises InputError, with `source` and the location, for
    a row that the mapping does not fit, and when no row becomes a record."""
    result = Conversion()
    seen: dict[str, tuple[str, ImportedRecord]] = {}
    absent = AbsentColumns(mapping.optional_paths, mapping.needless_paths)
    answers = AnswerReader(mapping, taxonomy, result.counts, result.ignored, absent) if mapping.annotators else None
    paths = mapping.paths()
    for location, row in rows:
        where = f"{source}: {location}"
        result.counts["rows"] += 1
        if result.counts["rows"] == 1:
            read = {path for _, path in paths}
            result.unread = [column for column in row if column not in read]
        cells = cells_of(paths, row, where, absent)
        if any({str(cells[column]), _as_text(cells[column])} & {*values} for column, values in mapping.skip.items()):
            result.counts["skipped"] += 1
            continue
        try:
            messages = _messages(mapping, row, cells, where, result.counts)
        except InputError as error:
            if mapping.unusable == "refuse":
                raise InputError(error.message, hint="fix the row, or set unusable: skip in the mapping") from error
            result.counts["unusable"] += 1
            continue
        labels = UNLABELLED if mapping.labels is None or answers else labels_of(mapping.labels, cells, where, taxonomy)
        result.ignored.update(labels.ignored)
        result.counts["ignored_values"] += len(labels.ignored)
        if labels.only_ignored:
            result.counts["only_ignored_values"] += 1
            continue
        record = _record(mapping, cells, messages, labels, where)
        if answers is not None:
            if record.id in seen:
                _refuse_other_text(record, where, seen[record.id])
            result.answers += answers.read(record.id, row, cells, where)
        elif record.id in seen:
            _duplicate(mapping, record, where, seen[record.id], result.counts)
            continue
        if record.id not in seen:
            seen[record.id] = (location, record)
            result.records.append(record)
            result.counts["unlabelled"] += answers is None and labels.labels is None
            result.counts["partly_labelled"] += labels.partly
    absent.refuse_unknown()
    result.absent = absent.counts
    result.counts["records"] = len(result.records)
    result.counts["answers"] = len(result.answers)
    if not result.records:
        counts = ", ".join(f"{number} {name}" for name, number in sorted(result.counts.items()) if number)
        raise InputError(f"{source}: no records to import ({counts or 'the file is empty'})")
    return result


def _record(
    mapping: Mapping, cells: dict[str, Any], messages: list[dict[str, str]], labels: RowLabels, where: str
) -> ImportedRecord:
    identifier = _id(mapping, cells, messages, where)
    return ImportedRecord(identifier, messages, labels.labels, labels.judged, _attributes(mapping, cells, where))


def _messages(
    mapping: Mapping, row: dict[str, Any], cells: dict[str, Any], where: str, counts: Counter[str]
) -> list[dict[str, str]]:
    raw: Any
    if mapping.text is not None:
        raw = [{"role": "user", "content": _joined(cells[mapping.text], mapping.join)}]
    elif isinstance(mapping.messages, str):
        raw = conversation(row, mapping.messages, cells[mapping.messages], mapping.messages_form, where)
    else:
        parts = [(part, cells[part.column]) for part in mapping.messages or []]
        raw = [{"role": part.role, "content": text} for part, text in parts if not (part.optional and is_blank(text))]
    # checked before stripping, which needs text
    messages = messages_of({"messages": raw}, where)
    if not mapping.strip:
        return messages
    stripped = [{"role": item["role"], "content": item["content"].strip()} for item in messages]
    counts["stripped"] += stripped != messages
    return stripped


def _joined(cell: Any, join: str | None) -> Any:
    """The items of a list of texts as one text; other cells unchanged."""
    items = listed(cell) if join is not None else None
    return join.join(items) if join is not None and items and all(isinstance(item, str) for item in items) else cell


def _id(mapping: Mapping, cells: dict[str, Any], messages: list[dict[str, str]], where: str) -> str:
    """The row's own id, or one made from its messages, so that equal texts have equal ids."""
    if mapping.id is None:
        text = json.dumps(messages, ensure_ascii=False, sort_keys=True)
        return f"t-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    value = cells[mapping.id]
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
        hint = "set duplicates: first in the mapping; if several people labelled each record, set annotators"
        raise InputError(f"{where}: duplicate {key}, first in {first_location}", hint=hint)
    _refuse_other_text(record, where, first)
    counts["duplicates"] += 1
    counts["conflicting_duplicates"] += (record.labels, record.judged) != (first_record.labels, first_record.judged)


def _refuse_other_text(record: ImportedRecord, where: str, first: tuple[str, ImportedRecord]) -> None:
    """Raises InputError if the record of the same id has another text. Ids made from texts never do."""
    first_location, first_record = first
    if record.messages != first_record.messages:
        raise InputError(
            f"{where}: id '{record.id}' has another text in {first_location}", hint="give each text its own id"
        )


def _attributes(mapping: Mapping, cells: dict[str, Any], where: str) -> list[dict[str, str]]:
    attributes = []
    for name in mapping.attributes:
        if cells[name] is not None:
            value = check_text(_as_text(cells[name]), f"{where}: {name}", hint="fix the row")
            attributes.append({"name": name, "value": value})
    return attributes


def _as_text(value: Any) -> str:
    """`value` as text: a string unchanged, other JSON types as JSON, times and decimal numbers as Python writes
    them."""
    if isinstance(value, bool | int | float | list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)

"""Labelled records of the user for the paper's table: ours, or the paper's own by a mapping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from marginalia.pipeline.importing.column_mapping import SHIPPED, Mapping, load_mapping, mapping_path
from marginalia.pipeline.importing.row_conversion import convert
from marginalia.schemas.errors import InputError, did_you_mean
from marginalia.schemas.input_records import read_records
from marginalia.schemas.source_rows import read_rows
from marginalia.schemas.storage.yaml_files import load_yaml
from marginalia.schemas.taxonomy import Taxonomy
from marginalia.scoring.guard import Guard


@dataclass(frozen=True)
class Labelled:
    """`labels` are ids of the taxonomy; empty: no category applies."""

    id: str
    messages: list[dict[str, str]]
    labels: list[str]


@dataclass
class LabelledRecords:
    """The records to judge, and in `notes` what was left out and why."""

    records: list[Labelled]
    notes: list[str] = field(default_factory=list)


def read_labelled(
    path: Path, taxonomy: Taxonomy, guard: Guard, *, mapping: str | None = None, limit: int | None = None
) -> LabelledRecords:
    """The first `limit` labelled records of a JSONL or Parquet file.

    Without `mapping` the file has id, text or messages, and labels. Raises InputError with file and line; where a
    shipped mapping would fit the columns, its hint names it."""
    found = _ours(path, taxonomy) if mapping is None else _mapped(path, taxonomy, mapping)
    labelled = [record for record in found if record is not None]
    notes = []
    if left := len(found) - len(labelled):
        notes.append(f"{left} of {len(found)} records have no labels and were left out")
    if not labelled:
        raise InputError.at(path, "no record has labels", hint="the column labels: a list of ids, [] for none")
    kept = labelled[:limit]
    foreign = sorted({label for record in kept for label in record.labels} - set(guard.labels))
    if foreign:
        notes.append(f"guard {guard.name} does not know {', '.join(foreign)}: not judged")
    return LabelledRecords(kept, notes)


def _ours(path: Path, taxonomy: Taxonomy) -> list[Labelled | None]:
    try:
        frame = read_records(path)
    except InputError as error:
        if fitting := _fitting(path):
            raise InputError(f"{path}: columns of another form", hint=f"--mapping {' or '.join(fitting)}") from error
        raise
    found: list[Labelled | None] = []
    for record_id, messages, labels in frame.iter_rows():
        for label in labels or []:
            if label not in taxonomy.ids:
                near = did_you_mean(label, taxonomy.ids)
                hint = f"labels are ids of the taxonomy {taxonomy.id}; other values need --mapping"
                raise InputError(f"{path}: record '{record_id}': unknown label '{label}'{near}", hint=hint)
        found.append(None if labels is None else Labelled(record_id, messages, labels))
    return found


def _mapped(path: Path, taxonomy: Taxonomy, reference: str) -> list[Labelled | None]:
    mapping = load_mapping(mapping_path(reference), taxonomy)
    if mapping.labels is None:
        raise InputError(f"mapping '{reference}' says nothing of labels", hint="the table needs labelled records")
    records = convert(read_rows(path), mapping, taxonomy, str(path)).records
    return [None if one.labels is None else Labelled(one.id, one.messages, one.labels) for one in records]


def _fitting(path: Path) -> Sequence[str]:
    """Shipped mappings whose columns the first row has; none when it has an id, and so the flaw is another."""
    _, row = next(read_rows(path), ("", {}))
    if "id" in row:
        return []
    mappings = {file.stem: load_yaml(file, Mapping) for file in sorted(SHIPPED.glob("*.yaml"))}
    return [name for name, one in mappings.items() if one.columns() and set(one.columns()) <= row.keys()]

"""Reads the user's labelled records for the paper's table: in our format, or in another one with a mapping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from marginalia.pipeline.importing.class_labels import with_classes
from marginalia.pipeline.importing.column_mapping import SHIPPED, Mapping, load_mapping, mapping_path
from marginalia.pipeline.importing.row_conversion import convert
from marginalia.pipeline.importing.row_paths import AbsentColumns, cells_of
from marginalia.schemas.errors import InputError, did_you_mean
from marginalia.schemas.input_records import read_records
from marginalia.schemas.source_rows import read_rows
from marginalia.schemas.storage.yaml_files import load_yaml
from marginalia.schemas.taxonomy import Taxonomy
from marginalia.scoring.guard import Guard


@dataclass(frozen=True)
class Labelled:
    """One labelled record. `labels` are ids of the taxonomy; empty: no category applies. `judged`: the labels that were
    judged; None: all."""

    id: str
    messages: list[dict[str, str]]
    labels: list[str]
    judged: list[str] | None = None

    def judges(self, labels: Sequence[str]) -> bool:
        """Whether all of these labels were judged."""
        return self.judged is None or {*labels} <= {*self.judged}


@dataclass
class LabelledRecords:
    """The records of the table; `notes` say what was left out and why."""

    records: list[Labelled]
    notes: list[str] = field(default_factory=list)


def read_labelled(
    path: Path, taxonomy: Taxonomy, guard: Guard, *, mapping: str | None = None, limit: int | None = None
) -> LabelledRecords:
    """The first `limit` labelled records of a file.

    Without `mapping` the file must have id, text or messages, and labels. Raises InputError with file and line; if a
    shipped mapping fits the columns, the hint names it."""
    records = _in_our_format(path, taxonomy) if mapping is None else _mapped(path, taxonomy, mapping)
    labelled = [record for record in records if record is not None]
    notes = []
    if unlabelled := len(records) - len(labelled):
        notes.append(f"{unlabelled} of {len(records)} records have no labels and were left out")
    if not labelled:
        hint = "the column labels has a list of label ids, [] if no category applies"
        raise InputError.at(path, "no record has labels", hint=hint)
    usable = [record for record in labelled if record.judged is None or {*record.judged} & {*guard.labels}]
    if nothing := len(labelled) - len(usable):
        were = "was" if nothing == 1 else "were"
        notes.append(f"{nothing} of {len(labelled)} records {were} not judged on any label of the guard and left out")
    if not usable:
        hint = "labels.judged in the mapping says which labels the source judged"
        raise InputError.at(path, f"no record judges a label of guard {guard.name}", hint=hint)
    kept = usable[:limit]
    if partly := sum(not record.judges(guard.labels) for record in kept):
        notes.append(f"in {partly} of {len(kept)} records only some labels were judged; the others are left out")
    unknown = sorted({label for record in kept for label in record.labels} - set(guard.labels))
    if unknown:
        notes.append(f"guard {guard.name} has no code for {', '.join(unknown)}: not judged")
    return LabelledRecords(kept, notes)


def _in_our_format(path: Path, taxonomy: Taxonomy) -> list[Labelled | None]:
    try:
        frame = read_records(path)
    except InputError as error:
        if fitting := _fitting_mappings(path):
            hint = f"try --mapping {' or '.join(fitting)}"
            raise InputError(f"{path}: has no column 'id', but the columns of a shipped mapping", hint=hint) from error
        raise
    records: list[Labelled | None] = []
    for record_id, messages, labels, judged in frame.iter_rows():
        for label in [*(labels or []), *(judged or [])]:
            if label not in taxonomy.ids:
                near = did_you_mean(label, taxonomy.ids)
                hint = f"labels are ids of the taxonomy {taxonomy.id}; other values need --mapping"
                raise InputError(f"{path}: record '{record_id}': unknown label '{label}'{near}", hint=hint)
        records.append(None if labels is None else Labelled(record_id, messages, labels, judged))
    return records


def _mapped(path: Path, taxonomy: Taxonomy, reference: str) -> list[Labelled | None]:
    mapping = load_mapping(mapping_path(reference), taxonomy)
    if mapping.labels is None:
        raise InputError(f"mapping '{reference}' has no labels", hint="the table needs labelled records")
    if mapping.annotators is not None:
        problem = f"mapping '{reference}' has annotators: the table needs final labels"
        raise InputError(problem, hint="import the answers into a run, then: marginalia reconcile")
    records = convert(read_rows(path, mapping.files), with_classes(mapping, path), taxonomy, str(path)).records
    return [
        None if record.labels is None else Labelled(record.id, record.messages, record.labels, record.judged)
        for record in records
    ]


def _fitting_mappings(path: Path) -> Sequence[str]:
    """Names of shipped mappings whose columns the first row has; none if it has an id, as in our format."""
    _, row = next(read_rows(path), ("", {}))
    if "id" in row:
        return []
    return [file.stem for file in sorted(SHIPPED.glob("*.yaml")) if _fits(load_yaml(file, Mapping), row)]


def _fits(mapping: Mapping, row: dict[str, Any]) -> bool:
    try:
        cells_of(mapping.paths(), row, "", AbsentColumns(mapping.needless_paths))
    except InputError:
        return False
    return True

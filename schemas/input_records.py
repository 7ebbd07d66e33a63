"""Records that users provide: CSV, JSON, JSONL or Parquet with `id` and `messages` (or `text`, read as one user
message), and optionally `labels` and `judged`, the labels that were judged (null: all). An invalid record is an error
with its file and line (for scoring: of that record alone); nothing is repaired silently."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from marginalia.schemas.errors import InputError
from marginalia.schemas.label_cells import is_blank, listed
from marginalia.schemas.messages import NEEDED, UNUSABLE, messages_of, refuse_binary
from marginalia.schemas.source_rows import read_rows
from marginalia.schemas.tables import GoldRecord
from marginalia.schemas.text_checks import check_text

RECORD_SCHEMA = pl.Schema(
    {
        "id": pl.String(),
        "messages": GoldRecord.polars_schema()["messages"],
        "labels": pl.List(pl.String()),
        "judged": pl.List(pl.String()),
    }
)
UNIQUE_IDS = "ids must be unique; marginalia import keeps the first record with duplicates: first in its mapping"
JUDGED = "judged lists all labels that were judged in the record; null or a missing column: all labels"
LABELS = "labels are a list of label ids, [] if no category applies"


def read_records(path: Path) -> pl.DataFrame:
    """A frame with RECORD_SCHEMA, in file order; labels are null for unlabelled records, judged is null where all
    labels were judged.

    Raises InputError that names the line (from 1), or the item or row (JSON list, Parquet; from 0)."""
    rows = []
    position_of: dict[str, str] = {}
    for position, value in read_rows(path):
        row = _record(path, position, value)
        _refuse_duplicate(path, position, row["id"], position_of)
        where = f"{path}: {position}: record '{row['id']}'"
        judged = _label_list(value.get("judged"), "judged", where)
        if judged is not None and (outside := [label for label in row["labels"] or [] if label not in judged]):
            raise InputError(f"{where} has the label '{outside[0]}', which 'judged' leaves out", hint=JUDGED)
        rows.append({**row, "judged": judged})
    if not rows:
        raise InputError.at(path, "contains no records", hint=NEEDED)
    return pl.DataFrame(rows, schema=RECORD_SCHEMA, orient="row")


@dataclass(frozen=True)
class RecordsToScore:
    """`records`: (id, messages) in file order, with no messages where they cannot be used. `unusable`: id → why."""

    records: list[tuple[str, list[dict[str, str]]]]
    unusable: dict[str, str]

    @property
    def usable(self) -> list[tuple[str, list[dict[str, str]]]]:
        """The records with messages."""
        return [record for record in self.records if record[0] not in self.unusable]

    def part(self, holds: Callable[[str], bool]) -> RecordsToScore:
        """The records whose ids `holds` accepts."""
        unusable = {name: why for name, why in self.unusable.items() if holds(name)}
        return RecordsToScore([record for record in self.records if holds(record[0])], unusable)


def read_records_to_score(path: Path) -> RecordsToScore:
    """The records of a file, of which some may be unusable: one of these must not stop the scoring of the others.

    Raises InputError as read_records does for a file that cannot be read, for a record without a valid id, and when no
    record is usable: then the file is of another form."""
    records: list[tuple[str, list[dict[str, str]]]] = []
    unusable: dict[str, InputError] = {}
    position_of: dict[str, str] = {}
    for position, value in read_rows(path):
        identifier = _identifier(path, position, value)
        _refuse_duplicate(path, position, identifier, position_of)
        try:
            messages = _record(path, position, value)["messages"]
        except InputError as error:
            messages, unusable[identifier] = [], error
        records.append((identifier, messages))
    if not records:
        raise InputError.at(path, "contains no records", hint=NEEDED)
    if len(unusable) == len(records):
        raise next(iter(unusable.values()))
    return RecordsToScore(records, {name: str(error) for name, error in unusable.items()})


def _refuse_duplicate(path: Path, position: str, identifier: str, position_of: dict[str, str]) -> None:
    if identifier in position_of:
        problem = f"{path}: {position}: duplicate id '{identifier}', first in {position_of[identifier]}"
        raise InputError(problem, hint=UNIQUE_IDS)
    position_of[identifier] = position


def _identifier(path: Path, position: str, value: dict[str, Any]) -> str:
    where = f"{path}: {position}"
    identifier = value.get("id")
    if isinstance(identifier, int) and not isinstance(identifier, bool):
        identifier = str(identifier)
    if "id" not in value:
        raise InputError(f"{where}: no column 'id'; it has {', '.join(sorted(value))}", hint=NEEDED)
    refuse_binary(identifier, "'id'", where)
    if not isinstance(identifier, str) or not identifier:
        raise InputError(f"{where}: 'id' must be a non-empty string, saw {identifier!r}", hint=NEEDED)
    return check_text(identifier, f"{where}: id", hint=UNUSABLE)


def _record(path: Path, position: str, value: dict[str, Any]) -> dict[str, Any]:
    identifier = _identifier(path, position, value)
    where = f"{path}: {position}: record '{identifier}'"
    return {
        "id": identifier,
        "messages": messages_of(value, where),
        "labels": _label_list(value.get("labels"), "labels", where),
    }


def _label_list(cell: Any, name: str, where: str) -> list[str] | None:
    """The cell of the column `name`; None if it, or every item in its list, is blank: an unlabelled record."""
    if is_blank(cell):
        return None
    labels = listed(cell)
    for value in labels if labels is not None else [cell]:
        refuse_binary(value, f"'{name}'", where)
    if labels and all(is_blank(label) for label in labels):
        return None
    if labels is None or any(not isinstance(label, str) or is_blank(label) for label in labels):
        raise InputError(
            f"{where}: '{name}' must be a list of strings, saw {str(cell)[:80]!r}",
            hint=LABELS if name == "labels" else JUDGED,
        )
    for label in labels:
        check_text(label, f"{where}: {name}", hint=UNUSABLE)
    return labels

"""Records as users bring them: JSONL or Parquet with `id` and `messages` (or `text`, read as one user message), and
optionally `labels`. Every flaw is refused with its file and line; nothing is repaired in silence."""

from __future__ import annotations

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
    {"id": pl.String(), "messages": GoldRecord.polars_schema()["messages"], "labels": pl.List(pl.String())}
)
OWN_ID = "each record needs an id of its own; marginalia import keeps the first with duplicates: first in its mapping"
LABELS = "labels are a list of ids, [] where no category applies"


def read_records(path: Path) -> pl.DataFrame:
    """Records with the columns id, messages, labels (null where none are given), in file order.

    Raises InputError that names the line (JSONL, from 1) or the row (Parquet, from 0)."""
    rows = []
    seen: dict[str, str] = {}
    for place, value in read_rows(path):
        row = _record(path, place, value)
        if row["id"] in seen:
            twice = f"{path}: {place}: id '{row['id']}' stands there twice, first in {seen[row['id']]}"
            raise InputError(twice, hint=OWN_ID)
        seen[row["id"]] = place
        rows.append(row)
    if not rows:
        raise InputError.at(path, "holds no records", hint=NEEDED)
    return pl.DataFrame(rows, schema=RECORD_SCHEMA, orient="row")


def _record(path: Path, place: str, value: dict[str, Any]) -> dict[str, Any]:
    where = f"{path}: {place}"
    identifier = value.get("id")
    if isinstance(identifier, int) and not isinstance(identifier, bool):
        identifier = str(identifier)
    if "id" not in value:
        raise InputError(f"{where}: no column 'id'; it has {', '.join(sorted(value))}", hint=NEEDED)
    refuse_binary(identifier, "'id'", where)
    if not isinstance(identifier, str) or not identifier:
        raise InputError(f"{where}: 'id' must be a non-empty string, saw {identifier!r}", hint=NEEDED)
    check_text(identifier, f"{where}: id", hint=UNUSABLE)
    where = f"{where}: record '{identifier}'"
    return {"id": identifier, "messages": messages_of(value, where), "labels": _labels(value.get("labels"), where)}


def _labels(cell: Any, where: str) -> list[str] | None:
    """Null where the cell, or every item in its list, is blank: nobody labelled the record."""
    if is_blank(cell):
        return None
    labels = listed(cell)
    for value in labels if labels is not None else [cell]:
        refuse_binary(value, "'labels'", where)
    if labels and all(is_blank(label) for label in labels):
        return None
    if labels is None or any(not isinstance(label, str) or is_blank(label) for label in labels):
        raise InputError(f"{where}: 'labels' must be a list of strings, saw {str(cell)[:80]!r}", hint=LABELS)
    for label in labels:
        check_text(label, f"{where}: labels", hint=UNUSABLE)
    return labels

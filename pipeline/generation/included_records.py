"""The user's own records, annotated together with the generated ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from marginalia.schemas.errors import InputError
from marginalia.schemas.input_records import read_records
from marginalia.schemas.tables import PromptRecord
from marginalia.schemas.taxonomy import Taxonomy

SOURCE, INCLUDED, GENERATED = "source", "included", "generated"


def with_included(written: Iterable[pl.DataFrame], path: Path, taxonomy: Taxonomy) -> Iterator[pl.DataFrame]:
    """`written` (PromptRecord) followed by the records of `path`, with the attribute `source`: generated or included.

    Raises InputError for a record without labels, an unknown label, or the id of a written record."""
    written_ids: set[str] = set()
    for prompts in written:
        yield PromptRecord.frame([_with_source(row) for row in prompts.to_dicts()])
        written_ids.update(prompts["id"])
    rows = []
    written_at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    for record in read_records(path).iter_rows(named=True):
        where = f"{path}: record '{record['id']}'"
        if record["labels"] is None:
            raise InputError(f"{where} has no labels", hint="add the labels that you think apply, [] for none")
        if record["id"] in written_ids:
            raise InputError(f"{where}: a generated record has the same id", hint="give it another id")
        rows.append(
            {
                "id": record["id"],
                "messages": record["messages"],
                "intended_labels": [taxonomy.require(label, where) for label in record["labels"]],
                "slot_id": None,
                "generator": path.name,
                "created_at": written_at,
                "attributes": [{"name": SOURCE, "value": INCLUDED}],
            }
        )
    yield PromptRecord.frame(rows)


def _with_source(row: dict[str, object]) -> dict[str, object]:
    attributes = row["attributes"]
    assert isinstance(attributes, list)
    return {**row, "attributes": [*attributes, {"name": SOURCE, "value": GENERATED}]}

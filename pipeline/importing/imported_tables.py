"""Tables of imported records: prompts.parquet and gold.parquet."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from marginalia.annotation.config import Splits
from marginalia.annotation.gold.splits import assign_splits
from marginalia.pipeline.importing.row_conversion import ImportedRecord
from marginalia.schemas.tables import GoldRecord, PromptRecord

METHOD = "imported"


def prompt_table(
    records: Sequence[ImportedRecord], generator: str, created_at: datetime, *, intended: bool
) -> pl.DataFrame:
    """prompts.parquet (PromptRecord). With `intended`, the records' labels are their intended labels, null where the
    source has none; otherwise the intended labels are empty. `generator`, `created_at`: the origin of all records."""
    rows = [
        {
            "id": record.id,
            "messages": record.messages,
            "intended_labels": record.labels if intended else [],
            "slot_id": None,
            "generator": generator,
            "created_at": created_at,
            "attributes": record.attributes,
        }
        for record in records
    ]
    return PromptRecord.frame(rows)


def gold_table(records: Sequence[ImportedRecord], labels: Sequence[str], shares: Splits, seed: int) -> pl.DataFrame:
    """gold.parquet (GoldRecord). Soft labels and votes are empty, because the source has only the result of its
    annotation. A record without labels has the status needs_answers."""
    rows = [
        {
            "id": record.id,
            "messages": record.messages,
            "status": "needs_answers" if record.labels is None else "final",
            "labels": record.labels,
            "soft_labels": [],
            "votes": [],
            "n_annotators": 0,
            "agreement": None,
            "method": METHOD,
            "adjudicated": False,
            "split": "",
        }
        for record in records
    ]
    gold = GoldRecord.frame(rows)
    return gold.with_columns(assign_splits(gold, labels, shares, seed))

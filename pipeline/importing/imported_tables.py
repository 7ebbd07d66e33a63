"""Imported records as the artifacts of a run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from marginalia.annotation.config import Splits
from marginalia.annotation.gold.splits import assign_splits
from marginalia.pipeline.importing.row_conversion import Imported
from marginalia.schemas.tables import GoldRecord, PromptRecord

METHOD = "imported"


def prompt_table(records: Sequence[Imported], generator: str, created_at: datetime, *, intended: bool) -> pl.DataFrame:
    """prompts.parquet. With `intended` the labels are what the writer was asked for, null where the source has none;
    else none are intended."""
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


def gold_table(records: Sequence[Imported], labels: Sequence[str], shares: Splits, seed: int) -> pl.DataFrame:
    """gold.parquet. Soft labels and votes are empty: the source does not say who saw it otherwise. A record without
    labels needs answers."""
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

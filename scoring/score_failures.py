"""Finds the records without scores, the reasons, and whether another attempt may succeed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from marginalia.schemas.storage.journal import read_journal
from marginalia.scoring.score_journal_entry import KEYS, check_entry


@dataclass(frozen=True)
class Failure:
    """Why a record has no scores. `is_temporary`: another attempt may succeed, for example with more memory."""

    record_id: str
    error: str
    is_temporary: bool


def failures_of(table: pl.DataFrame, record_ids: Sequence[str], journals: Iterable[Path]) -> list[Failure]:
    """The records of `record_ids` that have an error in `table` (ScoredRecord) or are not in it, in this order.

    Whether a failure is temporary is read from `journals`. A failure that is in none of them, or was written by an
    older version, counts as temporary: an unnecessary attempt is better than none."""
    errors = dict(table.select("record_id", "error").iter_rows())
    failed = {name: errors.get(name, "not scored") for name in record_ids if errors.get(name, "not scored") is not None}
    temporary: dict[str, bool] = {}
    if failed:
        for path in journals:
            for entry in read_journal(path, KEYS, check_entry):
                if entry["id"] in failed and entry["error"] is not None:
                    temporary[entry["id"]] = entry.get("passing", True)
    return [Failure(name, error, temporary.get(name, True)) for name, error in failed.items()]

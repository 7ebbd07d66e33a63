"""The labels that annotators see pre-ticked, and suggestions.parquet, which records what they were shown."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Any

import polars as pl

from marginalia.annotation.config import AnnotationSection
from marginalia.schemas.tables import SuggestedRecord

FILE = "suggestions.parquet"


def suggested(
    prompts: pl.DataFrame, checks: pl.DataFrame | None, section: AnnotationSection, seed: int
) -> pl.DataFrame:
    """The suggestions that annotation.suggestions asks for: `SuggestedRecord` rows, one per row of `prompts`
    (PromptRecord). `checks` (CheckedRecord) is needed for `check`; a record that the check could not label gets no
    suggestion."""
    source = section.suggestions or None
    if source == "check":
        assert checks is not None
        labels = dict(checks.select("record_id", "labels").iter_rows())
    else:
        labels = dict(prompts.select("id", "intended_labels").iter_rows())
    rows = []
    for record in prompts["id"].to_list():
        suggestion = labels.get(record) if source is not None else None
        shown = suggestion is not None and not in_control(record, seed, section.control_share)
        rows.append(_row(record, source, suggestion, shown=shown))
    return SuggestedRecord.frame(rows)


def recorded(before: pl.DataFrame | None, now: pl.DataFrame, new: Collection[str]) -> pl.DataFrame:
    """What annotators see after a push, as `SuggestedRecord` rows: for the records in `new`, which are sent now, the
    row of `now`; for the others, which are not sent again, the row of `before`, or no suggestion."""
    earlier = {row["record_id"]: row for row in before.iter_rows(named=True)} if before is not None else {}
    rows = []
    for row in now.iter_rows(named=True):
        record = row["record_id"]
        rows.append(row if record in new else earlier.get(record) or _row(record, None, None, shown=False))
    dropped = earlier.keys() - set(now["record_id"])
    return SuggestedRecord.frame([*rows, *(row for record, row in earlier.items() if record in dropped)])


def in_control(record_id: str, seed: int, share: float) -> bool:
    """Whether the record belongs to the seeded random `share` that is shown without suggestion."""
    digest = hashlib.sha256(f"{seed}:control:{record_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < share


def _row(record: str, source: str | None, labels: list[str] | None, *, shown: bool) -> dict[str, Any]:
    return {"record_id": record, "source": source, "labels": labels, "shown": shown}

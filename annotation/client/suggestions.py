"""Which labels annotators are shown pre-ticked, and a record of what they were shown: suggestions.parquet."""

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
    """SuggestedRecord, one row a record of `prompts` (PromptRecord): the suggestion that annotation.suggestions asks
    for. `checks` (CheckedRecord) is needed for `check`; a record that the check could not label gets none."""
    source = section.suggestions or None
    if source == "check":
        assert checks is not None
        labels = dict(checks.select("record_id", "labels").iter_rows())
    else:
        labels = dict(prompts.select("id", "intended_labels").iter_rows())
    rows = []
    for record in prompts["id"].to_list():
        known = labels.get(record) if source is not None else None
        shown = known is not None and not has_control(record, seed, section.control_share)
        rows.append(_row(record, source, known, shown=shown))
    return SuggestedRecord.frame(rows)


def recorded(before: pl.DataFrame | None, now: pl.DataFrame, new: Collection[str]) -> pl.DataFrame:
    """What annotators see after a push: a record that is `new` on the server what `now` (SuggestedRecord) says; one
    that was there what `before` says of it, or nothing, for it is not sent again."""
    earlier = {row["record_id"]: row for row in before.iter_rows(named=True)} if before is not None else {}
    rows = []
    for row in now.iter_rows(named=True):
        record = row["record_id"]
        rows.append(row if record in new else earlier.get(record) or _row(record, None, None, shown=False))
    gone = earlier.keys() - set(now["record_id"])
    return SuggestedRecord.frame([*rows, *(row for record, row in earlier.items() if record in gone)])


def has_control(record_id: str, seed: int, share: float) -> bool:
    """Whether the record belongs to the seeded share that goes without suggestion."""
    digest = hashlib.sha256(f"{seed}:control:{record_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < share


def _row(record: str, source: str | None, labels: list[str] | None, *, shown: bool) -> dict[str, Any]:
    return {"record_id": record, "source": source, "labels": labels, "shown": shown}

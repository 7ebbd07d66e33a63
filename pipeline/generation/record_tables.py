"""The outcome of generate as tables: prompts.parquet and rejected.parquet."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import islice
from typing import Any

import polars as pl

from marginalia.pipeline.generation.generation_result import Accepted, GenerationResult
from marginalia.schemas.table_row import Row
from marginalia.schemas.tables import PromptRecord, RejectedAttempt

_ROWS_PER_FRAME = 5000


def prompts_frames(result: GenerationResult, generator: str) -> Iterator[pl.DataFrame]:
    """prompts.parquet (PromptRecord): one row per accepted text in the plan's order, a few thousand rows per frame."""
    return _frames(PromptRecord, (_prompt(accepted, generator) for accepted in result.accepted))


def rejected_frames(result: GenerationResult) -> Iterator[pl.DataFrame]:
    """rejected.parquet (RejectedAttempt): one row per rejected attempt, in the same order and frames."""
    rows = (
        {"slot_id": result.slots[slot_index]["slot_id"], "attempt": attempt, "reason": reason, "detail": detail}
        for slot_index, attempt, reason, detail in result.rejected
    )
    return _frames(RejectedAttempt, rows)


def _frames(model: type[Row], rows: Iterator[dict[str, Any]]) -> Iterator[pl.DataFrame]:
    while block := list(islice(rows, _ROWS_PER_FRAME)):
        yield model.frame(block)


def _prompt(accepted: Accepted, generator: str) -> dict[str, Any]:
    slot_id = accepted.slot["slot_id"]
    return {
        "id": record_id(slot_id, accepted.text),
        "messages": [{"role": "user", "content": accepted.text}],
        "intended_labels": accepted.slot["labels"],
        "slot_id": slot_id,
        "generator": generator,
        "created_at": accepted.created_at,
        "attributes": _attributes(accepted),
    }


def record_id(slot_id: str, text: str) -> str:
    """The slot's number and eight digits of the text's SHA-256. A slot that gets another text gets another id, so that
    annotations of the old text are never joined to the new one."""
    return f"{slot_id.removeprefix('slot-')}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _attributes(accepted: Accepted) -> list[dict[str, str]]:
    return [
        {"name": name, "value": value}
        for name, value in accepted.slot.items()
        if name not in ("slot_id", "labels") and value is not None
    ]

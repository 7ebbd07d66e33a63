"""The outcome of the rounds as frames: prompts.parquet and rejected.parquet."""

from __future__ import annotations

import hashlib

import polars as pl

from pipeline.generation.writing import Accepted, Result
from schemas.artifacts import PromptRecord, RejectedAttempt


def prompts_frame(result: Result, generator: str) -> pl.DataFrame:
    """One row an accepted text, in the plan's order."""
    return PromptRecord.frame(
        [
            {
                "id": record_id(slot_id, accepted.text),
                "messages": [{"role": "user", "content": accepted.text}],
                "intended_labels": accepted.slot["labels"],
                "slot_id": slot_id,
                "generator": generator,
                "created_at": accepted.created_at,
                "attributes": _attributes(accepted),
            }
            for slot_id, accepted in result.accepted.items()
        ]
    )


def rejected_frame(result: Result) -> pl.DataFrame:
    """One row a rejected attempt, in the plan's order."""
    names = ("slot_id", "attempt", "reason", "detail")
    return RejectedAttempt.frame([dict(zip(names, row, strict=True)) for row in result.rejected])


def record_id(slot_id: str, text: str) -> str:
    """The slot's number and eight digits of the text's SHA-256: a slot that is written anew gets another id, so that no
    annotation of the old text can come to lie on the new one."""
    return f"{slot_id.removeprefix('slot-')}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _attributes(accepted: Accepted) -> list[dict[str, str]]:
    return [
        {"name": name, "value": value}
        for name, value in accepted.slot.items()
        if name not in ("slot_id", "labels") and value is not None
    ]

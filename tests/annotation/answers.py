"""Frames of answers for tests, from `{record: {annotator: labels}}`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl

from marginalia.schemas.tables import Answer

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


def answers(given: Mapping[str, Mapping[str, Sequence[str]]], *, round: str = "annotate") -> pl.DataFrame:
    """Submitted answers. The labels of an answer are a sequence, or a string of one-letter labels."""
    return Answer.frame(
        [
            row(record, annotator, list(labels), round=round)
            for record, by_annotator in given.items()
            for annotator, labels in by_annotator.items()
        ]
    )


def partial(given: Mapping[str, Mapping[str, tuple[str, str | None]]], *, round: str = "annotate") -> pl.DataFrame:
    """Submitted answers that may judge only some labels: (labels, judged labels or None for all), as one-letter
    labels."""
    rows = [
        row(record, annotator, list(labels), round=round) | {"judged": None if judged is None else list(judged)}
        for record, by_annotator in given.items()
        for annotator, (labels, judged) in by_annotator.items()
    ]
    return Answer.frame(rows)


def row(
    record: str, annotator: str, labels: list[str] | None, *, status: str = "submitted", round: str
) -> dict[str, Any]:
    return {
        "record_id": record,
        "annotator": annotator,
        "labels": labels,
        "status": status,
        "note": None,
        "submitted_at": NOW if status == "submitted" else None,
        "pulled_at": NOW,
        "round": round,
    }


def skipped(record: str, annotator: str) -> pl.DataFrame:
    return Answer.frame([row(record, annotator, None, status="discarded", round="annotate")])


def records(*ids: str) -> pl.DataFrame:
    """Records (id, messages) with some text."""
    schema = {"id": pl.String(), "messages": pl.List(pl.Struct({"role": pl.String(), "content": pl.String()}))}
    rows = [{"id": i, "messages": [{"role": "user", "content": f"text of {i}"}]} for i in ids]
    return pl.DataFrame(rows, schema=schema, orient="row")

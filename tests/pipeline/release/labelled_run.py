"""A run folder as pull, reconcile, generate and score leave it: six gold records by three annotators."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from marginalia.pipeline.core.run import Run, open_run
from marginalia.schemas.storage.files import write_frame
from marginalia.schemas.tables import Answer, GoldRecord, LabelScore, PromptRecord, RejectedAttempt

AT = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
GUARDS = "score:\n  guards:\n    - {name: policy-guard, guard: instruct, model: some/model}\n"
CANARY = "Zebulon Q. Featherstone"


def gold_row(name: str, labels: list[str] | None, split: str, status: str = "final", **changes: Any) -> dict[str, Any]:
    row = {
        "id": name,
        "messages": [{"role": "user", "content": f"My parcel {name} is late."}],
        "status": status,
        "labels": labels,
        "soft_labels": [{"label": "late_delivery", "probability": 2 / 3}],
        "votes": [{"label": "late_delivery", "yes": 2, "n": 3}],
        "n_annotators": 3,
        "agreement": 0.5,
        "method": "majority",
        "adjudicated": False,
        "split": split,
    }
    return {**row, **changes}


GOLD = [
    gold_row("r1", ["late_delivery"], "calibration"),
    gold_row("r2", ["late_delivery", "refund"], "calibration"),
    gold_row("r3", [], "test"),
    gold_row("r4", ["invoice"], "test"),
    gold_row("r5", None, "test", status="needs_adjudication"),
    gold_row("r6", None, "test", status="needs_answers"),
]


def answer(record: str, annotator: str, labels: list[str] | None, status: str = "submitted") -> dict[str, Any]:
    return {
        "record_id": record,
        "annotator": annotator,
        "labels": labels,
        "status": status,
        "note": f"asked {CANARY} about it",
        "submitted_at": AT,
        "pulled_at": AT,
        "round": "annotate",
    }


ANSWERS = [
    answer("r1", "A01", ["late_delivery"]),
    answer("r1", "A02", None, "discarded"),
    answer("r1", "A03", None, "draft"),
    answer("r2", "A01", []),
    answer("elsewhere", "A01", ["refund"]),
]


def make_run(
    root: Path,
    *,
    config: str = "",
    gold: list[dict[str, Any]] = GOLD,
    answers: list[dict[str, Any]] | None = ANSWERS,
    with_scores: bool = True,
    name: str = "tickets",
) -> Run:
    """The run in `root/name`; `config` is YAML that follows `taxonomy: support-tickets`."""
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(f"taxonomy: support-tickets\n{GUARDS}{config}", encoding="utf-8")
    write_frame(folder / "gold.parquet", GoldRecord.frame(gold), GoldRecord)
    if answers is not None:
        write_frame(folder / "annotations.parquet", Answer.frame(answers), Answer)
    prompts = [
        {
            "id": row["id"],
            "messages": row["messages"],
            "intended_labels": row["labels"] or [],
            "slot_id": f"s-{row['id']}",
            "generator": "small-model at http://127.0.0.1",
            "created_at": AT,
            "attributes": [],
        }
        for row in gold
    ]
    write_frame(folder / "prompts.parquet", PromptRecord.frame(prompts), PromptRecord)
    rejected = [{"slot_id": "s-r1", "attempt": 1, "reason": "refused", "detail": f"I cannot, said {CANARY}"}]
    write_frame(folder / "rejected.parquet", RejectedAttempt.frame(rejected), RejectedAttempt)
    if with_scores:
        scores = pl.DataFrame(
            [
                {
                    "record_id": row["id"],
                    "estimator": "marginal",
                    "label": label,
                    "probability": 0.5,
                    "lower": 0.25,
                    "upper": 0.75,
                }
                for row in gold
                for label in ("late_delivery", "unsafe")
            ],
            schema=LabelScore.polars_schema(),
        )
        write_frame(folder / "scores" / "policy-guard.parquet", scores, LabelScore)
    return open_run(folder)

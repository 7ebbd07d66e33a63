"""A run folder with every artifact up to `score`, made from the artifact models: gold with known labels, and a guard
whose scores are as good as `skill` says (0: chance, 1: nearly right)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from marginalia.schemas.agreement_json import Agreement, AnnotatorAgreement, Estimate, LabelAgreement
from marginalia.schemas.manifest_json import Manifest
from marginalia.schemas.storage.files import sha256, write_frame, write_json
from marginalia.schemas.table_row import Row
from marginalia.schemas.tables import (
    Answer,
    GoldRecord,
    LabelScore,
    PlannedSlot,
    PromptRecord,
    RejectedAttempt,
    ScoredRecord,
)
from marginalia.schemas.taxonomy import Taxonomy, load_taxonomy

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ESTIMATORS = ("marginal", "marginal_constrained", "conditional", "joint", "greedy")
FORMS = ("e-mail", "chat", "phone note")


@dataclass(frozen=True)
class Synthetic:
    """How the made run looks."""

    n: int = 48
    skill: float = 0.0
    seed: int = 7
    guard: str = "smollm2"
    safe_share: float = 0.15
    unresolved: int = 3
    failed: int = 1
    texts: list[str] = field(default_factory=list)
    taxonomy: str = "support-tickets"


@dataclass(frozen=True)
class Frames:
    """The made artifacts, in memory."""

    taxonomy: Taxonomy
    gold: pl.DataFrame
    scores: pl.DataFrame
    records: pl.DataFrame
    prompts: pl.DataFrame
    plan: pl.DataFrame
    rejected: pl.DataFrame
    annotations: pl.DataFrame


def make_frames(made: Synthetic) -> Frames:
    taxonomy = load_taxonomy(made.taxonomy)
    rng = np.random.default_rng(made.seed)
    labels = taxonomy.ids
    truth = rng.random((made.n, len(labels))) < 0.14
    truth[rng.random(made.n) < made.safe_share] = False
    ids = [f"r{number:05d}" for number in range(made.n)]
    votes = np.stack([truth ^ (rng.random(truth.shape) < 0.04) for _ in range(3)])
    gold, prompts = [], []
    for row, record in enumerate(ids):
        own = [label for column, label in enumerate(labels) if truth[row, column]]
        text = made.texts[row % len(made.texts)] if made.texts else f"Message {row}: " + ", ".join(own or ["hello"])
        messages = [{"role": "user", "content": text}]
        resolved = row >= made.unresolved
        status = "final" if resolved else "needs_adjudication"
        gold.append(_gold_row(record, messages, status, own, labels, votes[:, row], rng))
        attributes = [
            {"name": "form", "value": FORMS[row % 3]},
            {"name": "difficulty", "value": "blatant" if row % 2 else "veiled"},
        ]
        prompts.append(
            {
                "id": record,
                "messages": messages,
                "intended_labels": own,
                "slot_id": f"s{row:05d}",
                "generator": "smollm2-135m @ http://127.0.0.1",
                "created_at": NOW,
                "attributes": attributes,
            }
        )
    scores, records = _scores(made, ids, labels, truth, rng)
    slots = [{"slot_id": f"s{row:05d}", "labels": [], "form": FORMS[row % 3]} for row in range(made.n + 4)]
    return Frames(
        taxonomy=taxonomy,
        gold=GoldRecord.frame(gold),
        scores=scores,
        records=records,
        prompts=PromptRecord.frame(prompts),
        plan=pl.DataFrame(slots, schema={**PlannedSlot.polars_schema(), "form": pl.String()}),
        rejected=_rejected(made.n),
        annotations=_answers(ids, labels, votes),
    )


def _gold_row(
    record: str,
    messages: list[dict[str, str]],
    status: str,
    own: list[str],
    labels: list[str],
    votes: np.ndarray,
    rng: np.random.Generator,
) -> dict[str, Any]:
    counts = votes.sum(0)
    return {
        "id": record,
        "messages": messages,
        "status": status,
        "labels": own if status == "final" else None,
        "soft_labels": [{"label": label, "probability": counts[i] / 3} for i, label in enumerate(labels)],
        "votes": [{"label": label, "yes": int(counts[i]), "n": 3} for i, label in enumerate(labels)],
        "n_annotators": 3,
        "agreement": 0.8,
        "method": "majority",
        "adjudicated": False,
        "split": str(rng.choice(["calibration", "test"])),
    }


def _scores(
    made: Synthetic, ids: list[str], labels: list[str], truth: np.ndarray, rng: np.random.Generator
) -> tuple[pl.DataFrame, pl.DataFrame]:
    noise = rng.normal(size=truth.shape)
    common = rng.normal(size=len(labels)) * 0.5
    rows, records = [], []
    for place, name in enumerate(ESTIMATORS):
        blur = 1.0 + 0.3 * place
        z = -1.2 + common + 3.5 * made.skill * truth + noise * 0.8 + rng.normal(size=truth.shape) * 0.3 * blur
        p = 1 / (1 + np.exp(-z))
        if name in ("conditional", "joint"):
            p = np.where(p > 0.3, p, 0.0)
        if name == "greedy":
            p = (p > 0.4).astype(float)
        verdict = 1 - np.prod(1 - p * 0.6, axis=1)
        width = 0.02 if name.startswith("marginal") else 0.0
        for row, record in enumerate(ids):
            if row < made.unresolved + made.failed:
                continue
            for label, value in [*zip(labels, p[row], strict=True), ("unsafe", verdict[row])]:
                low, high = max(0.0, value - width), min(1.0, value + width)
                rows.append((record, name, label, float(value), float(low), float(high)))
    for row, record in enumerate(ids):
        failed = made.unresolved <= row < made.unresolved + made.failed
        records.append(
            {
                "record_id": record,
                "answer": None if failed else "unsafe\nS1",
                "predicted": None if failed else [labels[row % len(labels)]],
                "off_language": None if failed else 0.12,
                "unexplored": None if failed else 0.03,
                "nodes": 0 if failed else 57,
                "forward_passes": 0 if failed else 9,
                "seconds": 0.8,
                "error": "too long: 9,000 tokens, the model takes 8,192" if failed else None,
            }
        )
    frame = pl.DataFrame(rows, schema=LabelScore.polars_schema(), orient="row")
    return frame, ScoredRecord.frame(records)


def _rejected(n: int) -> pl.DataFrame:
    reasons = ["duplicate", "too_short", "language", "answered", "duplicate", "copied", "duplicate"]
    return RejectedAttempt.frame(
        [
            {"slot_id": f"s{n + row % 4:05d}", "attempt": 1 + row // 4, "reason": reason, "detail": "…"}
            for row, reason in enumerate(reasons)
        ]
    )


def _answers(ids: list[str], labels: list[str], votes: np.ndarray) -> pl.DataFrame:
    rows = []
    for row, record in enumerate(ids):
        for person in range(3):
            ticked = [label for column, label in enumerate(labels) if votes[person, row, column]]
            rows.append(
                {
                    "record_id": record,
                    "annotator": f"A{person + 1:02d}",
                    "labels": ticked,
                    "status": "submitted",
                    "note": None,
                    "submitted_at": NOW,
                    "pulled_at": NOW,
                    "round": "annotate",
                }
            )
    return Answer.frame(rows)


def make_agreement(taxonomy: Taxonomy, n: int, *, simulated: bool) -> Agreement:
    def estimate(value: float) -> Estimate:
        return Estimate(value=value, low=value - 0.11, high=min(1.0, value + 0.09), n=n)

    unknown = Estimate(value=None, low=None, high=None, n=n)
    return Agreement(
        simulated=simulated,
        taxonomy=taxonomy.id,
        records=n,
        pairable=n,
        answers=3 * n,
        annotators=3,
        alpha_masi=estimate(0.71),
        alpha_mean=estimate(0.68),
        exact=estimate(0.55),
        jaccard=estimate(0.78),
        per_label=[
            LabelAgreement(
                label=label,
                alpha=estimate(0.4 + 0.5 * (place % 5) / 5) if place != 3 else unknown,
                percent=estimate(0.8 + 0.01 * place),
                ticked=0.1,
            )
            for place, label in enumerate(taxonomy.ids)
        ],
        per_annotator=[
            AnnotatorAgreement(
                annotator=f"A{person:02d}",
                answers=n,
                labels_per_answer=1.6,
                kappa=estimate(0.6 + 0.05 * person),
                precision=estimate(0.8),
                recall=estimate(0.7),
                per_label=[],
            )
            for person in (1, 2, 3)
        ],
        pairs=[],
        notes=["answers of programs"] if simulated else [],
    )


def make_manifest(
    folder: Path, stage: str, files: list[str], counts_in: dict[str, int], counts_out: dict[str, int], seconds: float
) -> Manifest:
    return Manifest(
        stage=stage,
        inputs={"config.yaml": "0" * 64},
        outputs={name: sha256(folder / name) for name in files},
        config_sha256="ab" * 32,
        counts_in=counts_in,
        counts_out=counts_out,
        seconds=seconds,
        tokens={"prompt": 21_034, "completion": 3_912} if stage == "generate" else {},
        models={"smollm2-135m": "sha256:feedbeef"} if stage in ("generate", "score") else {},
        versions={"python": "3.11.4", "polars": "2.1.0"},
        finished_at=NOW,
    )


def write_run(folder: Path, made: Synthetic, *, simulated: bool = True, whole: bool = True) -> Frames:
    """Writes the artifacts into `folder`; without `whole` only gold and scores, as after `import`."""
    frames = make_frames(made)
    n = made.n

    def put(name: str, frame: pl.DataFrame, model: type[Row]) -> None:
        write_frame(folder / name, frame, model)

    put("gold.parquet", frames.gold, GoldRecord)
    put(f"scores/{made.guard}.parquet", frames.scores, LabelScore)
    put(f"scores/{made.guard}.records.parquet", frames.records, ScoredRecord)
    if not whole:
        return frames
    put("plan.parquet", frames.plan, PlannedSlot)
    put("prompts.parquet", frames.prompts, PromptRecord)
    put("rejected.parquet", frames.rejected, RejectedAttempt)
    put("annotations.parquet", frames.annotations, Answer)
    agreement = make_agreement(frames.taxonomy, n, simulated=simulated)
    write_json(folder / "agreement.json", agreement.model_dump(mode="json"))
    manifests = [
        make_manifest(folder, "plan", ["plan.parquet"], {}, {"slots": n + 4}, 0.2),
        make_manifest(
            folder,
            "generate",
            ["prompts.parquet", "rejected.parquet"],
            {"slots": n + 4},
            {"accepted": n, "rejected": 7, "open": 4},
            141.0,
        ),
        make_manifest(folder, "push", [], {"records": n}, {"pushed": n}, 3.1),
        make_manifest(folder, "pull", ["annotations.parquet"], {"records": n}, {"answers": 3 * n}, 1.9),
        make_manifest(
            folder,
            "reconcile",
            ["gold.parquet", "agreement.json"],
            {"answers": 3 * n},
            {"final": n - made.unresolved},
            0.9,
        ),
        make_manifest(
            folder, "score", [f"scores/{made.guard}.parquet"], {"records": n}, {"scored": n - made.failed}, 74.0
        ),
    ]
    for manifest in manifests:
        write_json(folder / f"manifests/{manifest.stage}.json", manifest.model_dump(mode="json"))
    return frames

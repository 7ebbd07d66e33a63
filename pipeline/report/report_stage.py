"""report: everything a run has → report.html."""

from __future__ import annotations

from typing import TypeVar

import polars as pl
from pydantic import BaseModel

from pipeline.reading import read_gold
from pipeline.run import Run
from pipeline.stage import Outcome, Stage, read_manifest
from schemas.agreement import Agreement
from schemas.artifacts import Answer, AuditedRecord, PlannedSlot, PromptRecord, RejectedAttempt
from schemas.evaluation import Evaluation
from schemas.files import read_frame, read_model, write_text
from schemas.generation import Generation
from schemas.rows import Row

REPORT = "report.html"
# stages whose manifests the page tells of: those before it
TOLD = ("plan", "generate", "import", "push", "pull", "reconcile", "adjudicate", "score", "audit", "evaluate")
OPTIONAL = (
    "plan.parquet",
    "prompts.parquet",
    "rejected.parquet",
    "annotations.parquet",
    "agreement.json",
    "audit.parquet",
    "generation.json",
)
ModelT = TypeVar("ModelT", bound=BaseModel)


def inputs(run: Run) -> list[str]:
    optional = [*OPTIONAL, *(f"manifests/{stage}.json" for stage in TOLD)]
    return ["evaluation.json", "gold.parquet", *(name for name in optional if run.path(name).exists())]


def work(run: Run) -> Outcome:
    from pipeline.report.material import Material, currency_of
    from pipeline.report.page import build_page

    evaluation = read_model(run.path("evaluation.json"), Evaluation, made_by=run.command("evaluate"))
    manifests = [manifest for stage in TOLD if (manifest := read_manifest(run, stage)) is not None]
    page = build_page(
        Material(
            name=run.name,
            seed=run.config.seed,
            simulated=run.config.simulated,
            taxonomy=run.taxonomy,
            evaluation=evaluation,
            gold=read_gold(run),
            agreement=_model(run, "agreement.json", Agreement, "reconcile"),
            manifests=manifests,
            plan=_frame(run, "plan.parquet", PlannedSlot, "plan"),
            prompts=_frame(run, "prompts.parquet", PromptRecord, "generate"),
            rejected=_frame(run, "rejected.parquet", RejectedAttempt, "generate"),
            annotations=_frame(run, "annotations.parquet", Answer, "pull"),
            currency=currency_of(manifests),
            audited=_frame(run, "audit.parquet", AuditedRecord, "audit"),
            generation=_model(run, "generation.json", Generation, "generate"),
        )
    )
    write_text(run.path(REPORT), page)
    return Outcome(
        counts_in={"gold": evaluation.gold.records, "guards": len(evaluation.guards), "manifests": len(manifests)},
        counts_out={"characters": len(page)},
        facts={"simulated": run.config.simulated},
    )


def _frame(run: Run, name: str, model: type[Row], stage: str) -> pl.DataFrame | None:
    path = run.path(name)
    return read_frame(path, model, made_by=run.command(stage)) if path.exists() else None


def _model(run: Run, name: str, model: type[ModelT], stage: str) -> ModelT | None:
    path = run.path(name)
    return read_model(path, model, made_by=run.command(stage)) if path.exists() else None


STAGE = Stage(
    name="report",
    summary="one self-contained page of everything that was measured",
    inputs=inputs,
    outputs=lambda run: [REPORT],
    sections=("evaluate",),
    work=work,
)

"""report: everything a run has → report.html."""

from __future__ import annotations

from typing import TypeVar

import polars as pl
from pydantic import BaseModel

from marginalia.pipeline.core.checked_tables import read_gold
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.stage_runner import Stage, StageOutcome, read_manifest
from marginalia.schemas.agreement_json import Agreement
from marginalia.schemas.evaluation_json import Evaluation
from marginalia.schemas.generation_json import Generation
from marginalia.schemas.storage.files import read_frame, read_model, write_text
from marginalia.schemas.table_row import Row
from marginalia.schemas.tables import Answer, AuditedRecord, PlannedSlot, PromptRecord, RejectedAttempt

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


def work(run: Run) -> StageOutcome:
    from marginalia.pipeline.report.report_data import ReportData, currency_of
    from marginalia.pipeline.report.report_page import build_page

    evaluation = read_model(run.path("evaluation.json"), Evaluation, made_by=run.command("evaluate"))
    manifests = [manifest for stage in TOLD if (manifest := read_manifest(run, stage)) is not None]
    page = build_page(
        ReportData(
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
    return StageOutcome(
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

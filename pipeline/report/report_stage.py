"""report: everything a run has → report.html."""

from __future__ import annotations

from marginalia.pipeline.core.artifacts import (
    AGREEMENT,
    ANSWERS,
    AUDIT,
    EVALUATION,
    GENERATION,
    GOLD,
    PLAN,
    PROMPTS,
    REJECTED,
    REPORT,
)
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.stage_order import stages_before
from marginalia.pipeline.core.stage_runner import Stage, StageOutcome, read_manifest
from marginalia.schemas.storage.files import write_text

SHOWN = (PLAN, PROMPTS, REJECTED, ANSWERS, AGREEMENT, AUDIT, GENERATION)  # where the run has them
MANIFESTS = stages_before("report")  # the page shows what these stages did


def inputs(run: Run) -> list[str]:
    optional = [*(one.name for one in SHOWN), *(f"manifests/{stage}.json" for stage in MANIFESTS)]
    return [EVALUATION.name, GOLD.name, *(name for name in optional if run.path(name).exists())]


def work(run: Run) -> StageOutcome:
    from marginalia.pipeline.report.report_data import ReportData, currency_of
    from marginalia.pipeline.report.report_page import build_page

    evaluation = EVALUATION.read(run)
    manifests = [manifest for stage in MANIFESTS if (manifest := read_manifest(run, stage)) is not None]
    page = build_page(
        ReportData(
            name=run.name,
            seed=run.config.seed,
            simulated=run.config.simulated,
            taxonomy=run.taxonomy,
            evaluation=evaluation,
            gold=GOLD.read(run),
            agreement=AGREEMENT.read_if_there(run),
            manifests=manifests,
            plan=PLAN.read_if_there(run),
            prompts=PROMPTS.read_if_there(run),
            rejected=REJECTED.read_if_there(run),
            annotations=ANSWERS.read_if_there(run),
            currency=currency_of(manifests),
            audited=AUDIT.read_if_there(run),
            generation=GENERATION.read_if_there(run),
        )
    )
    write_text(REPORT.path(run), page)
    return StageOutcome(
        counts_in={"gold": evaluation.gold.records, "guards": len(evaluation.guards), "manifests": len(manifests)},
        counts_out={"characters": len(page)},
        facts={"simulated": run.config.simulated},
    )


STAGE = Stage(
    name="report",
    inputs=inputs,
    outputs=lambda run: [REPORT.name],
    sections=("evaluate",),
    work=work,
)

"""Stage report: the files of a run → report.html."""

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

OPTIONAL_FILES = (PLAN, PROMPTS, REJECTED, ANSWERS, AGREEMENT, AUDIT, GENERATION)
MANIFESTS = stages_before("report")  # stages whose manifests the page shows


def _inputs(run: Run) -> list[str]:
    optional = [*(artifact.name for artifact in OPTIONAL_FILES), *(f"manifests/{stage}.json" for stage in MANIFESTS)]
    return [EVALUATION.name, GOLD.name, *(name for name in optional if run.path(name).exists())]


def _work(run: Run) -> StageOutcome:
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
            agreement=AGREEMENT.read_if_present(run),
            manifests=manifests,
            plan=PLAN.read_if_present(run),
            prompts=PROMPTS.read_if_present(run),
            rejected=REJECTED.read_if_present(run),
            annotations=ANSWERS.read_if_present(run),
            currency=currency_of(manifests),
            audited=AUDIT.read_if_present(run),
            generation=GENERATION.read_if_present(run),
            primary=run.config.evaluate.primary,
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
    inputs=_inputs,
    outputs=lambda run: [REPORT.name],
    sections=("evaluate",),
    work=_work,
)

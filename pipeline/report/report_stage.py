"""Stage report: the files of a run → report.html."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

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
    SCORED_RECORDS,
    SCORES,
)
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.stage_order import stages_before
from marginalia.pipeline.core.stage_runner import Stage, StageOutcome, read_manifest
from marginalia.schemas.storage.files import write_text

if TYPE_CHECKING:
    import polars as pl

    from marginalia.pipeline.evaluation.guard_tables import GuardTable

OPTIONAL_FILES = (PLAN, PROMPTS, REJECTED, ANSWERS, AGREEMENT, AUDIT, GENERATION)
MANIFESTS = stages_before("report")  # stages whose manifests the page shows


def _inputs(run: Run) -> list[str]:
    optional = [*(artifact.name for artifact in OPTIONAL_FILES), *(f"manifests/{stage}.json" for stage in MANIFESTS)]
    optional += [
        artifact.of(guard.name).name for guard in run.config.score.guards for artifact in (SCORES, SCORED_RECORDS)
    ]
    return [EVALUATION.name, GOLD.name, *(name for name in optional if run.path(name).exists())]


def _guard_tables(run: Run, gold: pl.DataFrame, prompts: pl.DataFrame | None) -> Iterator[GuardTable]:
    """What each guard was judged on, of the guards whose scores the run still has."""
    from marginalia.pipeline.evaluation.evaluate_guards import attribute_rows, chosen_gold
    from marginalia.pipeline.evaluation.guard_tables import guard_table

    judged = chosen_gold(gold, attribute_rows(prompts) if prompts is not None else None, run.config.evaluate.where)
    for guard in run.config.score.guards:
        scores, records = SCORES.of(guard.name), SCORED_RECORDS.of(guard.name)
        if scores.exists(run) and records.exists(run):
            yield guard_table(guard.name, judged, scores.read(run), records.read(run), run.taxonomy.ids)


def _work(run: Run) -> StageOutcome:
    from marginalia.pipeline.report.report_data import ReportData, currency_of
    from marginalia.pipeline.report.report_page import build_page

    evaluation = EVALUATION.read(run)
    manifests = [manifest for stage in MANIFESTS if (manifest := read_manifest(run, stage)) is not None]
    gold, prompts = GOLD.read(run), PROMPTS.read_if_present(run)
    page = build_page(
        ReportData(
            name=run.name,
            seed=run.config.seed,
            simulated=run.config.simulated,
            taxonomy=run.taxonomy,
            evaluation=evaluation,
            gold=gold,
            agreement=AGREEMENT.read_if_present(run),
            manifests=manifests,
            plan=PLAN.read_if_present(run),
            prompts=prompts,
            rejected=REJECTED.read_if_present(run),
            annotations=ANSWERS.read_if_present(run),
            currency=currency_of(manifests),
            audited=AUDIT.read_if_present(run),
            generation=GENERATION.read_if_present(run),
            primary=run.config.evaluate.primary,
            where=run.config.evaluate.where,
            tables=list(_guard_tables(run, gold, prompts)),
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

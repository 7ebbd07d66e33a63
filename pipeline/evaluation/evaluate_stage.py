"""evaluate: gold.parquet and scores/ → evaluation.json, thresholds.json, calibration.json."""

from __future__ import annotations

from pathlib import Path

from marginalia.pipeline.core.checked_tables import read_gold, read_scores
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.stage_runner import Stage, StageOutcome
from marginalia.schemas.evaluation_json import GuardEvaluation
from marginalia.schemas.manifest_json import Missing
from marginalia.schemas.storage.files import read_frame, write_json
from marginalia.schemas.tables import PromptRecord, ScoredRecord

NO_SCORES = ("scoring failed", "not scored", "scores incomplete")  # of GuardEvaluation.left_out
EVALUATION, THRESHOLDS, CALIBRATION = "evaluation.json", "thresholds.json", "calibration.json"


def inputs(run: Run) -> list[str]:
    """Prompts give attributes; an imported gold set has none."""
    prompts = [name for name in ["prompts.parquet"] if run.path(name).exists()]
    return ["gold.parquet", *score_files(run), *prompts]


def score_files(run: Run) -> list[str]:
    names = [guard.name for guard in run.config.score.guards]
    return [f"scores/{name}{part}.parquet" for name in names for part in ("", ".records")]


def work(run: Run) -> StageOutcome:
    from marginalia.pipeline.evaluation.evaluate_guards import GuardScores, evaluate

    gold = read_gold(run)
    prompts = run.path("prompts.parquet")
    guards = [
        GuardScores(
            guard.name,
            read_scores(run, guard.name),
            read_frame(run.path(f"scores/{guard.name}.records.parquet"), ScoredRecord, made_by=run.command("score")),
            family=Path(guard.guard).stem,
            model=guard.model,
            tolerance=run.config.score.tolerance,
        )
        for guard in run.config.score.guards
    ]
    results = evaluate(
        gold,
        guards,
        read_frame(prompts, PromptRecord, made_by=run.command("generate")) if prompts.exists() else None,
        run.taxonomy,
        run.config.evaluate,
        seed=run.config.seed,
        simulated=run.config.simulated,
    )
    write_json(run.path(EVALUATION), results.evaluation.model_dump(mode="json"))
    write_json(run.path(THRESHOLDS), results.thresholds.model_dump(mode="json"))
    write_json(run.path(CALIBRATION), results.calibrations.model_dump(mode="json"))
    counts = results.evaluation.gold
    return StageOutcome(
        counts_in={"gold": counts.records, "final": counts.final, "guards": len(guards)},
        counts_out={
            "records_judged": max((page.records for page in results.evaluation.guards), default=0),
            "estimators": sum(not one.baseline for page in results.evaluation.guards for one in page.estimators),
        },
        facts={
            "simulated": run.config.simulated,
            "left_out": counts.left_out,
            "warnings": counts.equal_texts.warnings if counts.equal_texts else [],
        },
        missing=[one for page in results.evaluation.guards for one in _missing(run, page)],
    )


def _missing(run: Run, page: GuardEvaluation) -> list[Missing]:
    """Records that should have scores of this guard and have none; what evaluate.where leaves out is not missing."""
    left = {reason: n for reason, n in page.left_out.items() if reason in NO_SCORES}
    how = f"{run.command('score')}, then: {run.command('evaluate')}"
    said = ", ".join(f"{n:,} {reason}" for reason, n in left.items())
    total = page.records + sum(page.left_out.values())
    found = (
        [f"{sum(left.values()):,} of {total:,} final records are not judged for {page.guard} ({said})"] if left else []
    )
    found += [f"{name} of {page.guard} is not judged: it {why}" for name, why in page.estimators_left_out.items()]
    return [Missing(what=what, how=how) for what in found]


STAGE = Stage(
    name="evaluate",
    summary="measure every estimator against gold: metrics with intervals, calibration, thresholds",
    inputs=inputs,
    outputs=lambda run: [EVALUATION, THRESHOLDS, CALIBRATION],
    sections=("evaluate",),
    work=work,
)

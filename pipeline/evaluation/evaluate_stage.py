"""evaluate: gold.parquet and scores/ → evaluation.json, thresholds.json, calibration.json."""

from __future__ import annotations

from pathlib import Path

from marginalia.pipeline.core.artifacts import (
    CALIBRATION,
    EVALUATION,
    GOLD,
    PROMPTS,
    SCORED_RECORDS,
    SCORES,
    THRESHOLDS,
)
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.stage_runner import Stage, StageOutcome
from marginalia.schemas.evaluation_json import GuardEvaluation
from marginalia.schemas.manifest_json import Missing

NO_SCORES = ("scoring failed", "not scored", "scores incomplete")  # of GuardEvaluation.left_out


def inputs(run: Run) -> list[str]:
    """Prompts give attributes; an imported gold set has none."""
    return [GOLD.name, *score_files(run), *([PROMPTS.name] if PROMPTS.exists(run) else [])]


def score_files(run: Run) -> list[str]:
    return [one.of(guard.name).name for guard in run.config.score.guards for one in (SCORES, SCORED_RECORDS)]


def work(run: Run) -> StageOutcome:
    from marginalia.pipeline.evaluation.evaluate_guards import GuardScores, evaluate

    gold = GOLD.read(run)
    guards = [
        GuardScores(
            guard.name,
            SCORES.of(guard.name).read(run),
            SCORED_RECORDS.of(guard.name).read(run),
            family=Path(guard.guard).stem,
            model=guard.model,
            tolerance=run.config.score.tolerance,
        )
        for guard in run.config.score.guards
    ]
    results = evaluate(
        gold,
        guards,
        PROMPTS.read_if_there(run),
        run.taxonomy,
        run.config.evaluate,
        seed=run.config.seed,
        simulated=run.config.simulated,
    )
    EVALUATION.write(run, results.evaluation)
    THRESHOLDS.write(run, results.thresholds)
    CALIBRATION.write(run, results.calibrations)
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
        },
        warnings=counts.equal_texts.warnings if counts.equal_texts else [],
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
    inputs=inputs,
    outputs=lambda run: [EVALUATION.name, THRESHOLDS.name, CALIBRATION.name],
    sections=("evaluate",),
    work=work,
)

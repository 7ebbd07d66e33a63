"""evaluate: gold.parquet and scores/ → evaluation.json, thresholds.json, calibration.json."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
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
from marginalia.pipeline.core.stage_runner import Stage, StageOutcome, read_manifest
from marginalia.schemas.errors import InputError
from marginalia.schemas.evaluation_json import Evaluation, GuardEvaluation
from marginalia.schemas.label_coverage import GuardCoverage
from marginalia.schemas.manifest_json import Missing

NO_SCORES = ("scoring failed", "not scored", "scores incomplete")  # of GuardEvaluation.left_out


def _inputs(run: Run) -> list[str]:
    """Gold, scores and, where the run has them, prompts: they contain the attributes."""
    return [GOLD.name, *_score_files(run), *([PROMPTS.name] if PROMPTS.exists(run) else [])]


def _score_files(run: Run) -> list[str]:
    return [artifact.of(guard.name).name for guard in run.config.score.guards for artifact in (SCORES, SCORED_RECORDS)]


def _work(run: Run) -> StageOutcome:
    from marginalia.pipeline.evaluation.evaluate_guards import GuardScores, evaluate
    from marginalia.pipeline.evaluation.evaluation_warnings import evaluation_warnings

    gold = GOLD.read(run)
    guards = [
        GuardScores(
            guard.name,
            SCORES.of(guard.name).read(run),
            SCORED_RECORDS.of(guard.name).read(run),
            family=Path(guard.guard).stem,
            model=guard.model,
            tolerance=run.config.score.tolerance,
            is_outside=_format_check(run, guard.guard),
            coverage=_coverage(run, guard.name),
        )
        for guard in run.config.score.guards
    ]
    results = evaluate(
        gold,
        guards,
        PROMPTS.read_if_present(run),
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
            "records_judged": max((guard.records for guard in results.evaluation.guards), default=0),
            "estimators": sum(
                not estimator.baseline for guard in results.evaluation.guards for estimator in guard.estimators
            ),
        },
        facts={
            "simulated": run.config.simulated,
            "left_out": counts.left_out,
        },
        warnings=list(evaluation_warnings(results.evaluation)),
        missing=list(_missing(run, results.evaluation)),
    )


def _coverage(run: Run, guard: str) -> GuardCoverage | None:
    """What the stage score found; its manifest is of the scores, and config.yaml may have changed since."""
    manifest = read_manifest(run, "score")
    facts = manifest.facts.get(guard, {}) if manifest is not None else {}
    return GuardCoverage.model_validate(facts["coverage"]) if facts.get("coverage") else None


def _format_check(run: Run, guard: str) -> Callable[[str], bool] | None:
    """Whether a greedy answer is outside the guard's format; None when the guard file cannot be read."""
    from marginalia.scoring.guard import load_guard
    from marginalia.scoring.off_format import outside_format

    try:
        return partial(outside_format, load_guard(guard, run.taxonomy, relative_to=run.folder))
    except InputError:
        return None


def _missing(run: Run, evaluation: Evaluation) -> Iterator[Missing]:
    gold = evaluation.gold
    if not gold.final:
        statuses = ", ".join(f"{n:,} {status}" for status, n in gold.left_out.items())
        what = f"nothing is evaluated: none of the {gold.records:,} gold records is final ({statuses})"
        yield Missing(what=what, how=run.command("status"))
        return
    for guard in evaluation.guards:
        yield from _without_scores(run, guard)


def _without_scores(run: Run, guard: GuardEvaluation) -> list[Missing]:
    """Records and estimators that are not judged for want of scores. Records that evaluate.where excludes are not
    missing."""
    without_scores = {reason: n for reason, n in guard.left_out.items() if reason in NO_SCORES}
    how = f"{run.command('score')}, then: {run.command('evaluate')}"
    reasons = ", ".join(f"{n:,} {reason}" for reason, n in without_scores.items())
    total = guard.records + sum(guard.left_out.values())
    problems = []
    if without_scores:
        n = sum(without_scores.values())
        problems.append(f"{n:,} of {total:,} final records are not judged for {guard.guard} ({reasons})")
    if guard.records:  # else no estimator covers any record, as the line above says
        problems += [
            f"{name} of {guard.guard} is not judged: it {why}" for name, why in guard.estimators_left_out.items()
        ]
    return [Missing(what=what, how=how) for what in problems]


STAGE = Stage(
    name="evaluate",
    inputs=_inputs,
    outputs=lambda run: [EVALUATION.name, THRESHOLDS.name, CALIBRATION.name],
    sections=("evaluate",),
    work=_work,
)

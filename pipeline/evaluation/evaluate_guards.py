"""Gold and scores → evaluation.json, thresholds.json, calibration.json."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import polars as pl

from marginalia.pipeline.config.evaluation import EvaluateSection
from marginalia.pipeline.evaluation.answer_format_gate import (
    answer_format,
    marked,
    withheld_reason,
    without_thresholds,
)
from marginalia.pipeline.evaluation.estimator_choice import against_frequency, differences, guard_differences, recommend
from marginalia.pipeline.evaluation.estimator_evaluation import EvaluatedEstimator, evaluate_estimator
from marginalia.pipeline.evaluation.failure_analysis import confusions, slices, worst_records
from marginalia.pipeline.evaluation.guard_tables import LABEL_FREQUENCY, GuardTable, count_gold, guard_table
from marginalia.pipeline.evaluation.paired_differences import JudgedEstimator
from marginalia.pipeline.evaluation.tolerance import bounds_effect
from marginalia.schemas.calibration_json import Calibration, CalibrationFile
from marginalia.schemas.errors import InputError
from marginalia.schemas.evaluation_json import Evaluation, GuardEvaluation, OnlyBounds, Threshold
from marginalia.schemas.label_coverage import GuardCoverage
from marginalia.schemas.progress import progress
from marginalia.schemas.taxonomy import Taxonomy
from marginalia.schemas.thresholds_json import EstimatorThresholds, GuardThresholds, ServiceThreshold, ThresholdsFile

MANY_VALUES, MOST_THREADS = 100_000, 4


@dataclass(frozen=True)
class GuardScores:
    """The score files of one guard, and the settings that they were made with."""

    guard: str
    scores: pl.DataFrame  # LabelScore
    records: pl.DataFrame  # ScoredRecord
    family: str | None = None  # name of its guard file, for calibration.json
    model: str | None = None
    tolerance: float | None = None  # widest bounds that the search should leave (score.tolerance)
    is_outside: Callable[[str], bool] | None = None  # whether a greedy answer is outside the guard's format
    coverage: GuardCoverage | None = None  # of the labels, if the guard has other categories


@dataclass(frozen=True)
class Results:
    """The contents of evaluation.json, thresholds.json and calibration.json."""

    evaluation: Evaluation
    thresholds: ThresholdsFile
    calibrations: CalibrationFile


def evaluate(
    gold: pl.DataFrame,
    guards: list[GuardScores],
    prompts: pl.DataFrame | None,
    taxonomy: Taxonomy,
    config: EvaluateSection,
    *,
    seed: int,
    simulated: bool,
) -> Results:
    """Judges every estimator of every guard against `gold` (GoldRecord). `prompts` (PromptRecord) contain the records'
    attributes; None when there are none."""
    attributes = attribute_rows(prompts) if prompts is not None else None
    guard_evaluations, thresholds_by_guard, calibrations, recommended = [], {}, [], []
    judged = chosen_gold(gold, attributes, config.where)
    for files in guards:
        table = guard_table(files.guard, judged, files.scores, files.records, taxonomy.ids)
        if judged.height < gold.height:
            table.left_out["not chosen by evaluate.where"] = (
                count_gold(gold, taxonomy.ids).final - count_gold(judged, taxonomy.ids).final
            )
        evaluated = _evaluate_estimators(table, config, seed, simulated)
        guard_evaluation = _evaluate_guard(table, files, evaluated, attributes, config, seed)
        guard_evaluations.append(guard_evaluation)
        found = guard_evaluation.answer_format
        thresholds_by_guard[files.guard] = without_thresholds(_guard_thresholds(guard_evaluation), found)
        if guard_evaluation.recommended is not None and withheld_reason(found) is None:
            recommended.append(JudgedEstimator.of(table, evaluated[guard_evaluation.recommended].report))
        categories = files.coverage.labels if files.coverage is not None else None
        calibrations += [
            marked(fitted, found).model_copy(
                update={"family": files.family, "model": files.model, "categories": categories}
            )
            for fitted in _calibrations(guard_evaluation.recommended, evaluated)
        ]
    evaluation = Evaluation(
        simulated=simulated,
        taxonomy=taxonomy.id,
        confidence=config.confidence,
        resamples=config.resamples,
        seed=seed,
        gold=count_gold(gold, taxonomy.ids),
        guards=guard_evaluations,
        guard_differences=guard_differences(recommended, config, seed),
    )
    thresholds_file = ThresholdsFile(
        simulated=simulated, taxonomy=taxonomy.id, confidence=config.confidence, guards=thresholds_by_guard
    )
    return Results(evaluation, thresholds_file, CalibrationFile(calibrations=calibrations))


def _evaluate_estimators(
    table: GuardTable, config: EvaluateSection, seed: int, simulated: bool
) -> dict[str, EvaluatedEstimator]:
    """The evaluation of every estimator. Large tables use several threads: nearly all time is spent inside numpy."""

    def evaluate_one(name: str) -> EvaluatedEstimator:
        return evaluate_estimator(table, name, config, seed=seed, simulated=simulated)

    workers = min(os.cpu_count() or 1, MOST_THREADS) if table.truth.size > MANY_VALUES else 1
    with ThreadPoolExecutor(workers) as pool:
        evaluated = pool.map(evaluate_one, table.scores)
        shown = progress(evaluated, total=len(table.scores), what=f"evaluate {table.guard}", unit="estimator")
        return dict(zip(table.scores, shown, strict=True))


def chosen_gold(gold: pl.DataFrame, attributes: pl.DataFrame | None, where: dict[str, str]) -> pl.DataFrame:
    """The gold records whose attributes have all the values of `where`. Raises InputError when there are none."""
    chosen = gold
    for name, value in where.items():
        if attributes is None:
            raise InputError(
                "evaluate.where needs attributes, but the run has no prompts.parquet", hint="remove evaluate.where"
            )
        matching = attributes.filter((pl.col("name") == name) & (pl.col("value") == value))
        chosen = chosen.filter(pl.col("id").is_in(matching["id"].to_list()))
        if not chosen.height:
            values = sorted(attributes.filter(pl.col("name") == name)["value"].unique())
            raise InputError(f"evaluate.where: no record has {name} = {value}; values: {values}")
    return chosen


def attribute_rows(prompts: pl.DataFrame) -> pl.DataFrame:
    """One row per attribute of each prompt, with the columns id, name, value."""
    exploded = prompts.select("id", "attributes").explode("attributes").drop_nulls("attributes")
    return exploded.unnest("attributes").select("id", "name", "value")


def _evaluate_guard(
    table: GuardTable,
    files: GuardScores,
    evaluated: dict[str, EvaluatedEstimator],
    attributes: pl.DataFrame | None,
    config: EvaluateSection,
    seed: int,
) -> GuardEvaluation:
    reference = config.reference if config.reference in evaluated else next(iter(evaluated), None)
    paired = differences(evaluated, reference, config) if reference is not None else []
    recommended, because = (
        recommend(evaluated, reference, paired) if reference is not None else (None, "no record has usable scores")
    )
    best = evaluated[recommended] if recommended is not None else None
    in_test, records = table.on(["test"]), files.records
    own_decisions = best.tuned_predictions if best is not None else None
    fixed_decisions = (
        table.scores[recommended] >= config.threshold if recommended is not None else np.zeros_like(table.truth)
    )
    predicted = own_decisions if own_decisions is not None else fixed_decisions
    return GuardEvaluation(
        guard=table.guard,
        records=len(table.ids),
        left_out=table.left_out,
        not_judged=table.not_judged,
        labels_not_scored=table.labels_not_scored,
        only_bounds=_only_bounds(table, recommended),
        coverage=files.coverage,
        estimators_left_out=table.estimators_left_out,
        recommended=recommended,
        recommended_because=because,
        off_language=_mean(records["off_language"]),
        unexplored=_mean(records["unexplored"]),
        answer_format=answer_format(table, records, config, tolerance=files.tolerance, is_outside=files.is_outside),
        seconds=float(records["seconds"].sum()),
        forward_passes=int(records["forward_passes"].sum()),
        estimators=[estimator.report for estimator in evaluated.values()],
        differences=paired,
        against_frequency=against_frequency(evaluated, recommended, config) if recommended is not None else None,
        bounds=bounds_effect(table, best.report, config, files.tolerance, over_passages=_over_passages(records))
        if best is not None
        else None,
        slices=slices(table, recommended, attributes, config, seed) if recommended is not None else [],
        confusions=confusions(table.truth[in_test], predicted[in_test], table.judged[in_test], table.labels),
        worst=worst_records(table, table.scores[recommended], predicted, config.judged_on, config.worst_records)
        if recommended is not None
        else [],
    )


def _over_passages(records: pl.DataFrame) -> bool:
    """Whether the guard reasons first, so that its scores are means over sampled passages."""
    return "passages" in records.columns and bool(records["passages"].is_not_null().any())


def _only_bounds(table: GuardTable, recommended: str | None) -> list[OnlyBounds]:
    estimator = recommended if recommended in table.only_bounds else next(iter(table.only_bounds), None)
    if estimator is None:
        return []
    return [
        OnlyBounds(label=label, estimator=estimator, lower=lower, upper=upper)
        for label, (lower, upper) in table.only_bounds[estimator].items()
    ]


def _mean(values: pl.Series) -> float | None:
    mean = values.drop_nulls().mean()
    return float(mean) if isinstance(mean, float) else None


def _guard_thresholds(guard_evaluation: GuardEvaluation) -> GuardThresholds:
    return GuardThresholds(
        recommended=guard_evaluation.recommended,
        estimators={
            estimator.estimator: EstimatorThresholds(
                overall={threshold.goal: _service_threshold(threshold) for threshold in estimator.thresholds.overall},
                labels={
                    label: {threshold.goal: _service_threshold(threshold) for threshold in rows}
                    for label, rows in estimator.thresholds.labels.items()
                },
            )
            for estimator in guard_evaluation.estimators
            if estimator.estimator != LABEL_FREQUENCY
        },
    )


def _service_threshold(threshold: Threshold) -> ServiceThreshold:
    return ServiceThreshold(threshold=threshold.threshold, source=threshold.source, reason=threshold.reason)


def _calibrations(recommended: str | None, evaluated: dict[str, EvaluatedEstimator]) -> Iterator[Calibration]:
    names = sorted(evaluated, key=lambda name: name != recommended)
    yield from (evaluated[name].calibration for name in names if name != LABEL_FREQUENCY)

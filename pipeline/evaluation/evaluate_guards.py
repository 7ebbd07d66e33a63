"""Gold and scores → evaluation.json, thresholds.json, calibration.json."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import polars as pl

from marginalia.pipeline.config.evaluation import EvaluateSection
from marginalia.pipeline.evaluation.estimator_choice import against_frequency, differences, guard_differences, recommend
from marginalia.pipeline.evaluation.estimator_evaluation import EvaluatedEstimator, evaluate_estimator
from marginalia.pipeline.evaluation.failure_analysis import confusions, slices, worst_records
from marginalia.pipeline.evaluation.guard_tables import LABEL_FREQUENCY, GuardTable, count_gold, guard_table
from marginalia.pipeline.evaluation.paired_differences import Judged
from marginalia.pipeline.evaluation.tolerance import bounds_effect
from marginalia.schemas.calibration_json import Calibration, CalibrationFile
from marginalia.schemas.errors import InputError
from marginalia.schemas.evaluation_json import Evaluation, GuardEvaluation, Threshold
from marginalia.schemas.taxonomy import Taxonomy
from marginalia.schemas.thresholds_json import EstimatorThresholds, GuardThresholds, ServiceThreshold, ThresholdsFile

MANY_CELLS, MOST_THREADS = 100_000, 4


@dataclass(frozen=True)
class GuardScores:
    """One guard's two files."""

    guard: str
    scores: pl.DataFrame  # LabelScore
    records: pl.DataFrame  # ScoredRecord
    family: str | None = None  # name of its guard file, for calibration.json
    model: str | None = None
    tolerance: float | None = None  # the bounds that the search was asked for


@dataclass(frozen=True)
class Results:
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
    """Judges every estimator of every guard against gold; `prompts` (PromptRecord), if any, give the attributes."""
    attributes = attribute_rows(prompts) if prompts is not None else None
    pages, service, maps, best = [], {}, [], []
    judged = chosen_gold(gold, attributes, config.where)
    for files in guards:
        table = guard_table(files.guard, judged, files.scores, files.records, taxonomy.ids)
        if judged.height < gold.height:
            table.left_out["not chosen by evaluate.where"] = (
                count_gold(gold, taxonomy.ids).final - count_gold(judged, taxonomy.ids).final
            )
        found = _all_estimators(table, config, seed, simulated)
        page = _guard_page(table, files, found, attributes, config, seed)
        pages.append(page)
        service[files.guard] = _service(page)
        if page.recommended is not None:
            best.append(Judged.of(table, found[page.recommended].report))
        maps += [
            one.model_copy(update={"family": files.family, "model": files.model})
            for one in _maps(page.recommended, found)
        ]
    evaluation = Evaluation(
        simulated=simulated,
        taxonomy=taxonomy.id,
        confidence=config.confidence,
        resamples=config.resamples,
        seed=seed,
        gold=count_gold(gold, taxonomy.ids),
        guards=pages,
        guard_differences=guard_differences(best, config, seed),
    )
    file = ThresholdsFile(simulated=simulated, taxonomy=taxonomy.id, confidence=config.confidence, guards=service)
    return Results(evaluation, file, CalibrationFile(calibrations=maps))


def _all_estimators(
    table: GuardTable, config: EvaluateSection, seed: int, simulated: bool
) -> dict[str, EvaluatedEstimator]:
    """Every estimator's page. Large tables take several threads: nearly all the time is spent inside numpy."""

    def one(name: str) -> EvaluatedEstimator:
        return evaluate_estimator(table, name, config, seed=seed, simulated=simulated)

    workers = min(os.cpu_count() or 1, MOST_THREADS) if table.truth.size > MANY_CELLS else 1
    with ThreadPoolExecutor(workers) as pool:
        return dict(zip(table.scores, pool.map(one, table.scores), strict=True))


def chosen_gold(gold: pl.DataFrame, attributes: pl.DataFrame | None, where: dict[str, str]) -> pl.DataFrame:
    """The gold records that have all these attributes. Raises InputError when none has."""
    chosen = gold
    for name, value in where.items():
        if attributes is None:
            raise InputError("evaluate.where needs attributes, and the run has no prompts.parquet", hint="remove it")
        having = attributes.filter((pl.col("name") == name) & (pl.col("value") == value))
        chosen = chosen.filter(pl.col("id").is_in(having["id"].to_list()))
        if not chosen.height:
            known = sorted(attributes.filter(pl.col("name") == name)["value"].unique())
            raise InputError(f"evaluate.where: no record has {name} = {value}; values: {known}")
    return chosen


def attribute_rows(prompts: pl.DataFrame) -> pl.DataFrame:
    """id, name, value: one row for each attribute of each prompt."""
    exploded = prompts.select("id", "attributes").explode("attributes").drop_nulls("attributes")
    return exploded.unnest("attributes").select("id", "name", "value")


def _guard_page(
    table: GuardTable,
    files: GuardScores,
    found: dict[str, EvaluatedEstimator],
    attributes: pl.DataFrame | None,
    config: EvaluateSection,
    seed: int,
) -> GuardEvaluation:
    reference = config.reference if config.reference in found else next(iter(found), None)
    rows = differences(found, reference, config) if reference is not None else []
    best, why = recommend(found, reference, rows) if reference is not None else (None, "no record has usable scores")
    shown = found[best] if best is not None else None
    test, records = table.on(["test"]), files.records
    decided = shown.tuned_predictions if shown is not None else None
    fixed = table.scores[best] >= config.threshold if best is not None else np.zeros_like(table.truth)
    predicted = decided if decided is not None else fixed
    return GuardEvaluation(
        guard=table.guard,
        records=len(table.ids),
        left_out=table.left_out,
        labels_not_scored=table.labels_not_scored,
        estimators_left_out=table.estimators_left_out,
        recommended=best,
        recommended_because=why,
        off_language=_mean(records["off_language"]),
        unexplored=_mean(records["unexplored"]),
        seconds=float(records["seconds"].sum()),
        forward_passes=int(records["forward_passes"].sum()),
        estimators=[evaluated.report for evaluated in found.values()],
        differences=rows,
        against_frequency=against_frequency(found, best, config) if best is not None else None,
        bounds=bounds_effect(table, shown.report, config, files.tolerance) if shown is not None else None,
        slices=slices(table, best, attributes, config, seed) if best is not None else [],
        confusions=confusions(table.truth[test], predicted[test], table.labels),
        worst=worst_records(table, table.scores[best], predicted, config.judged_on, config.worst_records)
        if best is not None
        else [],
    )


def _mean(values: pl.Series) -> float | None:
    mean = values.drop_nulls().mean()
    return float(mean) if isinstance(mean, float) else None


def _service(page: GuardEvaluation) -> GuardThresholds:
    return GuardThresholds(
        recommended=page.recommended,
        estimators={
            each.estimator: EstimatorThresholds(
                overall={threshold.goal: _lean(threshold) for threshold in each.thresholds.overall},
                labels={
                    label: {threshold.goal: _lean(threshold) for threshold in rows}
                    for label, rows in each.thresholds.labels.items()
                },
            )
            for each in page.estimators
            if each.estimator != LABEL_FREQUENCY
        },
    )


def _lean(threshold: Threshold) -> ServiceThreshold:
    return ServiceThreshold(threshold=threshold.threshold, source=threshold.source, reason=threshold.reason)


def _maps(recommended: str | None, found: dict[str, EvaluatedEstimator]) -> Iterator[Calibration]:
    names = sorted(found, key=lambda name: name != recommended)
    yield from (found[name].calibration for name in names if name != LABEL_FREQUENCY)

"""Adds to each metric of an evaluation the range that the bounds of the probabilities allow."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from marginalia.pipeline.config.evaluation import EvaluateSection
from marginalia.pipeline.evaluation.calibration_fitting import own_thresholds
from marginalia.pipeline.evaluation.guard_tables import Bounds, GuardTable
from marginalia.schemas.calibration_json import Calibration
from marginalia.schemas.evaluation_json import (
    UNSAFE,
    CalibrationQuality,
    EstimatorEvaluation,
    LabelMetrics,
    Metric,
    Outcome,
    Threshold,
    ThresholdReport,
)
from marginalia.scoring.measures import calibration, metric_ranges
from marginalia.scoring.measures.intervals import Array, Flags
from marginalia.scoring.measures.reliability import equal_mass_bins

Range = tuple[float, float]


def with_range(metric: Metric, allowed: Range | None) -> Metric:
    """The metric with its range, extended to contain its value, as the two may differ in the last digits."""
    if metric.value is None or allowed is None or not np.isfinite(allowed).all():
        return metric
    low, high = min(allowed[0], metric.value), max(allowed[1], metric.value)
    return metric.model_copy(update={"range_low": low, "range_high": high})


def difference_range(first: Metric, second: Metric) -> Range | None:
    """The range of second minus first, each anywhere in its own range; None where neither has a range."""
    if first.value is None or second.value is None or (first.range_low is None and second.range_low is None):
        return None
    (a, b), (c, d) = (
        (metric.value, metric.value)
        if metric.range_low is None or metric.range_high is None
        else (metric.range_low, metric.range_high)
        for metric in (first, second)
    )
    return float(c or 0.0) - float(b or 0.0), float(d or 0.0) - float(a or 0.0)


def pooled_ranges(truth: Flags, bounds: Bounds, threshold: float | Array, judged: Flags) -> dict[str, Range]:
    """The range of every pooled metric of `marginalia.scoring.measures.metrics` at a threshold; truth is (n, L)."""
    return {
        **metric_ranges.decision_ranges(truth, *bounds, threshold, judged).pooled,
        **metric_ranges.ranking_ranges(truth, *bounds, judged).pooled,
    }


def binary_ranges(truth: Flags, bounds: Bounds, threshold: float) -> dict[str, Range]:
    """Ranges for decisions on one label or on the verdict, arrays of (n,): F1, precision, recall, accuracy,
    false-positive rate."""
    flagged = [end >= threshold for end in bounds]
    fewest, most = [(int((flags & truth).sum()), int((flags & ~truth).sum())) for flags in flagged]
    return metric_ranges.binary_ranges((fewest[0], most[0]), (fewest[1], most[1]), int(truth.sum()), len(truth))


def verdict_ranges(truth: Flags, bounds: Bounds, threshold: float) -> dict[str, Range]:
    """`binary_ranges` and the ranges of ROC AUC and average precision."""
    ranked = metric_ranges.ranking_ranges(truth[:, None], bounds[0][:, None], bounds[1][:, None]).labels
    return {
        **binary_ranges(truth, bounds, threshold),
        **{name: (float(low[0]), float(high[0])) for name, (low, high) in ranked.items()},
    }


def with_ranges(
    evaluation: EstimatorEvaluation,
    table: GuardTable,
    fitted: Calibration,
    calibrated: Array,
    config: EvaluateSection,
) -> EstimatorEvaluation:
    """The evaluation of an estimator with the range of every metric that depends on its probabilities.

    Thresholds and calibration maps are taken as fitted."""
    bounds = table.bounds.get(evaluation.estimator)
    if bounds is None or not table.labels:
        return evaluation
    rows, in_test = table.judged_on(config.judged_on), table.judged_on(["test"])
    truth, known, test_bounds = table.truth, table.judged, (bounds[0][in_test], bounds[1][in_test])
    update: dict[str, object] = {}
    arrays = truth[rows], bounds[0][rows], bounds[1][rows]
    decided = metric_ranges.decision_ranges(*arrays, config.threshold, known[rows])
    ranked = metric_ranges.ranking_ranges(*arrays, known[rows])
    update["metrics"] = _metrics_with_ranges(evaluation.metrics, {**decided.pooled, **ranked.pooled})
    update["labels"] = [
        _label(row, {**decided.labels, **ranked.labels}, column) for column, row in enumerate(evaluation.labels)
    ]
    verdict = table.verdict_bounds.get(evaluation.estimator)
    if evaluation.verdict and verdict is not None:
        rows = table.verdict_on(config.judged_on)
        verdict_allowed = verdict_ranges(table.any_label[rows], (verdict[0][rows], verdict[1][rows]), config.threshold)
        update["verdict"] = _metrics_with_ranges(evaluation.verdict, verdict_allowed)
    if evaluation.tuned:
        own = own_thresholds(evaluation.thresholds, table.labels)
        assert own is not None  # otherwise `tuned` would be empty
        at_own = metric_ranges.decision_ranges(truth[in_test], *test_bounds, own, known[in_test])
        update["tuned"] = _metrics_with_ranges(evaluation.tuned, at_own.pooled)
    update["thresholds"] = _thresholds(evaluation.thresholds, table, bounds, verdict)
    if evaluation.calibration.raw is not None:
        calibrated_bounds = tuple(_calibrated(fitted, table.labels, end) for end in test_bounds)
        p, q = table.scores[evaluation.estimator][in_test], calibrated[in_test]
        report = evaluation.calibration
        update["calibration"] = report.model_copy(
            update={
                "raw": _quality(report.raw, truth[in_test], p, test_bounds, known[in_test], config.bins),
                "recalibrated": _quality(
                    report.recalibrated,
                    truth[in_test],
                    q,
                    (calibrated_bounds[0], calibrated_bounds[1]),
                    known[in_test],
                    config.bins,
                ),
            }
        )
    return evaluation.model_copy(update=update)


def _metrics_with_ranges(metrics: Mapping[str, Metric], allowed: Mapping[str, Range]) -> dict[str, Metric]:
    return {name: with_range(metric, allowed.get(name)) for name, metric in metrics.items()}


def _label(row: LabelMetrics, allowed: Mapping[str, metric_ranges.Ends], column: int) -> LabelMetrics:
    own = {name: (float(low[column]), float(high[column])) for name, (low, high) in allowed.items()}
    return row.model_copy(update={"metrics": _metrics_with_ranges(row.metrics, own)})


def _thresholds(
    report: ThresholdReport, table: GuardTable, bounds: Bounds, verdict_bounds: Bounds | None
) -> ThresholdReport:
    truth, known, splits = table.truth, table.judged, (table.on(["calibration"]), table.on(["test"]))
    all_cells = truth[known], (bounds[0][known], bounds[1][known])
    record_of = np.nonzero(known)[0]
    columns = {
        label: (truth[:, column], (bounds[0][:, column], bounds[1][:, column]), known[:, column])
        for column, label in enumerate(table.labels)
    }
    if verdict_bounds is not None:
        columns[UNSAFE] = (table.any_label, verdict_bounds, table.verdict_judged)
    return report.model_copy(
        update={
            "overall": [
                _threshold(row, *all_cells, splits[0][record_of], splits[1][record_of]) for row in report.overall
            ],
            "labels": {
                label: [_label_threshold(row, *columns[label], *splits) for row in rows] if label in columns else rows
                for label, rows in report.labels.items()
            },
        }
    )


def _label_threshold(
    row: Threshold, truth: Flags, bounds: Bounds, judged: Flags, in_calibration: Flags, in_test: Flags
) -> Threshold:
    return _threshold(row, truth, bounds, in_calibration & judged, in_test & judged)


def _threshold(row: Threshold, truth: Flags, bounds: Bounds, in_calibration: Flags, in_test: Flags) -> Threshold:
    if row.threshold is None:
        return row
    return row.model_copy(
        update={
            "chosen_on": outcome_with_ranges(row.chosen_on, row.threshold, truth, bounds, in_calibration),
            "judged_on": outcome_with_ranges(row.judged_on, row.threshold, truth, bounds, in_test),
        }
    )


def outcome_with_ranges(
    outcome: Outcome | None, threshold: float, truth: Flags, bounds: Bounds, rows: Flags
) -> Outcome | None:
    """The outcome of a threshold on the `rows` (n,) of one label, with the ranges that its bounds allow."""
    if outcome is None or not rows.any():
        return outcome
    allowed = binary_ranges(truth[rows], (bounds[0][rows], bounds[1][rows]), threshold)
    names = ("precision", "recall", "f1", "false_positive_rate")
    return outcome.model_copy(update={name: with_range(getattr(outcome, name), allowed[name]) for name in names})


def _calibrated(fitted: Calibration, labels: list[str], p: Array) -> Array:
    return np.column_stack([calibration.apply(fitted, label, p[:, column]) for column, label in enumerate(labels)])


def _quality(
    quality: CalibrationQuality | None, truth: Flags, p: Array, bounds: Bounds, judged: Flags, bins: int
) -> CalibrationQuality | None:
    if quality is None:
        return None
    truth, p, bounds = truth[judged], p[judged], (bounds[0][judged], bounds[1][judged])
    allowed = metric_ranges.forecast_ranges(truth, *bounds)
    allowed["ece"] = metric_ranges.calibration_error_range(truth, *bounds, equal_mass_bins(p, bins))
    return quality.model_copy(
        update={name: with_range(getattr(quality, name), allowed[name]) for name in ("ece", "brier", "log_loss")}
    )

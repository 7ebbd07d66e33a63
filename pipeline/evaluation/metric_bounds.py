"""The ranges that the bounds of the probabilities allow, put beside the numbers of an evaluation."""

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
)
from marginalia.scoring.measures import calibration, metric_ranges
from marginalia.scoring.measures.intervals import Array, Flags
from marginalia.scoring.measures.reliability import equal_mass_bins

Range = tuple[float, float]


def with_range(metric: Metric, ends: Range | None) -> Metric:
    """The metric with its range, which holds its value (the last digits of the two may differ)."""
    if metric.value is None or ends is None or not np.isfinite(ends).all():
        return metric
    low, high = min(ends[0], metric.value), max(ends[1], metric.value)
    return metric.model_copy(update={"range_low": low, "range_high": high})


def difference_range(first: Metric, second: Metric) -> Range | None:
    """Of second less first, each anywhere in its range; None where neither has one."""
    if first.value is None or second.value is None or (first.range_low is None and second.range_low is None):
        return None
    (a, b), (c, d) = (
        (one.value, one.value) if one.range_low is None or one.range_high is None else (one.range_low, one.range_high)
        for one in (first, second)
    )
    return float(c or 0.0) - float(b or 0.0), float(d or 0.0) - float(a or 0.0)


def pooled_ranges(truth: Flags, bounds: Bounds, threshold: float | Array) -> dict[str, Range]:
    """Of every pooled metric of `marginalia.scoring.measures.metrics` at a threshold."""
    return {
        **metric_ranges.decision_ranges(truth, *bounds, threshold).pooled,
        **metric_ranges.ranking_ranges(truth, *bounds).pooled,
    }


def binary_ranges(truth: Flags, bounds: Bounds, threshold: float) -> dict[str, Range]:
    """Of the decisions about one label or the verdict, (n,) each: F1, precision, recall, accuracy, false positives."""
    flagged = [end >= threshold for end in bounds]
    right, all_flagged = [int((flags & truth).sum()) for flags in flagged], [int(flags.sum()) for flags in flagged]
    wrong = [every - true for every, true in zip(all_flagged, right, strict=True)]
    return metric_ranges.binary_ranges((right[0], right[1]), (wrong[0], wrong[1]), int(truth.sum()), len(truth))


def verdict_ranges(truth: Flags, bounds: Bounds, threshold: float) -> dict[str, Range]:
    """`binary_ranges` with those of ROC AUC and average precision."""
    ranked = metric_ranges.ranking_ranges(truth[:, None], bounds[0][:, None], bounds[1][:, None]).labels
    return {
        **binary_ranges(truth, bounds, threshold),
        **{name: (float(low[0]), float(high[0])) for name, (low, high) in ranked.items()},
    }


def with_ranges(
    page: EstimatorEvaluation,
    table: GuardTable,
    fitted: Calibration,
    calibrated: Array,
    config: EvaluateSection,
) -> EstimatorEvaluation:
    """The estimator's page with the range of every metric that is computed from its probabilities and gold's labels.

    Thresholds and calibration maps are taken as they were fitted."""
    bounds = table.bounds.get(page.estimator)
    if bounds is None or not table.labels:
        return page
    here, test, fit_on = table.on(config.judged_on), table.on(["test"]), table.on(["calibration"])
    truth, on_test = table.truth, (bounds[0][test], bounds[1][test])
    changed: dict[str, object] = {}
    decided = metric_ranges.decision_ranges(truth[here], bounds[0][here], bounds[1][here], config.threshold)
    ranked = metric_ranges.ranking_ranges(truth[here], bounds[0][here], bounds[1][here])
    changed["metrics"] = _each(page.metrics, {**decided.pooled, **ranked.pooled})
    changed["labels"] = [
        _label(row, {**decided.labels, **ranked.labels}, column) for column, row in enumerate(page.labels)
    ]
    verdict = table.verdict_bounds.get(page.estimator)
    if page.verdict and verdict is not None:
        found = verdict_ranges(table.any_label[here], (verdict[0][here], verdict[1][here]), config.threshold)
        changed["verdict"] = _each(page.verdict, found)
    if page.tuned:
        at = own_thresholds(page.thresholds, table.labels)
        assert at is not None  # `tuned` needs them
        changed["tuned"] = _each(page.tuned, metric_ranges.decision_ranges(truth[test], *on_test, at).pooled)
    columns = {label: (truth[:, at], (bounds[0][:, at], bounds[1][:, at])) for at, label in enumerate(table.labels)}
    if verdict is not None:
        columns[UNSAFE] = (table.any_label, verdict)
    changed["thresholds"] = page.thresholds.model_copy(
        update={
            "overall": [
                _threshold(row, truth.ravel(), (bounds[0].ravel(), bounds[1].ravel()), *_cells(fit_on, test, truth))
                for row in page.thresholds.overall
            ],
            "labels": {
                label: [_threshold(row, *columns[label], fit_on, test) for row in rows] if label in columns else rows
                for label, rows in page.thresholds.labels.items()
            },
        }
    )
    if page.calibration.raw is not None:
        mapped = tuple(_mapped(fitted, table.labels, end) for end in on_test)
        p, q = table.scores[page.estimator][test], calibrated[test]
        report = page.calibration
        changed["calibration"] = report.model_copy(
            update={
                "raw": _quality(report.raw, truth[test], p, on_test, config.bins),
                "recalibrated": _quality(report.recalibrated, truth[test], q, (mapped[0], mapped[1]), config.bins),
            }
        )
    return page.model_copy(update=changed)


def _each(found: Mapping[str, Metric], ends: Mapping[str, Range]) -> dict[str, Metric]:
    return {name: with_range(metric, ends.get(name)) for name, metric in found.items()}


def _label(row: LabelMetrics, ends: Mapping[str, metric_ranges.Ends], column: int) -> LabelMetrics:
    own = {name: (float(low[column]), float(high[column])) for name, (low, high) in ends.items()}
    return row.model_copy(update={"metrics": _each(row.metrics, own)})


def _cells(fit_on: Flags, test: Flags, truth: Flags) -> tuple[Flags, Flags]:
    n_labels = truth.shape[1]
    return np.repeat(fit_on, n_labels), np.repeat(test, n_labels)


def _threshold(row: Threshold, truth: Flags, bounds: Bounds, fit_on: Flags, test: Flags) -> Threshold:
    if row.threshold is None:
        return row
    return row.model_copy(
        update={
            "chosen_on": _outcome(row.chosen_on, row.threshold, truth, bounds, fit_on),
            "judged_on": _outcome(row.judged_on, row.threshold, truth, bounds, test),
        }
    )


def _outcome(found: Outcome | None, at: float, truth: Flags, bounds: Bounds, rows: Flags) -> Outcome | None:
    if found is None or not rows.any():
        return found
    ends = binary_ranges(truth[rows], (bounds[0][rows], bounds[1][rows]), at)
    names = ("precision", "recall", "f1", "false_positive_rate")
    return found.model_copy(update={name: with_range(getattr(found, name), ends[name]) for name in names})


def _mapped(fitted: Calibration, labels: list[str], p: Array) -> Array:
    return np.column_stack([calibration.apply(fitted, label, p[:, column]) for column, label in enumerate(labels)])


def _quality(
    found: CalibrationQuality | None, truth: Flags, p: Array, bounds: Bounds, bins: int
) -> CalibrationQuality | None:
    if found is None:
        return None
    ends = metric_ranges.forecast_ranges(truth, *bounds)
    bin_of = equal_mass_bins(p.ravel(), bins)
    ends["ece"] = metric_ranges.calibration_error_range(truth.ravel(), bounds[0].ravel(), bounds[1].ravel(), bin_of)
    return found.model_copy(
        update={name: with_range(getattr(found, name), ends[name]) for name in ("ece", "brier", "log_loss")}
    )

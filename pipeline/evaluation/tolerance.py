"""What a guard's metrics owe to the bounds of its probabilities, and the tolerance at which they would owe little."""

from __future__ import annotations

import numpy as np

from marginalia.pipeline.config.evaluation import EvaluateSection
from marginalia.pipeline.evaluation.calibration_fitting import own_thresholds
from marginalia.pipeline.evaluation.guard_tables import SLACK, Bounds, GuardTable
from marginalia.pipeline.evaluation.metric_bounds import Range, pooled_ranges, verdict_ranges, with_range
from marginalia.pipeline.evaluation.paired_differences import TUNED, VERDICT
from marginalia.schemas.evaluation_json import BoundsEffect, EstimatorEvaluation, Metric
from marginalia.scoring.measures import conclusions, metric_ranges
from marginalia.scoring.measures.intervals import Array
from marginalia.scoring.measures.refitted_thresholds import METRICS as AT_OWN_THRESHOLDS

STEPS = sorted((digit * 10.0**-power for power in range(1, 7) for digit in (1, 2, 5)), reverse=True)


def bounds_effect(
    table: GuardTable, page: EstimatorEvaluation, config: EvaluateSection, tolerance: float | None
) -> BoundsEffect | None:
    """None where the estimator's probabilities are single numbers. `tolerance` is what they were scored at."""
    bounds = table.bounds.get(page.estimator)
    here = table.on(config.judged_on)
    if bounds is None or not here.any():
        return None
    widths = (bounds[1] - bounds[0])[here]
    shown = _shown(page)
    wide = [name for name, metric in shown.items() if conclusions.wide(metric)]
    return BoundsEffect(
        widest=float(widths.max()),
        mean=float(widths.mean()),
        beyond=int((widths.max(1) > tolerance + SLACK).sum()) if tolerance is not None else 0,
        wide=wide,
        tolerance=_enough(table, page, config, shown, float(widths.max())) if wide else None,
    )


def _shown(page: EstimatorEvaluation) -> dict[str, Metric]:
    return {
        **page.metrics,
        **{f"{VERDICT}{name}": metric for name, metric in page.verdict.items()},
        **{f"{TUNED}{name}": page.tuned[name] for name in AT_OWN_THRESHOLDS if name in page.tuned},
    }


def _enough(
    table: GuardTable, page: EstimatorEvaluation, config: EvaluateSection, shown: dict[str, Metric], widest: float
) -> float:
    """The largest tolerance of a 1-2-5 series at which no metric's range would exceed a third of its interval.

    The probabilities are taken to stay where they are, with every bound as near to them as that tolerance asks."""
    for tolerance in STEPS:
        if tolerance < widest:
            found = _ranges_at(table, page, config, tolerance)
            metrics = [with_range(_bare(metric), found.get(name)) for name, metric in shown.items()]
            if not any(conclusions.wide(metric) for metric in metrics):
                return tolerance
    return STEPS[-1]


def _bare(metric: Metric) -> Metric:
    return metric.model_copy(update={"range_low": None, "range_high": None})


def _ranges_at(
    table: GuardTable, page: EstimatorEvaluation, config: EvaluateSection, tolerance: float
) -> dict[str, Range]:
    name, here, test = page.estimator, table.on(config.judged_on), table.on(["test"])
    low, high = _closer(table.scores[name], table.bounds[name], tolerance)
    found = pooled_ranges(table.truth[here], (low[here], high[here]), config.threshold)
    at = own_thresholds(page.thresholds, table.labels)
    if at is not None and test.any():
        tuned = metric_ranges.decision_ranges(table.truth[test], low[test], high[test], at).pooled
        found |= {f"{TUNED}{metric}": ends for metric, ends in tuned.items()}
    if name in table.verdict_bounds:
        low, high = _closer(table.verdicts[name], table.verdict_bounds[name], tolerance)
        verdict = verdict_ranges(table.any_label[here], (low[here], high[here]), config.threshold)
        found |= {f"{VERDICT}{metric}": ends for metric, ends in verdict.items()}
    return found


def _closer(p: Array, bounds: Bounds, tolerance: float) -> Bounds:
    share = np.minimum(1.0, tolerance / np.maximum(bounds[1] - bounds[0], SLACK))
    return p - share * (p - bounds[0]), p + share * (bounds[1] - p)

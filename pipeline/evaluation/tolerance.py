"""How much the bounds of the probabilities move a guard's metrics, and the tolerance at which they no longer matter."""

from __future__ import annotations

import numpy as np

from marginalia.pipeline.config.evaluation import EvaluateSection
from marginalia.pipeline.evaluation.guard_tables import SLACK, GuardTable
from marginalia.pipeline.evaluation.paired_differences import TUNED, VERDICT
from marginalia.schemas.evaluation_json import BoundsEffect, EstimatorEvaluation, Metric
from marginalia.scoring.guard_kinds import SOURCE_ESTIMATORS
from marginalia.scoring.measures.conclusions import WIDE, range_is_wide, range_of
from marginalia.scoring.measures.refitted_thresholds import METRICS as AT_OWN_THRESHOLDS

STEPS = sorted((digit * 10.0**-power for power in range(1, 7) for digit in (1, 2, 5)), reverse=True)


def bounds_effect(
    table: GuardTable,
    evaluation: EstimatorEvaluation,
    config: EvaluateSection,
    tolerance: float | None,
    *,
    over_passages: bool = False,
) -> BoundsEffect | None:
    """Widths of the bounds, and the metrics whose range they make wide; None where all probabilities are exact, and for
    a guard that gives numbers itself, of which no search could narrow the bounds.

    `tolerance` is the one that the records were scored at. `over_passages`: the bounds are intervals over sampled
    reasoning passages, which no tolerance narrows."""
    bounds = table.bounds.get(evaluation.estimator)
    rows = table.judged_on(config.judged_on)
    judged = table.judged[rows]
    if bounds is None or not rows.any() or not table.labels or evaluation.estimator in SOURCE_ESTIMATORS:
        return None
    widths = np.where(judged, bounds[1][rows] - bounds[0][rows], 0.0)
    wide_metrics = {name: metric for name, metric in _shown(evaluation).items() if range_is_wide(metric)}
    suggestion = _suggested_tolerance(list(wide_metrics.values()), float(widths.max()), tolerance)
    return BoundsEffect(
        widest=float(widths.max()),
        mean=float(widths[judged].mean()),
        beyond=int((widths.max(1) > tolerance + SLACK).sum()) if tolerance is not None and not over_passages else 0,
        wide=list(wide_metrics),
        tolerance=suggestion if wide_metrics and not over_passages else None,
        over_passages=over_passages,
    )


def _shown(evaluation: EstimatorEvaluation) -> dict[str, Metric]:
    return {
        **evaluation.metrics,
        **{f"{VERDICT}{name}": metric for name, metric in evaluation.verdict.items()},
        **{f"{TUNED}{name}": evaluation.tuned[name] for name in AT_OWN_THRESHOLDS if name in evaluation.tuned},
    }


def _suggested_tolerance(metrics: list[Metric], widest: float, tolerance: float | None) -> float | None:
    """A tolerance that should be small enough; None where the scores already had a smaller one, so that the search ran
    out of its budget instead."""
    sufficient = _sufficient_tolerance(metrics, widest)
    return sufficient if tolerance is None or sufficient < tolerance else None


def _sufficient_tolerance(metrics: list[Metric], widest: float) -> float:
    """The largest tolerance of a 1-2-5 series at which no range should exceed a third of its interval.

    It is an estimate: ranges of ROC AUC shrink about as the cube root of the tolerance (`make bench-tolerance`;
    docs/numbers.md), those of other metrics faster."""
    excess = max((_range_over_interval(metric) / WIDE for metric in metrics), default=1.0)
    target = widest / max(excess, 1.0) ** 3
    return next((step for step in STEPS if step <= target), STEPS[-1])


def _range_over_interval(metric: Metric) -> float:
    """Width of the range divided by that of the sampling interval; WIDE where there is no interval."""
    low, high = range_of(metric)
    if low is None or high is None or metric.low is None or metric.high is None or metric.high <= metric.low:
        return WIDE
    return (high - low) / (metric.high - metric.low)

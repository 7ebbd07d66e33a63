"""What a guard's metrics owe to the bounds of its probabilities, and the tolerance at which they would owe little."""

from __future__ import annotations

from marginalia.pipeline.config.evaluation import EvaluateSection
from marginalia.pipeline.evaluation.guard_tables import SLACK, GuardTable
from marginalia.pipeline.evaluation.paired_differences import TUNED, VERDICT
from marginalia.schemas.evaluation_json import BoundsEffect, EstimatorEvaluation, Metric
from marginalia.scoring.measures.conclusions import WIDE, range_of, wide
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
    shown = {name: metric for name, metric in _shown(page).items() if wide(metric)}
    return BoundsEffect(
        widest=float(widths.max()),
        mean=float(widths.mean()),
        beyond=int((widths.max(1) > tolerance + SLACK).sum()) if tolerance is not None else 0,
        wide=list(shown),
        tolerance=_finer(list(shown.values()), float(widths.max()), tolerance) if shown else None,
    )


def _shown(page: EstimatorEvaluation) -> dict[str, Metric]:
    return {
        **page.metrics,
        **{f"{VERDICT}{name}": metric for name, metric in page.verdict.items()},
        **{f"{TUNED}{name}": page.tuned[name] for name in AT_OWN_THRESHOLDS if name in page.tuned},
    }


def _finer(metrics: list[Metric], widest: float, tolerance: float | None) -> float | None:
    """A tolerance that should be enough; None where the search had a finer one and its budget ended it."""
    enough = _enough(metrics, widest)
    return enough if tolerance is None or enough < tolerance else None


def _enough(metrics: list[Metric], widest: float) -> float:
    """The largest tolerance of a 1-2-5 series at which no range should exceed a third of its interval.

    Ranges of ROC AUC fall about as the cube root of the tolerance (`make bench-tolerance`; docs/numbers.md), those of
    other metrics faster. It is a guess, which the next evaluation puts to the test."""
    excess = max((_share(metric) / WIDE for metric in metrics), default=1.0)
    wanted = widest / max(excess, 1.0) ** 3
    return next((step for step in STEPS if step <= wanted), STEPS[-1])


def _share(metric: Metric) -> float:
    """The range as a share of the sampling interval; WIDE where there is no interval."""
    low, high = range_of(metric)
    if low is None or high is None or metric.low is None or metric.high is None or metric.high <= metric.low:
        return WIDE
    return (high - low) / (metric.high - metric.low)

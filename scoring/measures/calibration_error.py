"""The expected calibration error (ECE) without its upward bias in small samples, with an interval.

With few records even a perfectly calibrated forecast has gaps between probabilities and frequencies. The plain ECE
Σ |gap| adds up their absolute values, so it is too high, and so is each of its resamples. Here the noise of the gaps is
estimated from resamples of whole records (labels of one record are not independent). The true gaps are modelled as the
observed ones times a factor: the value is the plain ECE times the factor at which the mean error, noise included, is
the observed one; the ends of the interval come from the factors at which the observed error would be just too high or
just too low (the interval is found by inverting a test)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from marginalia.scoring.measures.intervals import Array

DRAWS = 1000  # simulated calibrated forecasts with independent values
LARGEST_FACTOR, STEPS = 64.0, 30  # of the bisection for a factor


@dataclass(frozen=True)
class CalibrationError:
    """An ECE and its interval, all in 0–1.

    value, low, high: corrected for noise; `low` and `high` are None where nothing varies. observed: the plain error.
    if_calibrated: the value that 95 % of calibrated forecasts stay below, corrected like `value`."""

    value: float
    low: float | None
    high: float | None
    observed: float
    if_calibrated: float


def calibration_error(
    gaps: Array, resampled: Array, variance: Array, n: int, *, confidence: float, seed: int
) -> CalibrationError:
    """The corrected ECE of binned probabilities.

    gaps (bins,): of each bin, its share of the values × (mean probability − share of positives). resampled (b, bins):
    the same in resamples of the `n` records, NaN in resamples without a value. variance (bins,): of the gaps, if the
    probabilities were right and the values independent; where positives are rare, resamples vary too little, so the
    noise has at least this variance."""
    observed = float(np.abs(gaps).sum())
    resampled = resampled[np.isfinite(resampled).all(axis=1)]
    noise = (resampled - gaps) * np.sqrt(n / max(n - 1, 1))
    resampled_variance = float((noise**2).mean(0).sum())
    if resampled_variance > 0:
        noise *= np.sqrt(max(1.0, float(variance.sum()) / resampled_variance))
    if observed == 0 or resampled_variance == 0:
        return CalibrationError(observed, None, None, observed, observed)

    def errors(factor: float) -> Array:
        return np.asarray(np.abs(factor * gaps + noise).sum(1))

    def factor_with(statistic: Callable[[Array], float], target: float) -> float:
        """The factor of the gaps at which the statistic of the errors is `target`."""
        low, high = 0.0, 1.0
        if statistic(errors(0.0)) >= target:
            return 0.0
        while statistic(errors(high)) < target and high < LARGEST_FACTOR:
            high *= 2
        for _ in range(STEPS):
            middle = (low + high) / 2
            low, high = (middle, high) if statistic(errors(middle)) < target else (low, middle)
        return high

    def mean(values: Array) -> float:
        return float(values.mean())

    tail = (1 - confidence) / 2
    independent = np.random.default_rng([seed, n]).normal(size=(DRAWS, len(gaps))) * np.sqrt(variance)
    limit = max(float(np.quantile(errors(0.0), 0.95)), float(np.quantile(np.abs(independent).sum(1), 0.95)))
    return CalibrationError(
        value=observed * factor_with(mean, observed),
        low=observed * factor_with(lambda values: float(np.quantile(values, 1 - tail)), observed),
        high=max(observed, observed * factor_with(lambda values: float(np.quantile(values, tail)), observed)),
        observed=observed,
        if_calibrated=observed * factor_with(mean, limit),
    )

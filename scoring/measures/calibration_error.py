"""The expected calibration error without the part that chance alone adds, with an interval.

Of few records even a perfectly calibrated forecast shows gaps between probabilities and frequencies, and the plain
error adds up their sizes: it is too high, and so are all its resamples. Here the noise of the gaps is taken from
resamples of whole records (labels of one record are not independent), and the observed error is set against gaps of
the observed pattern but other sizes: the value is the size at which the mean error, noise included, is the observed
one; the ends of the interval are the sizes at which the observed error would just be too high or too low."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from marginalia.scoring.measures.intervals import Array

DRAWS = 1000  # of calibrated forecasts with independent values
LARGEST, STEPS = 64.0, 30  # of the search for a size, as a multiple of the observed gaps


@dataclass(frozen=True)
class CalibrationError:
    """`observed` is the plain error; `if_calibrated` what 95 % of calibrated forecasts stay below, like `value` without
    what noise adds. `low` and `high` are None where nothing varies."""

    value: float
    low: float | None
    high: float | None
    observed: float
    if_calibrated: float


def calibration_error(
    gaps: Array, resampled: Array, variance: Array, n: int, *, confidence: float, seed: int
) -> CalibrationError:
    """`gaps` (bins,): share of the values x (mean probability - share of positives) of each bin; `resampled` (b, bins):
    the same in resamples of the `n` records; `variance` (bins,): of the gaps if the probabilities were right and the
    values independent.

    Where positives are rare, resamples without them spread too little: the noise is at least that of `variance`."""
    observed = float(np.abs(gaps).sum())
    noise = (resampled - gaps) * np.sqrt(n / max(n - 1, 1))
    seen = float((noise**2).mean(0).sum())
    if seen > 0:
        noise *= np.sqrt(max(1.0, float(variance.sum()) / seen))
    if observed == 0 or seen == 0:
        return CalibrationError(observed, None, None, observed, observed)

    def errors(size: float) -> Array:
        return np.asarray(np.abs(size * gaps + noise).sum(1))

    def size_with(statistic: Callable[[Array], float], target: float) -> float:
        """Gaps in multiples of the observed ones at which the statistic of the errors is `target`."""
        low, high = 0.0, 1.0
        if statistic(errors(0.0)) >= target:
            return 0.0
        while statistic(errors(high)) < target and high < LARGEST:
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
        value=observed * size_with(mean, observed),
        low=observed * size_with(lambda values: float(np.quantile(values, 1 - tail)), observed),
        high=max(observed, observed * size_with(lambda values: float(np.quantile(values, tail)), observed)),
        observed=observed,
        if_calibrated=observed * size_with(mean, limit),
    )

"""95 % intervals by resampling records: each resample draws as many records as there are, with replacement, and a
record keeps all its answers (answers to one record are not independent of each other).

Every statistic here is a function of sums over records. So beyond MOST_UNITS records the records are first thrown
together at random into that many bundles of equal size, and bundles are drawn instead (the random groups of Wolter
2007, Introduction to Variance Estimation, ch. 2, resampled): the spread of a sum stays what it is, known to
1 / sqrt(2 MOST_UNITS) = 1 % of itself, and a million answers cost no more than 20,000."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from annotation.ticks import Floats, Ints
from schemas.agreement import Estimate
from schemas.files import content_hash

MOST_UNITS = 5_000
CHUNK = 50  # resamples at a time


def bundles(records: int, seed: str) -> Ints:
    """The unit that each record is drawn with (records): itself, or one of MOST_UNITS bundles when there are more."""
    if records <= MOST_UNITS:
        return np.arange(records)
    return generator(f"{seed}:bundles").permutation(records) % MOST_UNITS


def resampled_weights(units: int, resamples: int, seed: str) -> Iterator[npt.NDArray[np.float32]]:
    """Blocks (units x at most CHUNK) of how often each unit was drawn."""
    random = generator(seed)
    for start in range(0, resamples, CHUNK):
        columns = min(CHUNK, resamples - start)
        drawn = random.integers(0, units, (columns, units)) * columns + np.arange(columns)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=units * columns)
        yield counts.reshape(units, columns).astype(np.float32)


def generator(seed: str) -> np.random.Generator:
    return np.random.default_rng(int(content_hash(seed)[:16], 16))


def estimate(value: float | np.floating, resampled: Floats, n: int) -> Estimate:
    """The estimate with its percentile interval; undefined resamples (NaN) are left out of it."""
    usable = resampled[np.isfinite(resampled)]
    if not np.isfinite(value):
        return Estimate(value=None, low=None, high=None, n=n)
    if n < 2 or len(usable) == 0:
        return Estimate(value=float(value), low=None, high=None, n=n)
    low, high = np.quantile(usable, [0.025, 0.975])
    return Estimate(value=float(value), low=float(low), high=float(high), n=n)

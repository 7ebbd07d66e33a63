"""95 % intervals from resamples of records: each resample draws as many records as there are, with replacement, and a
record keeps all its answers (answers to one record are not independent of each other).

Every statistic here is a function of sums over records. So beyond MOST_UNITS records the records are first thrown
together at random into that many bundles of equal size, and bundles are drawn instead (the random groups of Wolter
2007, Introduction to Variance Estimation, ch. 2, resampled): the spread of a sum stays what it is, known to
1 / sqrt(2 MOST_UNITS) = 1 % of itself, and a million answers cost no more than 20,000."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from marginalia.annotation.gold.answer_arrays import Floats, Ints
from marginalia.schemas.agreement_json import Estimate
from marginalia.schemas.storage.files import content_hash

MOST_UNITS = 5_000
CHUNK = 50  # resamples at a time
CONFIDENCE = 0.95
FEWEST_OF_A_KIND = 10  # records with and without a label, below which its alpha has no interval
ROUNDING = 1e-18  # a variance of no more is the rounding of equal values


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


def estimate(
    value: float | np.floating,
    resampled: Floats,
    n: int,
    *,
    lowest: float = 0.0,
    rarest: int | None = None,
    lacking: float = 0.0,
    mean_of_records: bool = False,
) -> Estimate:
    """The estimate of a statistic between `lowest` (0, or -1 for alphas and differences) and 1, with its interval.

    The interval is that of a share of as many independent records as would have the resamples' variance (Korn &
    Graubard 1998): percentiles of few records or rare labels are too narrow. `rarest`: records of the rarer kind, where
    the statistic compares two. `lacking`: variance that the resamples cannot show. `mean_of_records`: every record
    counts, so that where all agree the interval is that of a share of `n`."""
    if not np.isfinite(value):
        return Estimate(value=None, low=None, high=None, n=n)
    spread = variance(resampled) + lacking
    share, span = (float(value) - lowest) / (1 - lowest), 1 - lowest
    if rarest is not None and rarest < FEWEST_OF_A_KIND:
        why = f"fewer than {FEWEST_OF_A_KIND} records with or without the label: too few for an interval"
    elif n < 2 or not len(resampled):
        why = "fewer than two records" if n < 2 else "reconcile.bootstrap is 0"
    elif spread > ROUNDING and 0 < share < 1:
        low, high = _clopper_pearson(share, share * (1 - share) * span**2 / spread)
        return Estimate(value=float(value), low=lowest + span * low, high=lowest + span * high, n=n)
    elif mean_of_records and share in (0.0, 1.0):
        low, high = _clopper_pearson(share, n)
        return Estimate(value=float(value), low=low, high=high, n=n)
    else:
        why = "every resample gave the same value: too little data to see the spread"
    return Estimate(value=float(value), low=None, high=None, n=n, reason=why)


def variance(resampled: Floats) -> float:
    """Of the resamples in which the statistic is defined (not NaN); 0 with fewer than two."""
    usable = resampled[np.isfinite(resampled)]
    return float(usable.var(ddof=1)) if len(usable) > 1 else 0.0


def _clopper_pearson(share: float, n: float) -> tuple[float, float]:
    from scipy.special import betaincinv  # here: scipy takes a fifth of a second to import

    tail, hits = (1 - CONFIDENCE) / 2, share * n
    low = float(betaincinv(hits, n - hits + 1, tail)) if hits > 0 else 0.0
    return low, float(betaincinv(hits + 1, n - hits, 1 - tail)) if hits < n else 1.0

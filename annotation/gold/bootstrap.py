"""95 % intervals from resamples of records: each resample draws as many records as there are, with replacement, and a
record keeps all its answers (answers to one record are not independent of each other).

Every statistic here is a function of sums over records. So beyond MOST_UNITS records, the records are first grouped at
random into that many bundles of equal size, and bundles are drawn instead (the random groups of Wolter 2007,
Introduction to Variance Estimation, ch. 2, resampled): the standard error of a sum stays the same, with a relative
error of 1 / sqrt(2 MOST_UNITS) = 1 %, and a million answers take no longer than 20,000."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from marginalia.annotation.gold.votes import Floats, Ints
from marginalia.schemas.agreement_json import Estimate
from marginalia.schemas.storage.files import content_hash

MOST_UNITS = 5_000
CHUNK = 50  # resamples at a time
CONFIDENCE = 0.95
FEWEST_OF_A_KIND = 10  # with fewer records with, or without, a label its alpha gets no interval
ROUNDING = 1e-18  # a variance below this is rounding error: the values are equal


def bundles(records: int, seed: str) -> Ints:
    """The index of the unit that each record is resampled in: one per record, or MOST_UNITS bundles of records when
    there are more records than that."""
    if records <= MOST_UNITS:
        return np.arange(records)
    return generator(f"{seed}:bundles").permutation(records) % MOST_UNITS


def resampled_weights(units: int, resamples: int, seed: str) -> Iterator[npt.NDArray[np.float32]]:
    """How often each unit was drawn in each resample, in blocks of at most CHUNK resamples (units x CHUNK)."""
    random = generator(seed)
    for start in range(0, resamples, CHUNK):
        columns = min(CHUNK, resamples - start)
        drawn = random.integers(0, units, (columns, units)) * columns + np.arange(columns)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=units * columns)
        yield counts.reshape(units, columns).astype(np.float32)


def generator(seed: str) -> np.random.Generator:
    """A random generator that depends on nothing but the text `seed`."""
    return np.random.default_rng(int(content_hash(seed)[:16], 16))


def estimate(
    value: float | np.floating,
    resampled: Floats,
    n: int,
    *,
    lowest: float = 0.0,
    rarest: int | None = None,
    hidden_variance: float = 0.0,
    mean_of_records: bool = False,
) -> Estimate:
    """The estimate of a statistic between `lowest` (0, or -1 for alphas and differences) and 1, with its interval.

    The interval is Clopper-Pearson's for the effective number of independent records: the number whose share would have
    the variance of the resamples (Korn & Graubard 1998). Percentiles would be too narrow with few records or rare
    labels. `rarest`: number of records of the rarer kind (with or without the label), where the statistic compares the
    two. `hidden_variance`: variance that the resamples miss. `mean_of_records`: the statistic is a mean over all `n`
    records, so that a value of exactly 0 or 1 has the interval of a share of `n`."""
    if not np.isfinite(value):
        return Estimate(value=None, low=None, high=None, n=n)
    spread = variance(resampled) + hidden_variance
    share, span = (float(value) - lowest) / (1 - lowest), 1 - lowest
    if rarest is not None and rarest < FEWEST_OF_A_KIND:
        reason = f"fewer than {FEWEST_OF_A_KIND} records with or without the label: too few for an interval"
    elif n < 2 or not len(resampled):
        reason = "fewer than two records" if n < 2 else "reconcile.bootstrap is 0"
    elif spread > ROUNDING and 0 < share < 1:
        low, high = _clopper_pearson(share, share * (1 - share) * span**2 / spread)
        return Estimate(value=float(value), low=lowest + span * low, high=lowest + span * high, n=n)
    elif mean_of_records and share in (0.0, 1.0):
        low, high = _clopper_pearson(share, n)
        return Estimate(value=float(value), low=low, high=high, n=n)
    else:
        reason = "every resample gave the same value: too little data for an interval"
    return Estimate(value=float(value), low=None, high=None, n=n, reason=reason)


def variance(resampled: Floats) -> float:
    """The sample variance of the values that are not NaN; 0 with fewer than two of them."""
    usable = resampled[np.isfinite(resampled)]
    return float(usable.var(ddof=1)) if len(usable) > 1 else 0.0


def _clopper_pearson(share: float, n: float) -> tuple[float, float]:
    from scipy.special import betaincinv  # imported late: it takes a fifth of a second

    tail, hits = (1 - CONFIDENCE) / 2, share * n
    low = float(betaincinv(hits, n - hits + 1, tail)) if hits > 0 else 0.0
    return low, float(betaincinv(hits + 1, n - hits, 1 - tail)) if hits < n else 1.0

"""Intervals: of metrics by their variance over records, of differences by the bootstrap, and exact ones for shares.

A resample draws as many records as there are, with replacement; it is held as weights (how often each record was
drawn), so that a metric of many resamples is one matrix product. The same seed gives the same resamples for every
estimator, which makes differences between them paired."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from marginalia.schemas.evaluation_json import Metric

Array: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]

BLOCK_CELLS = 50_000  # resamples x records drawn with one random generator, and the fewest resamples
FEWEST_A_BLOCK = 10
CELLS_AT_ONCE = 6_000_000  # resamples x records held as weights at a time (8 bytes each)
CELLS_KEPT = 200_000_000  # resamples x records whose draws are kept for the next estimator (1 byte each)
FEWEST_RESAMPLES, FEWEST_SHARE = 50, 0.1  # an interval from fewer usable resamples is not given
FEWEST_OF_A_CLASS = 5  # with fewer positives or negatives neither bootstrap nor jackknife sees the spread
ROUNDING = 1e-18  # a variance of no more is the rounding of equal values
MOST_GROUPS_LEFT_OUT = 200  # of the jackknife: they know a variance to 5 % of itself


def resample_weights(n: int, resamples: int, seed: int) -> Iterator[Array]:
    """Blocks of shape (b, n): how often each of `n` records was drawn in each resample.

    The same `n` and seed always give the same draws."""
    draws = _kept(n, resamples, seed) if n * resamples <= CELLS_KEPT else _draws(n, resamples, seed)
    waiting: list[NDArray[np.uint8]] = []
    rows = 0
    for block in draws:
        if waiting and (rows + len(block)) * n > CELLS_AT_ONCE:
            yield np.concatenate(waiting).astype(np.float64)
            waiting, rows = [], 0
        waiting.append(block)
        rows += len(block)
    if waiting:
        yield np.concatenate(waiting).astype(np.float64)


@lru_cache(maxsize=3)
def _kept(n: int, resamples: int, seed: int) -> tuple[NDArray[np.uint8], ...]:
    return tuple(_draws(n, resamples, seed))


def _draws(n: int, resamples: int, seed: int) -> Iterator[NDArray[np.uint8]]:
    """A block's size depends on `n` alone; a byte holds any count that a resample of many records can have."""
    size = max(FEWEST_A_BLOCK, BLOCK_CELLS // max(n, 1))
    for block, first in enumerate(range(0, resamples, size)):
        rng = np.random.default_rng([seed, block])
        rows = min(size, resamples - first)
        drawn = rng.integers(0, max(n, 1), size=(rows, n)) + np.arange(rows)[:, None] * n
        counts = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
        yield np.minimum(counts, 255).astype(np.uint8)


def left_out_weights(n: int) -> Iterator[Array]:
    """Blocks (b, n) of 0 and 1: all `n` records but one group, for each group in turn. Groups are single records, or
    MOST_GROUPS_LEFT_OUT random ones."""
    groups = min(n, MOST_GROUPS_LEFT_OUT)
    group = np.random.default_rng([n, groups]).permutation(n) % max(groups, 1)
    size = max(1, CELLS_AT_ONCE // max(n, 1))
    for first in range(0, groups, size):
        left_out = np.arange(first, min(first + size, groups))
        yield (group[None, :] != left_out[:, None]).astype(np.float64)


def bootstrap_metric(
    value: float,
    replicates: Array,
    n: int,
    *,
    confidence: float,
    undefined: str,
    rarest: int | None = None,
    variance: float | None = None,
) -> Metric:
    """A value with its interval: from `variance` for a metric in [0, 1] (`of_effective_size`), else percentiles.

    `value` and `replicates` are NaN where the metric is not defined; `undefined` says why for the value. `rarest` is
    the size of the smaller class, where the metric compares two. `variance` is NaN where the records are too few to
    tell it."""
    total = len(replicates)
    if not np.isfinite(value):
        return Metric(value=None, n=n, reason=undefined)
    usable = replicates[np.isfinite(replicates)]
    left_out = total - len(usable)
    if rarest is not None and rarest < FEWEST_OF_A_CLASS:
        why = f"fewer than {FEWEST_OF_A_CLASS} with or without the label: too few for an interval"
    elif variance is not None and np.isnan(variance):
        why = "too few records with and without each label for an interval"
    elif variance is not None and variance > ROUNDING and 0 < value < 1:
        low, high = of_effective_size(value, variance, confidence=confidence)
        return Metric(value=float(value), low=low, high=high, n=n)
    elif len(usable) < max(FEWEST_RESAMPLES, FEWEST_SHARE * total):
        why = f"{left_out} of {total} resamples lacked a class"
    elif variance is not None or len(usable) == 0 or np.ptp(usable) == 0:
        why = "every resample gave the same value: too little data to see the spread"
    else:
        tail = (1 - confidence) / 2
        low, high = np.quantile(usable, [tail, 1 - tail])
        return Metric(
            value=float(value),
            low=float(low),
            high=float(high),
            n=n,
            resamples=len(usable),
            resamples_left_out=left_out,
        )
    return Metric(value=float(value), n=n, resamples=len(usable), resamples_left_out=left_out, reason=why)


def simultaneous(replicates: Array, confidence: float, sizes: Sequence[float]) -> Array:
    """(2, m): intervals of m numbers, resamples (b, m), that hold all at once with that confidence.

    Each is as many standard deviations wide as the furthest of the m is off in a resample (max-T; Westfall & Young
    1993), so that numbers that go together need hardly wider intervals than one alone. `sizes` (m,) are how many
    records each number rests on: resamples of few records spread too little, which is made up for as Student's t is
    wider than the normal distribution (after Hesterberg 2015, section 3.3). Resamples in which one of the numbers is
    not defined (NaN) are left out; NaN where none is left."""
    usable = replicates[np.isfinite(replicates).all(axis=1)]
    if not usable.size:
        return np.full((2, replicates.shape[1]), np.nan)
    middle, spread = np.median(usable, axis=0), usable.std(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        off = np.nan_to_num(np.abs(usable - middle) / spread).max(axis=1)
    furthest = float(np.quantile(off, confidence))
    reach = spread * [_as_student(furthest, max(size, 2.0)) for size in sizes]
    return np.stack([middle - reach, middle + reach])


def _as_student(deviations: float, size: float) -> float:
    """Normal standard deviations → those of a resampled mean of `size` records that are left out as seldom."""
    from scipy.special import ndtr, stdtrit  # here: scipy takes a fifth of a second to import

    return float(-math.sqrt(size / (size - 1)) * stdtrit(size - 1, ndtr(-deviations)))


def share(successes: int, n: int, *, confidence: float, undefined: str) -> Metric:
    """Successes / n with the Clopper-Pearson interval; null with `undefined` when n is 0."""
    if n == 0:
        return Metric(value=None, n=0, reason=undefined)
    low, high = clopper_pearson(successes, n, confidence=confidence)
    return Metric(value=successes / n, low=low, high=high, n=n)


def share_of_values(hits: Flags, counted: Flags, *, confidence: float, undefined: str) -> Metric:
    """The share of the `counted` values (n records, L) that are `hits`, with an interval that knows that the values of
    one record are not independent: `of_effective_size`, never narrower than Clopper-Pearson's, which it is where no
    record has two. Where all records are alike, each counts as one value. null with `undefined` without values."""
    successes, n = int(hits.sum()), int(counted.sum())
    per_record = counted.sum(1)
    found = share(successes, n, confidence=confidence, undefined=undefined)
    if n == 0 or per_record.max() <= 1:
        return found
    records, value = len(per_record), successes / n
    variance = float(((hits.sum(1) - value * per_record) ** 2).sum()) / n**2 * records / max(records - 1, 1)
    size = min(float(n), value * (1 - value) / variance) if variance > ROUNDING else float((per_record > 0).sum())
    low, high = clopper_pearson(value * size, size, confidence=confidence)
    return found.model_copy(update={"low": low, "high": high})


def clopper_pearson(successes: float, n: float, *, confidence: float) -> tuple[float, float]:
    """The exact two-sided interval of a binomial share (Clopper & Pearson 1934)."""
    tail = (1 - confidence) / 2
    return lower_bound(successes, n, error=tail), upper_bound(successes, n, error=tail)


def of_effective_size(value: float, variance: float, *, confidence: float) -> tuple[float, float]:
    """The interval of a metric in (0, 1) with this variance: that of a share of as many independent records as would
    have it, value (1 - value) / variance (Korn & Graubard 1998, who use it for shares from clustered samples)."""
    size = value * (1 - value) / variance
    return clopper_pearson(value * size, size, confidence=confidence)


def share_of_finite(successes: int, n: int, population: int, *, confidence: float) -> tuple[float, float]:
    """The exact interval of the share among `population` things of which `n` were drawn without replacement: never
    wider than Clopper-Pearson's, and a point when all were drawn (inverted hypergeometric tests)."""
    tail = (1 - confidence) / 2
    counts = range(successes, population - (n - successes) + 1)  # what the number in the population can be
    low = bisect_right(counts, tail, key=lambda count: 1 - _chance_at_most(successes - 1, count, n, population))
    high = bisect_left(counts, -tail, key=lambda count: -_chance_at_most(successes, count, n, population))
    return counts[low] / population, counts[high - 1] / population


def _chance_at_most(successes: int, count: int, n: int, population: int) -> float:
    """P(X <= successes) when `n` are drawn of `population`, `count` of which are successes."""
    possible = range(max(0, n - (population - count)), min(successes, count) + 1)
    whole = _log_choose(population, n)
    return sum(
        math.exp(_log_choose(count, hits) + _log_choose(population - count, n - hits) - whole) for hits in possible
    )


def _log_choose(whole: int, part: int) -> float:
    return math.lgamma(whole + 1) - math.lgamma(part + 1) - math.lgamma(whole - part + 1)


def lower_bound(successes: float, n: float, *, error: float) -> float:
    """One-sided: the true share is below this with probability at most `error`."""
    from scipy.special import betaincinv  # here: scipy takes a fifth of a second to import

    return 0.0 if successes <= 0 else float(betaincinv(successes, n - successes + 1, error))


def upper_bound(successes: float, n: float, *, error: float) -> float:
    """One-sided: the true share is above this with probability at most `error`."""
    from scipy.special import betaincinv

    return 1.0 if successes >= n else float(betaincinv(successes + 1, n - successes, 1 - error))

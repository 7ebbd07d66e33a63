"""Intervals: of metrics from their variance over records, of differences by the bootstrap, exact ones for shares.

A resample draws as many records as there are, with replacement. It is represented by weights (how often each record was
drawn), so a metric of many resamples is one matrix product. The same seed gives the same resamples for every estimator,
so differences between estimators are paired."""

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

# A block is drawn with one random generator: BLOCK_CELLS resamples × records, but at least FEWEST_A_BLOCK resamples.
BLOCK_CELLS = 50_000
FEWEST_A_BLOCK = 10
CELLS_AT_ONCE = 6_000_000  # resamples × records whose weights are in memory at a time (8 bytes each)
CELLS_KEPT = 200_000_000  # resamples × records whose draws are cached for the next estimator (1 byte each)
FEWEST_RESAMPLES, FEWEST_SHARE = 50, 0.1  # fewer usable resamples, as a number or as a share, give no interval
FEWEST_OF_A_CLASS = 5  # with fewer positives or negatives neither bootstrap nor jackknife can estimate the variance
ROUNDING = 1e-18  # a variance up to this is the rounding error of equal values
MOST_GROUPS_LEFT_OUT = 200  # of the jackknife: enough to know a variance to 5 % of itself


def resample_weights(n: int, resamples: int, seed: int) -> Iterator[Array]:
    """Blocks of shape (b, n), `resamples` rows in all: how often each of `n` records was drawn in each resample.

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
    """The draws of `resample_weights`. A block's size depends on `n` alone, so more resamples begin with the same ones.

    A byte is enough: a count above 255 practically never occurs."""
    size = max(FEWEST_A_BLOCK, BLOCK_CELLS // max(n, 1))
    for block, first in enumerate(range(0, resamples, size)):
        rng = np.random.default_rng([seed, block])
        rows = min(size, resamples - first)
        drawn = rng.integers(0, max(n, 1), size=(rows, n)) + np.arange(rows)[:, None] * n
        counts = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
        yield np.minimum(counts, 255).astype(np.uint8)


def left_out_weights(n: int) -> Iterator[Array]:
    """Blocks (b, n) of 0 and 1: in each row one group of the `n` records is left out. Groups are single records, or
    MOST_GROUPS_LEFT_OUT random groups of equal size if there are more records."""
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
    """A metric's value on `n` records with its interval, or with the reason why it has none.

    The interval is that of `of_effective_size` if `variance` is given and the value is within (0, 1), else the
    percentiles of `replicates` (b,), the values of resamples. `value` and `replicates` are NaN where the metric is not
    defined; `undefined` is the reason for the value. `rarest`: the size of the smaller class, for metrics that compare
    two classes. `variance` is NaN where there are too few records to estimate it."""
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
    """(2, m): the ends of intervals for m numbers that all hold at once with that confidence. `replicates`: (b, m).

    Half the width of each is its standard deviation times the `confidence` quantile, over resamples, of the largest
    deviation among the m numbers (max-T; Westfall & Young 1993), so correlated numbers need hardly wider intervals than
    a single one. `sizes` (m,): on how many records each number is based. As resamples of few records vary too little,
    intervals are widened as Student's t is wider than the normal distribution (after Hesterberg 2015, section 3.3).
    Resamples in which one of the numbers is not defined (NaN) are left out; NaN when none remains."""
    usable = replicates[np.isfinite(replicates).all(axis=1)]
    if not usable.size:
        return np.full((2, replicates.shape[1]), np.nan)
    middle, spread = np.median(usable, axis=0), usable.std(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        largest = np.nan_to_num(np.abs(usable - middle) / spread).max(axis=1)
    deviations = float(np.quantile(largest, confidence))
    half_width = spread * [_as_student(deviations, max(size, 2.0)) for size in sizes]
    return np.stack([middle - half_width, middle + half_width])


def _as_student(deviations: float, size: float) -> float:
    """Standard deviations of a normal variable → those of equal coverage for the mean of `size` resampled records."""
    from scipy.special import ndtr, stdtrit  # here: scipy takes a fifth of a second to import

    return float(-math.sqrt(size / (size - 1)) * stdtrit(size - 1, ndtr(-deviations)))


def share(successes: int, n: int, *, confidence: float, undefined: str) -> Metric:
    """The share successes / n with its Clopper-Pearson interval; None with the reason `undefined` when n is 0."""
    if n == 0:
        return Metric(value=None, n=0, reason=undefined)
    low, high = clopper_pearson(successes, n, confidence=confidence)
    return Metric(value=successes / n, low=low, high=high, n=n)


def share_of_values(hits: Flags, counted: Flags, *, confidence: float, undefined: str) -> Metric:
    """The share of the `counted` values (n records, L) that are `hits`, with an interval for clustered values.

    The values of one record are not independent, so the interval is that of `of_effective_size`, with an effective size
    of at most the number of values. It is Clopper-Pearson's where no record has two values. Where all records have the
    same share, each record counts as one value. None with the reason `undefined` when there are no values."""
    successes, n = int(hits.sum()), int(counted.sum())
    per_record = counted.sum(1)
    metric = share(successes, n, confidence=confidence, undefined=undefined)
    if n == 0 or per_record.max() <= 1:
        return metric
    records, value = len(per_record), successes / n
    variance = float(((hits.sum(1) - value * per_record) ** 2).sum()) / n**2 * records / max(records - 1, 1)
    size = min(float(n), value * (1 - value) / variance) if variance > ROUNDING else float((per_record > 0).sum())
    low, high = clopper_pearson(value * size, size, confidence=confidence)
    return metric.model_copy(update={"low": low, "high": high})


def clopper_pearson(successes: float, n: float, *, confidence: float) -> tuple[float, float]:
    """The exact two-sided interval of a binomial share (Clopper & Pearson 1934), in 0–1."""
    tail = (1 - confidence) / 2
    return lower_bound(successes, n, error=tail), upper_bound(successes, n, error=tail)


def of_effective_size(value: float, variance: float, *, confidence: float) -> tuple[float, float]:
    """The interval of a metric in (0, 1) with this variance: the Clopper-Pearson interval for the number of independent
    records whose share would have the same variance, n = value (1 − value) / variance (Korn & Graubard 1998, for shares
    from clustered samples)."""
    size = value * (1 - value) / variance
    return clopper_pearson(value * size, size, confidence=confidence)


def share_of_finite(successes: int, n: int, population: int, *, confidence: float) -> tuple[float, float]:
    """The exact interval of the share of successes in a population, of which `n` were drawn without replacement.

    It inverts hypergeometric tests: never wider than Clopper-Pearson's interval, and a point when all were drawn."""
    tail = (1 - confidence) / 2
    counts = range(successes, population - (n - successes) + 1)  # possible numbers of successes in the population
    low = bisect_right(counts, tail, key=lambda count: 1 - chance_at_most(successes - 1, count, n, population))
    high = bisect_left(counts, -tail, key=lambda count: -chance_at_most(successes, count, n, population))
    return counts[low] / population, counts[high - 1] / population


def chance_at_most(successes: int, count: int, n: int, population: int) -> float:
    """P(X ≤ successes) when `n` are drawn from `population`, of which `count` are successes."""
    possible = range(max(0, n - (population - count)), min(successes, count) + 1)
    whole = _log_choose(population, n)
    return sum(
        math.exp(_log_choose(count, hits) + _log_choose(population - count, n - hits) - whole) for hits in possible
    )


def _log_choose(whole: int, part: int) -> float:
    return math.lgamma(whole + 1) - math.lgamma(part + 1) - math.lgamma(whole - part + 1)


def lower_bound(successes: float, n: float, *, error: float) -> float:
    """One-sided Clopper-Pearson bound: the true share is below it with probability at most `error`."""
    from scipy.special import betaincinv  # here: scipy takes a fifth of a second to import

    return 0.0 if successes <= 0 else float(betaincinv(successes, n - successes + 1, error))


def upper_bound(successes: float, n: float, *, error: float) -> float:
    """One-sided Clopper-Pearson bound: the true share is above it with probability at most `error`."""
    from scipy.special import betaincinv

    return 1.0 if successes >= n else float(betaincinv(successes + 1, n - successes, 1 - error))

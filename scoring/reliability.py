"""How well probabilities match frequencies: ECE, Brier score, log loss and their parts, reliability bins."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from schemas.evaluation import Bin, CalibrationQuality, Decomposition, Metric, Split
from scoring.calibration import clip, isotonic_steps, log_losses
from scoring.intervals import Array, Flags, bootstrap_metric, clopper_pearson, resample_weights

NULL_DRAWS, MANY = 200, 20_000  # simulated forecasts behind ece_if_calibrated; values above which it is shortened


def quality(
    truth: Flags, p: Array, *, splits: list[Split], bins: int, confidence: float, resamples: int, seed: int
) -> CalibrationQuality | None:
    """Quality of (n, L) probabilities, all labels pooled, intervals by resampling records; None without records."""
    pages = qualities([(truth, p)], splits=splits, bins=bins, confidence=confidence, resamples=resamples, seed=seed)
    return pages[0]


def qualities(
    tables: Sequence[tuple[Flags, Array]],
    *,
    splits: list[Split],
    bins: int,
    confidence: float,
    resamples: int,
    seed: int,
) -> list[CalibrationQuality | None]:
    """`quality` of several (truth, p) of the same n records, whose resamples are drawn once for all of them."""
    filled = [table for table in tables if table[0].size]
    binned = [equal_mass_bins(p.ravel(), bins) for _, p in filled]
    measured = _intervals(filled, binned, confidence, resamples, seed) if filled else []
    found = iter(
        CalibrationQuality(
            splits=splits,
            n=truth.size,
            positives=int(truth.sum()),
            ece=metrics[0],
            ece_if_calibrated=ece_if_calibrated(p.ravel(), bin_of, seed),
            brier=metrics[1],
            brier_parts=decompose_brier(truth.ravel(), p.ravel()),
            log_loss=metrics[2],
            log_loss_parts=decompose_log_loss(truth.ravel(), p.ravel()),
            bins=reliability_bins(truth.ravel(), p.ravel(), bin_of, confidence=confidence),
        )
        for (truth, p), bin_of, metrics in zip(filled, binned, measured, strict=True)
    )
    return [next(found) if truth.size else None for truth, _ in tables]


def equal_mass_bins(p: Array, bins: int) -> np.ndarray:
    """(n,) bin of each value. Bins hold equally many values, the first ones one more where it does not divide; equal
    values are never parted, so there may be fewer bins."""
    n = len(p)
    order = np.argsort(p, kind="stable")
    ordered = p[order]
    sizes = np.full(bins, n // bins) + (np.arange(bins) < n % bins)
    ends = np.cumsum(sizes)[:-1]
    inside = ends[(ends > 0) & (ends < n)]
    cuts = np.unique(np.searchsorted(ordered, ordered[inside - 1], side="right"))
    placed = np.searchsorted(cuts, np.arange(n), side="right")
    bin_of = np.empty(n, dtype=np.int64)
    bin_of[order] = placed
    return bin_of


def expected_calibration_error(truth: Flags, p: Array, bins: int) -> float:
    """Σ over equal-mass bins of n_bin / n · |share of positives - mean probability|."""
    bin_of = equal_mass_bins(p, bins)
    return float(np.abs(np.bincount(bin_of, weights=p - truth)).sum() / len(p))


def ece_if_calibrated(p: Array, bin_of: np.ndarray, seed: int) -> float:
    """The 95th percentile of the ECE of outcomes drawn from `p` itself (Bröcker & Smith 2007), values independent.

    An ECE below it is what a perfect forecast of this size would show. Where there are MANY values, a bin's sum of
    outcomes is drawn from the normal distribution that it comes to."""
    rng = np.random.default_rng([seed, len(p)])
    if len(p) > MANY:
        spread = np.sqrt(np.bincount(bin_of, weights=p * (1 - p)))
        gaps = np.abs(rng.normal(size=(NULL_DRAWS, len(spread))) * spread).sum(1) / len(p)
        return float(np.quantile(gaps, 0.95))
    drawn = [
        float(np.abs(np.bincount(bin_of, weights=p - (rng.random(len(p)) < p))).sum() / len(p))
        for _ in range(NULL_DRAWS)
    ]
    return float(np.quantile(drawn, 0.95))


def reliability_bins(truth: Flags, p: Array, bin_of: np.ndarray, *, confidence: float) -> list[Bin]:
    found = []
    for number in range(int(bin_of.max()) + 1):
        members = bin_of == number
        n, positives = int(members.sum()), int(truth[members].sum())
        low, high = clopper_pearson(positives, n, confidence=confidence)
        mean = float(p[members].mean())
        found.append(Bin(n=n, mean_probability=mean, share_positive=positives / n, low=low, high=high))
    return found


def decompose_brier(truth: Flags, p: Array) -> Decomposition:
    """Parts of the mean squared error against the isotonic fit and the base rate."""
    return _decompose(truth, p, lambda q: float(np.mean((q - truth) ** 2)))


def decompose_log_loss(truth: Flags, p: Array) -> Decomposition:
    """Parts of the mean log loss (nats) of the clipped probabilities."""

    def loss(q: Array) -> float:
        return float(-np.mean(np.log(np.where(truth, q, 1 - q))))  # the fit is 0 or 1 only where all outcomes agree

    return _decompose(truth, clip(p), loss)


def _decompose(truth: Flags, p: Array, loss: Callable[[Array], float]) -> Decomposition:
    x, fitted = isotonic_steps(truth, p)
    best = loss(np.asarray(fitted[np.searchsorted(x, p)]))
    base = loss(np.full(len(p), truth.mean()))
    return Decomposition(miscalibration=loss(p) - best, discrimination=base - best, uncertainty=base)


def _intervals(
    tables: Sequence[tuple[Flags, Array]], binned: Sequence[np.ndarray], confidence: float, resamples: int, seed: int
) -> list[list[Metric]]:
    """[ECE, Brier, log loss] of each table; a resample keeps the bins of the whole."""
    n = len(tables[0][0])
    parts = [_sums(truth, p, bin_of) for (truth, p), bin_of in zip(tables, binned, strict=True)]
    ends = np.cumsum([part.shape[1] for part in parts])
    joined = np.concatenate(parts, axis=1)

    def measured(weights: Array) -> Array:
        """(b, tables, 3)"""
        each = np.split(weights @ joined / n, ends[:-1], axis=1)
        return np.stack([np.column_stack([np.abs(one[:, 2:]).sum(1), one[:, 0], one[:, 1]]) for one in each], axis=1)

    value = measured(np.ones((1, n)))[0]
    replicates = np.concatenate([measured(weights) for weights in resample_weights(n, resamples, seed)])
    return [
        [
            bootstrap_metric(
                float(value[table, i]), replicates[:, table, i], n, confidence=confidence, undefined="no records"
            )
            for i in range(3)
        ]
        for table in range(len(tables))
    ]


def _sums(truth: Flags, p: Array, bin_of: np.ndarray) -> Array:
    """(n, 2 + bins): each record's mean squared error, mean log loss, and p - truth summed by bin over its L values."""
    n, n_labels = truth.shape
    gaps = np.zeros((n, int(bin_of.max()) + 1))
    np.add.at(gaps, (np.repeat(np.arange(n), n_labels), bin_of), (p - truth).ravel() / n_labels)
    return np.column_stack([((p - truth) ** 2).mean(1), log_losses(truth, p).mean(1), gaps])

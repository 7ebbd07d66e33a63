"""How well probabilities match frequencies: ECE, Brier score, log loss and their parts, reliability bins."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from schemas.evaluation import Bin, CalibrationQuality, Decomposition, Metric, Split
from scoring.calibration import clip, isotonic_steps, log_losses
from scoring.intervals import Array, Flags, bootstrap_metric, clopper_pearson, resample_weights

NULL_DRAWS = 200  # simulated calibrated forecasts behind ece_if_calibrated


def quality(
    truth: Flags, p: Array, *, splits: list[Split], bins: int, confidence: float, resamples: int, seed: int
) -> CalibrationQuality | None:
    """Quality of (n, L) probabilities, all labels pooled, intervals by resampling records; None without records."""
    n, n_labels = truth.shape
    if n == 0 or n_labels == 0:
        return None
    flat_truth, flat = truth.ravel(), p.ravel()
    bin_of = equal_mass_bins(flat, bins)
    squared = (p - truth) ** 2
    losses = log_losses(truth, p)
    metrics = _intervals(truth, p, bin_of.reshape(n, n_labels), squared, losses, confidence, resamples, seed)
    return CalibrationQuality(
        splits=splits,
        n=flat.size,
        positives=int(flat_truth.sum()),
        ece=metrics[0],
        ece_if_calibrated=ece_if_calibrated(flat, bin_of, seed),
        brier=metrics[1],
        brier_parts=decompose_brier(flat_truth, flat),
        log_loss=metrics[2],
        log_loss_parts=decompose_log_loss(flat_truth, flat),
        bins=reliability_bins(flat_truth, flat, bin_of, confidence=confidence),
    )


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

    An ECE below it is what a perfect forecast of this size would show."""
    rng = np.random.default_rng([seed, len(p)])
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
    truth: Flags,
    p: Array,
    bin_of: np.ndarray,
    squared: Array,
    losses: Array,
    confidence: float,
    resamples: int,
    seed: int,
) -> tuple[Metric, Metric, Metric]:
    """(ECE, Brier, log loss); a resample keeps the bins of the whole."""
    n, n_labels = truth.shape
    n_bins = int(bin_of.max()) + 1
    gaps = np.zeros((n, n_bins))
    np.add.at(gaps, (np.repeat(np.arange(n), n_labels), bin_of.ravel()), (p - truth).ravel())

    def measured(weights: Array) -> Array:
        ece = np.abs(weights @ gaps).sum(1) / (n * n_labels)
        return np.stack([ece, weights @ squared.mean(1) / n, weights @ losses.mean(1) / n], axis=1)

    value = measured(np.ones((1, n)))[0]
    replicates = np.concatenate([measured(weights) for weights in resample_weights(n, resamples, seed)])
    found = [
        bootstrap_metric(float(value[i]), replicates[:, i], n, confidence=confidence, undefined="no records")
        for i in range(3)
    ]
    return found[0], found[1], found[2]

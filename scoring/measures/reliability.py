"""How well probabilities match frequencies: ECE, Brier score, log loss, their decompositions, and reliability bins.

Shapes: `truth` booleans and `p` probabilities, (n,) flat, or (n, L) for n records and L labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from marginalia.schemas.evaluation_json import Bin, CalibrationQuality, Decomposition, Metric, Split
from marginalia.scoring.measures.calibration import clip, isotonic_steps, log_losses
from marginalia.scoring.measures.calibration_error import CalibrationError, calibration_error
from marginalia.scoring.measures.intervals import Array, Flags, bootstrap_metric, resample_weights, share_of_values


def quality(
    truth: Flags, p: Array, *, splits: list[Split], bins: int, confidence: float, resamples: int, seed: int
) -> CalibrationQuality | None:
    """Quality of (n, L) probabilities, all labels pooled, with intervals from resampled records; None without
    records."""
    (only,) = qualities([(truth, p)], splits=splits, bins=bins, confidence=confidence, resamples=resamples, seed=seed)
    return only


def qualities(
    tables: Sequence[tuple[Flags, Array]],
    *,
    splits: list[Split],
    bins: int,
    confidence: float,
    resamples: int,
    seed: int,
) -> list[CalibrationQuality | None]:
    """`quality` of several (truth, p) of the same n records, with the same resamples for all."""
    filled = [table for table in tables if table[0].size]
    binned = [equal_mass_bins(p.ravel(), bins) for _, p in filled]
    measured = _measured(filled, binned, confidence, resamples, seed) if filled else []
    computed = iter(
        CalibrationQuality(
            splits=splits,
            n=truth.size,
            positives=int(truth.sum()),
            ece=_as_metric(error, len(truth)),
            ece_plug_in=error.observed,
            ece_if_calibrated=error.if_calibrated,
            brier=brier,
            brier_parts=decompose_brier(truth.ravel(), p.ravel()),
            log_loss=log_loss,
            log_loss_parts=decompose_log_loss(truth.ravel(), p.ravel()),
            bins=reliability_bins(truth, p, bin_of, confidence=confidence),
        )
        for (truth, p), bin_of, (error, brier, log_loss) in zip(filled, binned, measured, strict=True)
    )
    return [next(computed) if truth.size else None for truth, _ in tables]


def equal_mass_bins(p: Array, bins: int) -> np.ndarray:
    """(n,): the bin of each value. All bins have the same number of values, the first ones one more where `bins` does
    not divide n. Equal values are never separated, so there may be fewer bins."""
    n = len(p)
    order = np.argsort(p, kind="stable")
    ordered = p[order]
    sizes = np.full(bins, n // bins) + (np.arange(bins) < n % bins)
    ends = np.cumsum(sizes)[:-1]
    inside = ends[(ends > 0) & (ends < n)]
    cuts = np.unique(np.searchsorted(ordered, ordered[inside - 1], side="right"))
    bin_of = np.empty(n, dtype=np.int64)
    bin_of[order] = np.searchsorted(cuts, np.arange(n), side="right")
    return bin_of


def expected_calibration_error(truth: Flags, p: Array, bins: int) -> float:
    """The plain ECE: Σ over equal-mass bins of n_bin / n · |share of positives − mean probability|."""
    bin_of = equal_mass_bins(p, bins)
    return float(np.abs(np.bincount(bin_of, weights=p - truth)).sum() / len(p))


def reliability_bins(truth: Flags, p: Array, bin_of: np.ndarray, *, confidence: float) -> list[Bin]:
    """The bins of a reliability diagram of (n, L) probabilities; `bin_of` is flat (n · L). The shares of positives have
    the intervals of `share_of_values`."""
    reliability = []
    bin_of = bin_of.reshape(p.shape)
    for number in range(int(bin_of.max()) + 1):
        members = bin_of == number
        positives = share_of_values(truth & members, members, confidence=confidence, undefined="no values")
        assert positives.value is not None and positives.low is not None and positives.high is not None
        reliability.append(
            Bin(
                n=int(members.sum()),
                mean_probability=float(p[members].mean()),
                share_positive=positives.value,
                low=positives.low,
                high=positives.high,
            )
        )
    return reliability


def decompose_brier(truth: Flags, p: Array) -> Decomposition:
    """Parts of the Brier score. With S(q) the mean score of forecast q, r the base rate and f the isotonic fit of truth
    on p: miscalibration S(p) − S(f), discrimination S(r) − S(f), uncertainty S(r) (Dimitriadis, Gneiting & Jordan 2021,
    CORP)."""
    return _decompose(truth, p, lambda q: float(np.mean((q - truth) ** 2)))


def decompose_log_loss(truth: Flags, p: Array) -> Decomposition:
    """The same parts of the mean log loss (nats) of the clipped probabilities."""

    def loss(q: Array) -> float:
        return float(-np.mean(np.log(np.where(truth, q, 1 - q))))  # the fit is 0 or 1 only where all outcomes agree

    return _decompose(truth, clip(p), loss)


def _decompose(truth: Flags, p: Array, loss: Callable[[Array], float]) -> Decomposition:
    x, fitted = isotonic_steps(truth, p)
    best = loss(np.asarray(fitted[np.searchsorted(x, p)]))
    base = loss(np.full(len(p), truth.mean()))
    return Decomposition(miscalibration=loss(p) - best, discrimination=base - best, uncertainty=base)


def _measured(
    tables: Sequence[tuple[Flags, Array]], binned: Sequence[np.ndarray], confidence: float, resamples: int, seed: int
) -> list[tuple[CalibrationError, Metric, Metric]]:
    """(ECE, Brier score, log loss) of each table; resamples keep the bins of the original records."""
    n = len(tables[0][0])
    parts = [_sums(truth, p, bin_of) for (truth, p), bin_of in zip(tables, binned, strict=True)]
    ends = np.cumsum([part.shape[1] for part in parts])
    joined = np.concatenate(parts, axis=1)
    value = np.split(joined.mean(0), ends[:-1])
    blocks = [weights @ joined / n for weights in resample_weights(n, resamples, seed)]
    replicates = np.split(np.concatenate(blocks), ends[:-1], axis=1)
    results = []
    for (_, p), bin_of, part, means, resampled in zip(tables, binned, parts, value, replicates, strict=True):
        variance = np.bincount(bin_of, weights=(p * (1 - p)).ravel()) / p.size**2
        error = calibration_error(means[2:], resampled[:, 2:], variance, n, confidence=confidence, seed=seed)
        brier, log_loss = (
            bootstrap_metric(
                float(means[column]),
                resampled[:, column],
                n,
                confidence=confidence,
                undefined="no records",
                variance=float(part[:, 0].var(ddof=1)) / n if column == 0 and n > 1 else None,
            )
            for column in (0, 1)
        )
        results.append((error, brier, log_loss))
    return results


def _as_metric(error: CalibrationError, n: int) -> Metric:
    why = None if error.low is not None else "every resample gave the same value: too little data to see the spread"
    return Metric(value=error.value, low=error.low, high=error.high, n=n, reason=why)


def _sums(truth: Flags, p: Array, bin_of: np.ndarray) -> Array:
    """(n, 2 + bins): of each record the mean squared error, the mean log loss, and by bin Σ (p − truth) / L."""
    n, n_labels = truth.shape
    gaps = np.zeros((n, int(bin_of.max()) + 1))
    np.add.at(gaps, (np.repeat(np.arange(n), n_labels), bin_of), (p - truth).ravel() / n_labels)
    return np.column_stack([((p - truth) ** 2).mean(1), log_losses(truth, p).mean(1), gaps])

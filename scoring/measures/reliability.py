"""How well probabilities match frequencies: ECE, Brier score, log loss, their decompositions, and reliability bins.

Shapes: `truth` booleans and `p` probabilities, (n,) flat, or (n, L) for n records and L labels; `judged` (n, L): which
cells were judged, None if all were. Every number is over judged cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from marginalia.schemas.evaluation_json import Bin, CalibrationQuality, Decomposition, Metric, Split
from marginalia.scoring.measures.calibration import clip, isotonic_steps, log_losses
from marginalia.scoring.measures.calibration_error import CalibrationError, calibration_error
from marginalia.scoring.measures.cell_means import cells_per_record, judged_or_all, per_record
from marginalia.scoring.measures.intervals import Array, Flags, bootstrap_metric, resample_weights, share_of_values

Table = tuple[Flags, Array, Flags]  # (truth, p, judged), each (n, L)


def quality(
    truth: Flags,
    p: Array,
    *,
    splits: list[Split],
    bins: int,
    confidence: float,
    resamples: int,
    seed: int,
    judged: Flags | None = None,
) -> CalibrationQuality | None:
    """Quality of (n, L) probabilities, all labels pooled, with intervals from resampled records; None without judged
    cells."""
    table = (truth, p, judged_or_all(truth, judged))
    (only,) = qualities([table], splits=splits, bins=bins, confidence=confidence, resamples=resamples, seed=seed)
    return only


def qualities(
    tables: Sequence[Table],
    *,
    splits: list[Split],
    bins: int,
    confidence: float,
    resamples: int,
    seed: int,
) -> list[CalibrationQuality | None]:
    """`quality` of several (truth, p, judged) of the same n records, with the same resamples for all."""
    filled = [(truth, p, judged) for truth, p, judged in tables if judged.any()]
    binned = [equal_mass_bins(p[judged], bins) for _, p, judged in filled]
    measured = _measured(filled, binned, confidence, resamples, seed) if filled else []
    computed = iter(
        CalibrationQuality(
            splits=splits,
            n=int(judged.sum()),
            positives=int(truth[judged].sum()),
            ece=_as_metric(error, _records(judged)),
            ece_plug_in=error.observed,
            ece_if_calibrated=error.if_calibrated,
            brier=brier,
            brier_parts=decompose_brier(truth[judged], p[judged]),
            log_loss=log_loss,
            log_loss_parts=decompose_log_loss(truth[judged], p[judged]),
            bins=reliability_bins(truth, p, bin_of, confidence=confidence, judged=judged),
        )
        for (truth, p, judged), bin_of, (error, brier, log_loss) in zip(filled, binned, measured, strict=True)
    )
    return [next(computed) if judged.any() else None for _, _, judged in tables]


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


def reliability_bins(
    truth: Flags, p: Array, bin_of: np.ndarray, *, confidence: float, judged: Flags | None = None
) -> list[Bin]:
    """The bins of a reliability diagram of (n, L) probabilities; `bin_of` (judged cells,): the bin of each judged cell,
    record by record. The shares of positives have the intervals of `share_of_values`."""
    reliability = []
    bins = np.full(p.shape, -1, dtype=np.int64)
    bins[judged_or_all(truth, judged)] = bin_of
    for number in range(int(bin_of.max()) + 1):
        members = bins == number
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
    tables: Sequence[Table], binned: Sequence[np.ndarray], confidence: float, resamples: int, seed: int
) -> list[tuple[CalibrationError, Metric, Metric]]:
    """(ECE, Brier score, log loss) of each table; resamples keep the bins of the original records."""
    parts = [_sums(*table, bin_of) for table, bin_of in zip(tables, binned, strict=True)]
    widths = [part.shape[1] for part in parts]
    ends = np.cumsum(widths)[:-1]
    joined = np.concatenate(parts, axis=1)
    cells = np.column_stack([cells_per_record(judged) for _, _, judged in tables])
    value = np.split(joined.mean(0), ends)
    replicates = np.split(_resampled_means(joined, cells, widths, resamples, seed), ends, axis=1)
    results = []
    for (_, p, judged), bin_of, part, of_cells, means, resampled in zip(
        tables, binned, parts, cells.T, value, replicates, strict=True
    ):
        n, flat = _records(judged), p[judged]
        variance = np.bincount(bin_of, weights=flat * (1 - flat)) / flat.size**2
        error = calibration_error(means[2:], resampled[:, 2:], variance, n, confidence=confidence, seed=seed)
        # of a ratio of sums, linearised: without partly judged records, of_cells is 1
        squared = part[:, 0] - means[0] * (of_cells - 1)
        brier, log_loss = (
            bootstrap_metric(
                float(means[column]),
                resampled[:, column],
                n,
                confidence=confidence,
                undefined="no records",
                variance=float(squared.var(ddof=1)) / len(squared) if column == 0 and n > 1 else None,
            )
            for column in (0, 1)
        )
        results.append((error, brier, log_loss))
    return results


def _resampled_means(joined: Array, cells: Array, widths: list[int], resamples: int, seed: int) -> Array:
    """(b, columns): the columns of `joined` (n, columns) as means over the judged cells of each resample. `cells`
    (n, tables): `cells_per_record` of each table; `widths` (tables,): how many of the columns are its own. NaN where a
    resample has no judged cell of the table."""
    blocks = []
    for weights in resample_weights(len(joined), resamples, seed):
        drawn = np.repeat(weights @ cells, widths, axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            blocks.append(weights @ joined / drawn)
    return np.concatenate(blocks)


def _records(judged: Flags) -> int:
    return int(judged.any(axis=1).sum())


def _as_metric(error: CalibrationError, n: int) -> Metric:
    why = None if error.low is not None else "every resample gave the same value: too little data to see the spread"
    return Metric(value=error.value, low=error.low, high=error.high, n=n, reason=why)


def _sums(truth: Flags, p: Array, judged: Flags, bin_of: np.ndarray) -> Array:
    """(n, 2 + bins): of each record the squared error, the log loss, and by bin p − truth, each as in
    `cell_means.per_record`."""
    record_of = np.nonzero(judged)[0]
    gaps = np.zeros((len(truth), int(bin_of.max()) + 1))
    np.add.at(gaps, (record_of, bin_of), (p - truth)[judged] / (len(record_of) / len(truth)))
    return np.column_stack([per_record((p - truth) ** 2, judged), per_record(log_losses(truth, p), judged), gaps])

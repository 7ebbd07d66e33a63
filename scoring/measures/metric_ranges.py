"""The values that a metric can take when each probability is only known to lie between its bounds.

A cell is one label of one record. Cells that were not `judged` (n, L) are not counted. Each cell's probability may be
anywhere in its [lower, upper], independently of the others. If a metric never gets worse when a positive cell's
probability rises or a negative cell's falls (ties included), then it is best with positives at their upper and
negatives at their lower bounds, and worst the other way round. These two choices are the corners. So the ranges are
exact for ROC AUC, ranking loss, Brier score, log loss, recall, F1, Hamming loss and subset accuracy, and for precision,
where the cases in which nothing is flagged are treated separately. Average precision is not of this kind, as positives
can gain from sharing a score: its range is valid, but may be wider than necessary. The range of the calibration error
is exact for fixed bins, as in the bootstrap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marginalia.scoring.measures import metrics
from marginalia.scoring.measures.calibration import log_losses
from marginalia.scoring.measures.cell_means import judged_or_all
from marginalia.scoring.measures.intervals import Array, Flags
from marginalia.scoring.measures.resampled_ranking import areas

Ends = tuple[Array, Array]  # (lowest, highest), of equal shape


@dataclass(frozen=True)
class Ranges:
    """pooled: metric → (lowest, highest). labels: metric → ((L,), (L,)). NaN where no choice within the bounds has a
    defined value."""

    pooled: dict[str, tuple[float, float]]
    labels: dict[str, Ends]


def corners(truth: Flags, lower: Array, upper: Array) -> tuple[Array, Array]:
    """(worst, best) probabilities (n, L) within the bounds."""
    return np.where(truth, lower, upper), np.where(truth, upper, lower)


def decision_ranges(
    truth: Flags, lower: Array, upper: Array, threshold: float | Array, judged: Flags | None = None
) -> Ranges:
    """Ranges of the metrics of `metrics.decisions`, at one threshold or at one per label (L,)."""
    judged = judged_or_all(truth, judged)
    positive, negative = truth & judged, ~truth & judged
    worst, best = (corner >= threshold for corner in corners(truth, lower, upper))
    weights = np.ones((1, len(truth)))
    ends = [metrics.decisions(truth, flags, judged)(weights) for flags in (worst, best)]
    pooled = {name: (float(ends[0].pooled[name][0]), float(ends[1].pooled[name][0])) for name in ends[0].pooled}
    labels = {name: (ends[0].labels[name][0], ends[1].labels[name][0]) for name in ends[0].labels}
    pooled |= {name: pooled[name][::-1] for name in metrics.LOWER_IS_BETTER if name in pooled}
    counts = [[(flags & part).sum(0) for part in (positive, negative)] for flags in (worst, best)]
    labels["precision"] = _precision(*counts[0], *counts[1])
    totals = [[np.array([part.sum()]) for part in counted] for counted in counts]
    low, high = _precision(*totals[0], *totals[1])
    pooled["micro_precision"] = (float(low[0]), float(high[0]))
    per_record = [[(flags & part).sum(1) for part in (positive, negative)] for flags in (worst, best)]
    pooled["samples_precision"] = _samples_precision(*per_record[0], *per_record[1])
    return Ranges(pooled, labels)


def binary_ranges(
    right: tuple[int, int], wrong: tuple[int, int], positives: int, n: int
) -> dict[str, tuple[float, float]]:
    """Ranges of F1, precision, recall, accuracy and false-positive rate for one label of `n` records.

    right, wrong: how many positives and how many negatives are flagged at the (lower, upper) bounds."""
    low, high = _precision(*(np.array([count]) for count in (right[0], wrong[1], right[1], wrong[0])))
    negatives, undefined = n - positives, float("nan")
    f1 = [2 * r / (r + w + positives) if positives else undefined for r, w in zip(right, wrong[::-1], strict=True)]
    return {
        "f1": (f1[0], f1[1]),
        "precision": (float(low[0]), float(high[0])),
        "recall": (right[0] / positives, right[1] / positives) if positives else (undefined, undefined),
        "accuracy": ((right[0] + negatives - wrong[1]) / n, (right[1] + negatives - wrong[0]) / n)
        if n
        else (undefined, undefined),
        "false_positive_rate": (wrong[0] / negatives, wrong[1] / negatives) if negatives else (undefined, undefined),
    }


def ranking_ranges(truth: Flags, lower: Array, upper: Array, judged: Flags | None = None) -> Ranges:
    """Ranges of the metrics of `metrics.ranking`."""
    judged = judged_or_all(truth, judged)
    ends = corners(truth, lower, upper)
    n_labels = truth.shape[1]
    columns = [(np.flatnonzero(rows), label) for label, rows in enumerate(judged.T)]
    auc = [np.array([areas(truth[cells], corner[cells])[0] for cells in columns]) for corner in ends]
    precision = np.array([average_precision_range(truth[cells], lower[cells], upper[cells]) for cells in columns])
    precision = precision.reshape(n_labels, 2)
    kept = metrics.averaged_labels(truth, judged, ranking=True)

    def macro(values: Array) -> float:
        return float(values[kept].mean()) if kept.any() else float("nan")

    worst, best = (areas(truth[judged], corner[judged])[0] for corner in ends)
    losses = [_mean_of_defined(metrics.ranking_losses(truth, corner, judged)) for corner in ends]
    pooled = {
        "micro_roc_auc": (worst, best),
        "macro_roc_auc": (macro(auc[0]), macro(auc[1])),
        "micro_average_precision": average_precision_range(truth[judged], lower[judged], upper[judged]),
        "macro_average_precision": (macro(precision[:, 0]), macro(precision[:, 1])),
        "ranking_loss": (losses[1], losses[0]),
    }
    return Ranges(pooled, {"roc_auc": (auc[0], auc[1]), "average_precision": (precision[:, 0], precision[:, 1])})


def forecast_ranges(
    truth: Flags, lower: Array, upper: Array, judged: Flags | None = None
) -> dict[str, tuple[float, float]]:
    """Ranges of the Brier score and the log loss (nats), means over all judged cells."""
    judged = judged_or_all(truth, judged)
    truth, lower, upper = truth[judged], lower[judged], upper[judged]
    worst, best = corners(truth, lower, upper)
    if not truth.size:
        return {name: (float("nan"), float("nan")) for name in ("brier", "log_loss")}
    return {
        "brier": (float(((best - truth) ** 2).mean()), float(((worst - truth) ** 2).mean())),
        "log_loss": (float(log_losses(truth, best).mean()), float(log_losses(truth, worst).mean())),
    }


def calibration_error_range(truth: Flags, lower: Array, upper: Array, bin_of: NDArray[np.int64]) -> tuple[float, float]:
    """The range of the ECE of flat cells (m,) with fixed bins `bin_of` (m,)."""
    gaps = [np.bincount(bin_of, weights=end - truth) for end in (lower, upper)]
    nearest = np.maximum(0.0, np.maximum(gaps[0], -gaps[1]))
    return float(nearest.sum() / len(truth)), float(np.maximum(np.abs(gaps[0]), np.abs(gaps[1])).sum() / len(truth))


def average_precision_range(truth: Flags, lower: Array, upper: Array) -> tuple[float, float]:
    """Bounds of average precision, Σ (recall step × precision), of flat `truth` for any choice within [lower, upper].

    The precision at a positive's score t counts positives and negatives at or above t. For each positive the best and
    the worst t of its own interval is taken, with every other cell where it helps or hurts most at that t."""
    lp, up, ln, un = lower[truth], upper[truth], lower[~truth], upper[~truth]
    if not len(lp):
        return float("nan"), float("nan")
    at = np.unique(up)  # going down, precision can only rise where a further positive is reached
    hits = _at_least(up, at)
    most = _extreme(hits / (hits + _at_least(ln, at)), at, lp, up, np.maximum, closed=True)
    at = np.unique(np.concatenate([un, up]))  # and fall where a further negative is
    hits = _at_least(lp, at) + 1
    inside = _extreme(hits / (hits + _at_least(un, at)), at, lp, up, np.minimum, closed=False)
    hits = _at_least(lp, lp)
    least = np.minimum(hits / (hits + _at_least(un, lp)), inside)
    return float(least.mean()), float(most.mean())


def _at_least(values: Array, at: Array) -> Array:
    """For each of `at`, how many of `values` are at least that."""
    return (len(values) - np.searchsorted(np.sort(values), at, side="left")).astype(np.float64)


def _extreme(values: Array, at: Array, low: Array, high: Array, better: np.ufunc, *, closed: bool) -> Array:
    """For each query, the extreme of the `values` whose ascending `at` is in [low, high]; in (low, high] if not
    `closed`.

    `better` is np.maximum or np.minimum; a query without such values gets −inf or inf."""
    start = np.searchsorted(at, low, side="left" if closed else "right")
    stop = np.searchsorted(at, high, side="right")
    length = stop - start
    extremes = np.full(len(low), -np.inf if better is np.maximum else np.inf)
    table, step = values, 1
    while True:  # `table[i]` holds the extreme of `step` values from i on; two of them cover a query
        rows = np.flatnonzero((length >= step) & (length < 2 * step))
        extremes[rows] = better(table[start[rows]], table[stop[rows] - step])
        if not (length >= 2 * step).any():
            return extremes
        table, step = better(table[:-step], table[step:]), 2 * step


def _precision(worst_right: Array, worst_wrong: Array, best_right: Array, best_wrong: Array) -> Ends:
    """Lowest and highest precision, from the numbers of right and wrong flags at the two corners.

    Precision is undefined at a corner that flags nothing. Then the extreme is that of a choice that flags only right
    cells (precision 1) or only wrong ones (0)."""
    none_flagged = worst_right + worst_wrong == 0
    low = np.where(none_flagged, np.where(best_right > 0, 1.0, np.nan), _share(worst_right, worst_wrong))
    none_flagged = best_right + best_wrong == 0
    high = np.where(none_flagged, np.where(worst_wrong > 0, 0.0, np.nan), _share(best_right, best_wrong))
    return low, high


def _samples_precision(
    worst_right: Array, worst_wrong: Array, best_right: Array, best_wrong: Array
) -> tuple[float, float]:
    """Lowest and highest mean precision over the records with a flag; a record may have one in one choice only."""
    must = worst_right + best_wrong > 0  # has a flag in every choice
    ends = []
    for value, free, bad in (
        (_share(worst_right, worst_wrong), worst_wrong > 0, best_right > 0),
        (_share(best_right, best_wrong), best_right > 0, worst_wrong > 0),
    ):
        counted = must | free
        if counted.any():
            ends.append(float(value[counted].mean()))
        else:
            ends.append((1.0 if not ends else 0.0) if bad.any() else float("nan"))
    return ends[0], ends[1]


def _mean_of_defined(values: Array) -> float:
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def _share(right: Array, wrong: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return right / np.asarray(right + wrong, dtype=np.float64)

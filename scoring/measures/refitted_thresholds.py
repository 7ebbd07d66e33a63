"""Metrics at the thresholds of highest F1, with the thresholds chosen again in each resample of the calibration split.

An interval at fixed thresholds ignores that the thresholds were chosen on few records; two equally good guards then
seem to differ far too often. Here each resample draws both splits. Each label's threshold is chosen on the drawn
calibration records as in `thresholds.label_thresholds` (the label's own, or that of all labels pooled if it has too few
positives), and evaluated on the drawn test records."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from marginalia.scoring.measures import metrics
from marginalia.scoring.measures.cell_means import judged_or_all
from marginalia.scoring.measures.intervals import Array, Flags, resample_weights
from marginalia.scoring.measures.metrics import Bootstrapped, Measured
from marginalia.scoring.measures.resampled_ranking import MOST_GROUPS, groups

if TYPE_CHECKING:
    from scipy.sparse import csr_array

METRICS = ("micro_f1", "macro_f1", "hamming_loss")
OTHER_SPLIT = 1_000_003  # added to the seed, so that the two splits are drawn independently


def with_resampled(
    truth: Flags, p: Array, own: Array, at: Array, seed: int, judged: Flags | None = None
) -> Bootstrapped:
    """The METRICS of the test records, `truth` and probabilities `p` (n, L), over the `judged` cells (None: all).

    Values are at the thresholds `own` (L,). Replicate b is at the thresholds at[b] (L,) that `chosen_thresholds` found
    in the same resample. NaN where a metric is not defined in a resample."""
    judged = judged_or_all(truth, judged)
    value = metrics.decisions(truth, p >= own, judged)(np.ones((1, len(truth))))
    pooled = {name: value.pooled[name] for name in METRICS}
    return Bootstrapped(Measured(pooled, {}), Measured(_replicates(truth, p, at, seed, judged), {}))


def chosen_thresholds(
    truth: Flags, p: Array, *, min_positives: int, resamples: int, seed: int, judged: Flags | None = None
) -> Array:
    """(resamples, L): each label's threshold of highest F1 in each resample of (n, L) calibration records, from the
    `judged` cells (None: all).

    A label with fewer than `min_positives` drawn positives gets the threshold of all labels pooled; NaN in resamples
    without any positive."""
    judged = judged_or_all(truth, judged)
    n = len(truth)
    rows_of_label = [np.flatnonzero(column) for column in judged.T]
    labels = [_Cuts(truth[rows, label], p[rows, label], rows, n) for label, rows in enumerate(rows_of_label)]
    flags = (truth & judged).astype(np.float64)
    pooled: _Cuts | None = None
    blocks = []
    for weights in resample_weights(n, resamples, seed + OTHER_SPLIT):
        few = weights @ flags < min_positives
        transposed = np.ascontiguousarray(weights.T)
        at = np.column_stack([cuts.best(transposed) for cuts in labels])
        if few.any():
            pooled = pooled or _Cuts(truth[judged], p[judged], np.nonzero(judged)[0], n)
            at = np.where(few, pooled.best(transposed)[:, None], at)
        blocks.append(at)
    return np.concatenate(blocks)


class _Cuts:
    """The possible thresholds for flat `truth` and `p` (m,): values in groups of equal scores, the highest first.

    `records` (m,): the record, of `n`, that each value belongs to. More than MOST_GROUPS scores are grouped as in
    `marginalia.scoring.measures.resampled_ranking`, and thresholds lie between groups: negatives whose scores lie
    between those of two neighbouring positives are one group, as no best threshold separates them."""

    def __init__(self, truth: Flags, p: Array, records: NDArray[np.int64], n: int) -> None:
        scores, group = np.unique(-p, return_inverse=True)
        if len(scores) > MOST_GROUPS:
            ascending = groups(truth, p)
            group = ascending.max() - ascending
        size = int(group.max(initial=-1)) + 1
        self._top, self._bottom = np.full(size, -np.inf), np.full(size, np.inf)
        np.maximum.at(self._top, group, p)
        np.minimum.at(self._bottom, group, p)
        self._counts = [_counter(group[part], records[part], size, n) for part in (truth, ~truth)]

    def best(self, transposed: Array) -> Array:
        """(b,) for weights (n, b): the threshold of highest F1, halfway to the next lower score that was drawn; NaN
        without positives."""
        if not len(self._top):
            return np.full(transposed.shape[1], np.nan)
        right, wrong = (np.cumsum(counts @ transposed, axis=0) for counts in self._counts)  # (groups, b)
        positives, flagged = right[-1], right + wrong
        best = np.argmax(right / np.maximum(flagged + positives, 1), axis=0)
        drawn = np.arange(len(best))
        after = flagged > flagged[best, drawn]
        at = self._bottom[best]
        next_drawn = np.where(after.any(0), self._top[np.argmax(after, axis=0)], at)
        return np.where(positives > 0, (at + next_drawn) / 2, np.nan)


def _replicates(truth: Flags, p: Array, at: Array, seed: int, judged: Flags) -> dict[str, Array]:
    """Metric → (b,): of resample b of these records at the thresholds at[b] (L,)."""
    n, n_labels = truth.shape
    edges = [np.unique(at[:, label]) for label in range(n_labels)]
    edges = [edge[np.isfinite(edge)] for edge in edges]
    passed = [np.searchsorted(edge, p[:, label], side="right") for label, edge in enumerate(edges)]
    records, positive, negative = np.arange(n), truth & judged, ~truth & judged
    counters = [
        [
            _counter(passed[label][part], records[part], len(edge) + 1, n)
            for part in (positive[:, label], negative[:, label])
        ]
        for label, edge in enumerate(edges)
    ]
    positives_of, cells_of = positive.astype(np.float64), judged.sum(1).astype(np.float64)
    kept, first, blocks = metrics.averaged_labels(truth, judged, ranking=False), 0, []
    for weights in resample_weights(n, len(at), seed):
        thresholds = at[first : first + len(weights)]
        first += len(weights)
        resample, transposed = np.arange(len(weights)), np.ascontiguousarray(weights.T)
        right, wrong = np.zeros((2, len(weights), n_labels))
        for label, edge in enumerate(edges):
            # a score at or above edge k has passed k + 1 edges
            needed = np.searchsorted(edge, thresholds[:, label]) + 1
            for counts, total in zip(counters[label], (right, wrong), strict=True):
                from_top = np.cumsum((counts @ transposed)[::-1], axis=0)[::-1]
                total[:, label] = from_top[np.minimum(needed, len(edge)), resample]
        blocks.append(
            _metrics(
                right,
                wrong,
                weights @ positives_of,
                kept,
                weights @ cells_of,
                np.asarray(np.isnan(thresholds).any(1)),
            )
        )
    return {name: np.concatenate([block[name] for block in blocks]) for name in METRICS}


def _metrics(
    right: Array, wrong: Array, positives: Array, kept: Flags, cells: Array, undefined: Flags
) -> dict[str, Array]:
    with np.errstate(divide="ignore", invalid="ignore"):
        f1 = np.where(positives > 0, 2 * right / (right + wrong + positives), np.nan)
        values = {
            "micro_f1": 2 * right.sum(1) / (right + wrong + positives).sum(1),
            "macro_f1": f1[:, kept].mean(1) if kept.any() else np.full(len(f1), np.nan),
            "hamming_loss": (wrong + positives - right).sum(1) / cells,
        }
    return {name: np.where(undefined, np.nan, column) for name, column in values.items()}


def _counter(rows: NDArray[np.int64], records: NDArray[np.int64], size: int, n: int) -> csr_array:
    """(size, n): how many values of each record are in each group."""
    from scipy.sparse import csr_array  # here: scipy takes a fifth of a second to import

    return csr_array((np.ones(len(rows)), (rows, records)), shape=(size, n))

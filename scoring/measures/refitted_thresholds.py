"""Decisions at thresholds of highest F1, with the thresholds chosen anew in each resample of the calibration split.

An interval at given thresholds leaves out how they came about: two guards that are equally good, each with thresholds
from the same few records, then differ clearly far too often. Here a resample draws both splits; each label's threshold
is chosen as `thresholds.label_thresholds` does (its own, or that of all labels together with too few positives) on
the drawn calibration records, and judged on the drawn test records."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from marginalia.scoring.measures import metrics
from marginalia.scoring.measures.intervals import Array, Flags, resample_weights
from marginalia.scoring.measures.metrics import Bootstrapped, Measured
from marginalia.scoring.measures.resampled_ranking import MOST_GROUPS, groups

if TYPE_CHECKING:
    from scipy.sparse import csr_array

METRICS = ("micro_f1", "macro_f1", "hamming_loss")
OTHER_SPLIT = 1_000_003  # added to the seed: the two splits are drawn independently of each other


def with_resampled(truth: Flags, p: Array, own: Array, at: Array, seed: int) -> Bootstrapped:
    """The METRICS of (n, L) test records: the value at the thresholds `own` (L,), and in resample b of the records the
    value at at[b], the thresholds of `chosen_thresholds`. NaN where a resample lacks what a metric needs."""
    value = metrics.decisions(truth, p >= own)(np.ones((1, len(truth))))
    pooled = {name: value.pooled[name] for name in METRICS}
    return Bootstrapped(Measured(pooled, {}), Measured(_judged(truth, p, at, seed), {}))


def chosen_thresholds(truth: Flags, p: Array, *, min_positives: int, resamples: int, seed: int) -> Array:
    """(resamples, L): each label's threshold of highest F1 in each resample of (n, L) calibration records.

    A label with fewer than `min_positives` drawn gets that of all labels together; NaN where none has a positive."""
    n, n_labels = truth.shape
    records = np.arange(n)
    labels = [_Cuts(truth[:, label], p[:, label], records, n) for label in range(n_labels)]
    flags = truth.astype(np.float64)
    together: _Cuts | None = None
    blocks = []
    for weights in resample_weights(n, resamples, seed + OTHER_SPLIT):
        few = weights @ flags < min_positives
        turned = np.ascontiguousarray(weights.T)
        at = np.column_stack([cuts.best(turned) for cuts in labels])
        if few.any():
            together = together or _Cuts(truth.ravel(), p.ravel(), np.repeat(records, n_labels), n)
            at = np.where(few, together.best(turned)[:, None], at)
        blocks.append(at)
    return np.concatenate(blocks)


class _Cuts:
    """Flat `truth` and `p` (m,) of the records `records`, in groups of equal scores, the highest first.

    With more than MOST_GROUPS scores those groups are taken that `marginalia.scoring.measures.resampled_ranking` makes,
    and thresholds lie between them: all scores from one that positives have to the next are one group, which no best
    threshold parts."""

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

    def best(self, turned: Array) -> Array:
        """(b,) for weights (n, b): the threshold of highest F1, halfway to the next score that was drawn; NaN without
        positives."""
        right, wrong = (np.cumsum(counts @ turned, axis=0) for counts in self._counts)  # (groups, b)
        positives, flagged = right[-1], right + wrong
        best = np.argmax(right / np.maximum(flagged + positives, 1), axis=0)
        drawn = np.arange(len(best))
        after = flagged > flagged[best, drawn]
        at = self._bottom[best]
        next_drawn = np.where(after.any(0), self._top[np.argmax(after, axis=0)], at)
        return np.where(positives > 0, (at + next_drawn) / 2, np.nan)


def _judged(truth: Flags, p: Array, at: Array, seed: int) -> dict[str, Array]:
    """The metrics of resample b of these records at the thresholds at[b] (L,)."""
    n, n_labels = truth.shape
    edges = [np.unique(at[:, label]) for label in range(n_labels)]
    edges = [edge[np.isfinite(edge)] for edge in edges]
    passed = [np.searchsorted(edge, p[:, label], side="right") for label, edge in enumerate(edges)]
    records, flags = np.arange(n), truth.astype(np.float64)
    counters = [
        [_counter(passed[label][part], records[part], len(edge) + 1, n) for part in (truth[:, label], ~truth[:, label])]
        for label, edge in enumerate(edges)
    ]
    kept, first, blocks = metrics.averaged_labels(truth, ranking=False), 0, []
    for weights in resample_weights(n, len(at), seed):
        here = at[first : first + len(weights)]
        first += len(weights)
        drawn, turned = np.arange(len(weights)), np.ascontiguousarray(weights.T)
        right, wrong = np.zeros((2, len(weights), n_labels))
        for label, edge in enumerate(edges):
            place = np.searchsorted(edge, here[:, label]) + 1  # a score at or above edge k has passed k + 1 of them
            for counts, total in zip(counters[label], (right, wrong), strict=True):
                from_top = np.cumsum((counts @ turned)[::-1], axis=0)[::-1]
                total[:, label] = from_top[np.minimum(place, len(edge)), drawn]
        positives = weights @ flags
        blocks.append(
            _metrics(right, wrong, positives, kept, weights.sum(1) * n_labels, np.asarray(np.isnan(here).any(1)))
        )
    return {name: np.concatenate([block[name] for block in blocks]) for name in METRICS}


def _metrics(
    right: Array, wrong: Array, positives: Array, kept: Flags, cells: Array, undefined: Flags
) -> dict[str, Array]:
    with np.errstate(divide="ignore", invalid="ignore"):
        f1 = np.where(positives > 0, 2 * right / (right + wrong + positives), np.nan)
        found = {
            "micro_f1": 2 * right.sum(1) / (right + wrong + positives).sum(1),
            "macro_f1": f1[:, kept].mean(1) if kept.any() else np.full(len(f1), np.nan),
            "hamming_loss": (wrong + positives - right).sum(1) / cells,
        }
    return {name: np.where(undefined, np.nan, values) for name, values in found.items()}


def _counter(rows: NDArray[np.int64], records: NDArray[np.int64], size: int, n: int) -> csr_array:
    """(size, n): how many values of each record belong to each group."""
    from scipy.sparse import csr_array  # here: scipy takes a fifth of a second to import

    return csr_array((np.ones(len(rows)), (rows, records)), shape=(size, n))

"""ROC AUC and average precision of many resamples at once.

Scores are sorted once. Both metrics depend only on how many positives and negatives lie at and between the distinct
scores that positives have, so that the values of a column fall into at most twice as many groups as it has positives;
a resample is then a sparse matrix product that counts each group, and two running sums over the groups. Columns with
more than MOST_GROUPS scores of positives get that many groups, finest at the top, whose members count as tied; the
small error of that is the same in every resample and is taken off again, so that the value itself is exact."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from marginalia.scoring.measures.intervals import Array, Flags

MOST_GROUPS = 1024
Places = NDArray[np.int64]


class Ordered:
    """Columns (`truth`, `scores`), each (m,), whose m values belong to the records `records` (m,) of `n`."""

    def __init__(self, columns: Sequence[tuple[Flags, Array]], records: Places, n: int) -> None:
        from scipy.sparse import csr_array  # here: scipy takes a fifth of a second to import

        grouped_by = [groups(truth, scores) for truth, scores in columns]
        self._ends = np.cumsum([0, *(int(found.max(initial=-1)) + 1 for found in grouped_by)])
        shape = (int(self._ends[-1]), n)
        rows = [found + start for found, start in zip(grouped_by, self._ends, strict=False)]
        self._counts = []
        for positive in (True, False):
            kept = [truth == positive for truth, _ in columns]
            at = np.concatenate([row[flags] for row, flags in zip(rows, kept, strict=True)] or [np.empty(0, int)])
            of = np.concatenate([records[flags] for flags in kept] or [np.empty(0, int)])
            self._counts.append(csr_array((np.ones(len(at)), (at, of)), shape=shape))
        self._correction = np.zeros((2, len(columns)))
        grouped = np.stack(self.measure(np.ones((1, n))))[:, 0]
        for place, (truth, scores) in enumerate(columns):
            self._correction[:, place] = np.array(areas(truth, scores)) - grouped[:, place]

    def measure(self, weights: Array) -> tuple[Array, Array]:
        """(ROC AUC, average precision), each (b, columns), for weights (b, n); NaN where a resample lacks positives
        (or, for AUC, negatives)."""
        turned = np.ascontiguousarray(weights.T)
        positive, negative = (counts @ turned for counts in self._counts)
        auc, precision = (np.full((len(weights), len(self._ends) - 1), np.nan) for _ in range(2))
        for place, (start, end) in enumerate(zip(self._ends[:-1], self._ends[1:], strict=True)):
            areas = _areas(positive[start:end], negative[start:end])
            auc[:, place], precision[:, place] = areas
        auc, precision = auc + np.nan_to_num(self._correction[0]), precision + np.nan_to_num(self._correction[1])
        return np.clip(auc, 0, 1), np.clip(precision, 0, 1)


def areas(truth: Flags, scores: Array) -> tuple[float, float]:
    """(ROC AUC, average precision) of one column, ties counted exactly; NaN where a class is missing."""
    auc, precision = _areas(*_counted(truth, np.unique(scores, return_inverse=True)[1]))
    return float(auc[0]), float(precision[0])


def groups(truth: Flags, scores: Array) -> Places:
    """(m,): each value's group, ascending by score. A score that positives have is a group of its own (or, where there
    are too many, shares one with its neighbours); all scores between two such groups are one group."""
    hit = np.unique(scores[truth])
    if len(hit) > MOST_GROUPS:
        # half of the groups for the highest scores, which decide average precision; the others hold equally many
        top, rest = hit[-MOST_GROUPS // 2 :], hit[: -MOST_GROUPS // 2]
        starts = rest[np.linspace(0, len(rest), MOST_GROUPS // 2, endpoint=False).astype(int)]
        return np.searchsorted(np.concatenate([starts, top]), scores, side="right").astype(np.int64)
    below = np.searchsorted(hit, scores, side="left")
    at_or_below = np.searchsorted(hit, scores, side="right")
    return (below + at_or_below).astype(np.int64)


def _counted(truth: Flags, groups: Places) -> tuple[Array, Array]:
    """(positives, negatives) of each group, each (groups, 1)."""
    count = int(groups.max(initial=-1)) + 1
    return tuple(  # type: ignore[return-value]
        np.bincount(groups, weights=part.astype(np.float64), minlength=count)[:, None] for part in (truth, ~truth)
    )


def _areas(positive: Array, negative: Array) -> tuple[Array, Array]:
    """(ROC AUC, average precision), each (b,), of counts (groups, b) in ascending order of score."""
    positives, negatives = positive.sum(0), negative.sum(0)
    below = np.cumsum(negative, axis=0) - negative
    auc = _share((positive * (below + 0.5 * negative)).sum(0), positives * negatives)
    true = np.cumsum(positive[::-1], axis=0)
    flagged = true + np.cumsum(negative[::-1], axis=0)
    return auc, _share((positive[::-1] * true / np.maximum(flagged, 1)).sum(0), positives)


def _share(above: Array, below: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below > 0, above / below, np.nan)

"""ROC AUC and average precision of many resamples at once.

Scores are sorted once. Both metrics depend only on how many positives and negatives lie at and between the distinct
scores of the positives, so a column's values fall into at most 2 · positives + 1 groups. A resample is then a sparse
matrix product that counts each group, and two cumulative sums over the groups. Columns with more than MOST_GROUPS
distinct scores of positives get that many groups, the finest at the top, with ties within a group. The small error of
this, measured on the original records, is subtracted from every resample, so the value itself is exact."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from marginalia.scoring.measures.intervals import Array, Flags

MOST_GROUPS = 1024
Indices = NDArray[np.int64]


class Ordered:
    """Columns (`truth`, `scores`, `records`), each (m,), prepared for `measure`. `records`: the record, of `n`, of each
    value."""

    def __init__(self, columns: Sequence[tuple[Flags, Array, Indices]], n: int) -> None:
        from scipy.sparse import csr_array  # here: scipy takes a fifth of a second to import

        group_of = [groups(truth, scores) for truth, scores, _ in columns]
        self._ends = np.cumsum([0, *(int(group.max(initial=-1)) + 1 for group in group_of)])
        shape = (int(self._ends[-1]), n)
        rows = [group + start for group, start in zip(group_of, self._ends, strict=False)]
        self._counts = []
        for positive in (True, False):
            kept = [truth == positive for truth, _, _ in columns]
            group = np.concatenate([row[flags] for row, flags in zip(rows, kept, strict=True)] or [np.empty(0, int)])
            record = np.concatenate(
                [records[flags] for (_, _, records), flags in zip(columns, kept, strict=True)] or [np.empty(0, int)]
            )
            self._counts.append(csr_array((np.ones(len(group)), (group, record)), shape=shape))
        self._correction = np.zeros((2, len(columns)))
        grouped = np.stack(self.measure(np.ones((1, n))))[:, 0]
        for column, (truth, scores, _) in enumerate(columns):
            self._correction[:, column] = np.array(areas(truth, scores)) - grouped[:, column]

    def measure(self, weights: Array) -> tuple[Array, Array]:
        """(ROC AUC, average precision), each (b, columns), for weights (b, n); NaN in resamples without positives (for
        AUC also without negatives)."""
        transposed = np.ascontiguousarray(weights.T)
        positive, negative = (counts @ transposed for counts in self._counts)
        auc, precision = (np.full((len(weights), len(self._ends) - 1), np.nan) for _ in range(2))
        for column, (start, end) in enumerate(zip(self._ends[:-1], self._ends[1:], strict=True)):
            auc[:, column], precision[:, column] = _areas(positive[start:end], negative[start:end])
        auc, precision = auc + np.nan_to_num(self._correction[0]), precision + np.nan_to_num(self._correction[1])
        return np.clip(auc, 0, 1), np.clip(precision, 0, 1)


def areas(truth: Flags, scores: Array) -> tuple[float, float]:
    """(ROC AUC, average precision) of one column, with exact ties; NaN where a class is missing."""
    auc, precision = _areas(*_counted(truth, np.unique(scores, return_inverse=True)[1]))
    return float(auc[0]), float(precision[0])


def groups(truth: Flags, scores: Array) -> Indices:
    """(m,): each value's group, ascending by score.

    Each distinct score of a positive is a group, and all scores between two such scores are one. With more than
    MOST_GROUPS scores of positives, neighbouring scores share a group."""
    hit = np.unique(scores[truth])
    if len(hit) > MOST_GROUPS:
        # half of the groups for the highest scores, which decide average precision; the others of equal size
        top, rest = hit[-MOST_GROUPS // 2 :], hit[: -MOST_GROUPS // 2]
        starts = rest[np.linspace(0, len(rest), MOST_GROUPS // 2, endpoint=False).astype(int)]
        return np.searchsorted(np.concatenate([starts, top]), scores, side="right").astype(np.int64)
    below = np.searchsorted(hit, scores, side="left")
    at_or_below = np.searchsorted(hit, scores, side="right")
    return (below + at_or_below).astype(np.int64)


def _counted(truth: Flags, groups: Indices) -> tuple[Array, Array]:
    """(positives, negatives) of each group, each (groups, 1)."""
    count = int(groups.max(initial=-1)) + 1
    return tuple(  # type: ignore[return-value]
        np.bincount(groups, weights=part.astype(np.float64), minlength=count)[:, None] for part in (truth, ~truth)
    )


def _areas(positive: Array, negative: Array) -> tuple[Array, Array]:
    """(ROC AUC, average precision), each (b,), of counts (groups, b) in ascending order of score."""
    positives, negatives = positive.sum(0), negative.sum(0)
    below = np.cumsum(negative, axis=0) - negative
    auc = _ratio((positive * (below + 0.5 * negative)).sum(0), positives * negatives)
    true = np.cumsum(positive[::-1], axis=0)
    flagged = true + np.cumsum(negative[::-1], axis=0)
    return auc, _ratio((positive[::-1] * true / np.maximum(flagged, 1)).sum(0), positives)


def _ratio(numerator: Array, denominator: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(denominator > 0, numerator / denominator, np.nan)

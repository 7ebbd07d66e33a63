"""The statistics that compare answers to the same record, as functions of how often each record counts.

Krippendorff's alpha is 1 - D_o / D_e. With n answers to a record, the observed disagreement adds
sum over ordered pairs of distance / (n - 1); the expected one pairs all answers of all records with one another
(Krippendorff 2011, Computing Krippendorff's Alpha-Reliability)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from annotation.ticks import Floats, Ints, Ticks, jaccard, masi_distance, pairs_of

Weights = npt.NDArray[np.float32]
DISTANCE_BLOCK = 2048  # rows of the distance matrix between label sets at a time


@dataclass(frozen=True)
class Statistics:
    """Of B resamples: `alpha` and `percent` per label (L x B), the others over all labels (B)."""

    alpha: Floats
    percent: Floats
    alpha_masi: Floats
    exact: Floats
    jaccard: Floats

    @classmethod
    def joined(cls, blocks: Sequence[Statistics], labels: int) -> Statistics:
        none = np.empty((labels, 0))
        return cls(
            np.concatenate([none, *(block.alpha for block in blocks)], axis=1),
            np.concatenate([none, *(block.percent for block in blocks)], axis=1),
            np.concatenate([np.empty(0), *(block.alpha_masi for block in blocks)]),
            np.concatenate([np.empty(0), *(block.exact for block in blocks)]),
            np.concatenate([np.empty(0), *(block.jaccard for block in blocks)]),
        )


class PairSums:
    """Sums per record over its pairs of answers, for the records (K) with at least two answers.

    `n` (K) answers, `yes` (K x L) ticks."""

    def __init__(self, ticks: Ticks) -> None:
        counts = ticks.counts
        kept = np.flatnonzero(counts >= 2)
        self.records = len(kept)
        self.n = counts[kept]
        self.yes = ticks.yes[kept]
        first, second = pairs_of(ticks)
        distances = masi_distance(ticks, first, second)

        def per_record(values: Floats) -> Floats:
            return np.bincount(ticks.record[first], weights=values, minlength=len(counts))[kept].astype(np.float64)

        self._per_record = np.stack(
            [
                2 * per_record(distances) / (self.n - 1),
                per_record(jaccard(ticks, first, second)),
                per_record((distances == 0).astype(float)),
                self.n * (self.n - 1) / 2,
                self.n.astype(float),
            ],
            axis=1,
        ).astype(np.float32)
        split = self.yes * (self.n[:, None] - self.yes)  # unordered pairs that differ on the label (K x L)
        self._split = split.astype(np.float32)
        self._disagreement = (2 * split / (self.n[:, None] - 1)).astype(np.float32)
        self._sets(ticks, counts, kept)

    def _sets(self, ticks: Ticks, counts: Ints, kept: Ints) -> None:
        """Every answer's label set as an index into the distinct sets, and the MASI distances between those."""
        from scipy.sparse import csr_matrix

        pairable = counts[ticks.record] >= 2
        packed = np.packbits(ticks.ticked[pairable], axis=1)
        rows = np.ascontiguousarray(packed).view([("", packed.dtype)] * packed.shape[1]).ravel()
        _, example, kind = np.unique(rows, return_index=True, return_inverse=True)
        place = np.cumsum(counts >= 2) - 1
        ones = np.ones(len(kind), dtype=np.float32)
        shape = (len(example), self.records)
        self._kinds = csr_matrix((ones, (kind, place[ticks.record[pairable]])), shape=shape)
        sets = np.flatnonzero(pairable)[example]
        self._distance = np.zeros((len(sets), len(sets)), dtype=np.float32)
        for start in range(0, len(sets), DISTANCE_BLOCK):
            rows_here = sets[start : start + DISTANCE_BLOCK]
            for at, one in enumerate(rows_here, start):
                self._distance[at] = masi_distance(ticks, np.full(len(sets), one), sets)

    def statistics(self, weights: Weights) -> Statistics:
        """The statistics when record k counts `weights[k, b]` times (K x B)."""
        masi, jaccards, exacts, pairs, total = (self._per_record.T @ weights).astype(float)
        yes = (self.yes.T.astype(np.float32) @ weights).astype(float)
        alpha = _alpha((self._disagreement.T @ weights).astype(float), 2 * yes * (total - yes), total)
        kinds = self._kinds @ weights
        expected = np.einsum("sb,sb->b", kinds, self._distance @ kinds, dtype=float)
        return Statistics(
            alpha=alpha,
            percent=1 - _ratio((self._split.T @ weights).astype(float), pairs),
            alpha_masi=_alpha(masi, expected, total),
            exact=_ratio(exacts, pairs),
            jaccard=_ratio(jaccards, pairs),
        )


def _alpha(observed: Floats, expected: Floats, total: Floats) -> Floats:
    """1 - (observed / total) / (expected / (total (total - 1))); NaN where nothing could disagree."""
    return 1 - _ratio(observed * (total - 1), expected)


def _ratio(above: Floats, below: Floats) -> Floats:
    above, below = np.broadcast_arrays(above, below)
    found: Floats = np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)
    return found

"""The statistics that compare answers to the same record, as functions of how often each record counts.

Krippendorff's alpha is 1 - D_o / D_e. With n answers to a record, the observed disagreement adds
sum over ordered pairs of distance / (n - 1); the expected one pairs all answers of all records with one another
(Krippendorff 2011, Computing Krippendorff's Alpha-Reliability)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from marginalia.annotation.gold.answer_arrays import (
    AnswerArrays,
    Floats,
    Ints,
    jaccard,
    masi_distance,
    masi_distances,
    pairs_of,
    sum_by,
)
from marginalia.annotation.gold.bootstrap import bundles

Weights = npt.NDArray[np.float32]
MOST_SETS = 10_000  # distinct label sets; their distances take 1.2 GB


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

    `n` (K) answers, `yes` (K x L) ticks. For resampling the records are summed up by unit: see `bootstrap.bundles`."""

    def __init__(self, ticks: AnswerArrays, seed: str) -> None:
        counts = ticks.counts
        kept = np.flatnonzero(counts >= 2)
        self.records = len(kept)
        self.n = counts[kept]
        self.yes = ticks.yes[kept]
        first, second = pairs_of(ticks)
        distances = masi_distance(ticks, first, second)

        def per_record(values: Floats) -> Floats:
            return np.bincount(ticks.record[first], weights=values, minlength=len(counts))[kept].astype(np.float64)

        n = self.n[:, None].astype(float)
        split = self.yes * (n - self.yes)  # unordered pairs of answers that differ on the label
        self._overall = np.concatenate(
            [
                (2 * per_record(distances) / (self.n - 1))[:, None],
                per_record(jaccard(ticks, first, second))[:, None],
                per_record((distances == 0).astype(float))[:, None],
                n * (n - 1) / 2,
                n,
                self.yes,
                split,
                2 * split / (n - 1),
            ],
            axis=1,
        )
        unit = bundles(self.records, seed)
        self.units = int(unit.max(initial=-1)) + 1
        self._narrow = sum_by(unit, self._overall, self.units).astype(np.float32)
        self._sets(ticks, counts, unit)

    def _sets(self, ticks: AnswerArrays, counts: Ints, unit: Ints) -> None:
        """How often each unit holds each of the distinct label sets, and the MASI distances between those."""
        from scipy.sparse import csr_matrix

        pairable = counts[ticks.record] >= 2
        packed = np.packbits(ticks.ticked[pairable], axis=1)
        rows = np.ascontiguousarray(packed).view([("", packed.dtype)] * packed.shape[1]).ravel()
        _, example, kind = np.unique(rows, return_index=True, return_inverse=True)
        place = np.cumsum(counts >= 2) - 1
        ones = np.ones(len(kind), dtype=np.float32)
        shape = (len(example), self.units)
        self._kinds = csr_matrix((ones, (kind, unit[place[ticks.record[pairable]]])), shape=shape)
        self.too_many_sets = len(example) > MOST_SETS
        chosen = np.flatnonzero(pairable)[example]
        self._distance = np.full((1, 1), np.nan) if self.too_many_sets else masi_distances(ticks.ticked[chosen])
        self._narrow_distance = self._distance.astype(np.float32)

    def statistics(self, weights: Weights | None = None) -> Statistics:
        """The statistics when unit u counts `weights[u, b]` times (units x B); once each, and in double precision,
        without weights."""
        if weights is None:
            sums = self._overall.sum(axis=0)[:, None]
            kinds = np.asarray(self._kinds.sum(axis=1), dtype=float).reshape(-1, 1)
        else:
            sums = (self._narrow.T @ weights).astype(float)
            kinds = self._kinds @ weights
        masi, jaccards, exacts, pairs, total = sums[:5]
        yes, split, disagreement = np.split(sums[5:], 3)
        distance = self._distance if weights is None else self._narrow_distance
        if self.too_many_sets:
            expected = np.full(kinds.shape[1], np.nan)
        else:
            expected = np.einsum("sb,sb->b", kinds, distance @ kinds, dtype=float)
        return Statistics(
            alpha=_alpha(disagreement, 2 * yes * (total - yes), total),
            percent=1 - _ratio(split, pairs),
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

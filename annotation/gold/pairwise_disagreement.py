"""The statistics that compare answers to the same record, as functions of the weight of each record.

Krippendorff's alpha is 1 - D_o / D_e. With n answers to a record, the observed disagreement adds
the sum over ordered pairs of distance / (n - 1); the expected one pairs all answers of all records with one another
(Krippendorff 2011, Computing Krippendorff's Alpha-Reliability)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from marginalia.annotation.gold.bootstrap import bundles
from marginalia.annotation.gold.votes import (
    Floats,
    Ints,
    Votes,
    jaccard,
    masi_distance,
    masi_distances,
    pairs_of,
    sum_by,
)

Weights = npt.NDArray[np.float32]
MOST_SETS = 10_000  # distinct label sets; their distances take 1.2 GB


@dataclass(frozen=True)
class Statistics:
    """The statistics of B resamples: `alpha` and `percent` agreement per label (L x B); over label sets (B)
    `alpha_masi`, the share of `exact` matches and the mean `jaccard`. NaN where a statistic is undefined."""

    alpha: Floats
    percent: Floats
    alpha_masi: Floats
    exact: Floats
    jaccard: Floats

    @classmethod
    def joined(cls, blocks: Sequence[Statistics], labels: int) -> Statistics:
        """Blocks of resamples one after the other; B is 0 without blocks."""
        empty = np.empty((labels, 0))
        return cls(
            np.concatenate([empty, *(block.alpha for block in blocks)], axis=1),
            np.concatenate([empty, *(block.percent for block in blocks)], axis=1),
            np.concatenate([np.empty(0), *(block.alpha_masi for block in blocks)]),
            np.concatenate([np.empty(0), *(block.exact for block in blocks)]),
            np.concatenate([np.empty(0), *(block.jaccard for block in blocks)]),
        )


class PairSums:
    """Sums per record over its pairs of answers, for the records (K) with at least two answers.

    `n` (K): answers per record. `yes` (K x L): how many of them tick each label. For resampling, the sums of records
    are added up by unit: see `bootstrap.bundles`."""

    def __init__(self, votes: Votes, seed: str) -> None:
        counts = votes.answers_per_record
        kept = np.flatnonzero(counts >= 2)
        self.records = len(kept)
        self.n = counts[kept]
        self.yes = votes.yes_votes[kept]
        first, second = pairs_of(votes)
        distances = masi_distance(votes, first, second)

        def per_record(values: Floats) -> Floats:
            sums = np.bincount(votes.record_index[first], weights=values, minlength=len(counts))
            return sums[kept].astype(np.float64)

        n = self.n[:, None].astype(float)
        split = self.yes * (n - self.yes)  # unordered pairs of answers that differ on the label
        self._record_sums = np.concatenate(
            [
                (2 * per_record(distances) / (self.n - 1))[:, None],
                per_record(jaccard(votes, first, second))[:, None],
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
        self._unit_sums = sum_by(unit, self._record_sums, self.units).astype(np.float32)
        self._count_sets(votes, counts, unit)

    def _count_sets(self, votes: Votes, counts: Ints, unit: Ints) -> None:
        """How often each unit has each distinct label set (`_set_counts`), and the MASI distances between the sets."""
        from scipy.sparse import csr_matrix

        pairable = counts[votes.record_index] >= 2
        packed = np.packbits(votes.indicators[pairable], axis=1)
        rows = np.ascontiguousarray(packed).view([("", packed.dtype)] * packed.shape[1]).ravel()
        _, example, set_index = np.unique(rows, return_index=True, return_inverse=True)
        row_of_record = np.cumsum(counts >= 2) - 1  # among the pairable ones
        ones = np.ones(len(set_index), dtype=np.float32)
        unit_of_answer = unit[row_of_record[votes.record_index[pairable]]]
        shape = (len(example), self.units)
        self._set_counts = csr_matrix((ones, (set_index, unit_of_answer)), shape=shape)
        self.too_many_sets = len(example) > MOST_SETS
        chosen = np.flatnonzero(pairable)[example]
        self._distance = np.full((1, 1), np.nan) if self.too_many_sets else masi_distances(votes.indicators[chosen])
        self._distance_float32 = self._distance.astype(np.float32)

    def statistics(self, weights: Weights | None = None) -> Statistics:
        """The statistics when unit u counts `weights[u, b]` times in resample b (units x B). Without weights: when each
        counts once (B = 1), in double precision."""
        if weights is None:
            sums = self._record_sums.sum(axis=0)[:, None]
            set_counts = np.asarray(self._set_counts.sum(axis=1), dtype=float).reshape(-1, 1)
        else:
            sums = (self._unit_sums.T @ weights).astype(float)
            set_counts = self._set_counts @ weights
        masi, jaccards, exacts, pairs, total = sums[:5]
        yes, split, disagreement = np.split(sums[5:], 3)
        distance = self._distance if weights is None else self._distance_float32
        if self.too_many_sets:
            expected = np.full(set_counts.shape[1], np.nan)
        else:
            expected = np.einsum("sb,sb->b", set_counts, distance @ set_counts, dtype=float)
        return Statistics(
            alpha=_alpha(disagreement, 2 * yes * (total - yes), total),
            percent=1 - _ratio(split, pairs),
            alpha_masi=_alpha(masi, expected, total),
            exact=_ratio(exacts, pairs),
            jaccard=_ratio(jaccards, pairs),
        )


def _alpha(observed: Floats, expected: Floats, total: Floats) -> Floats:
    """1 - (observed / total) / (expected / (total (total - 1))); NaN where no answers differ."""
    return 1 - _ratio(observed * (total - 1), expected)


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    ratio: Floats = np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)
    return ratio

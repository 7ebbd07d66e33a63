"""The disagreement over label sets that chance would give: the denominator of Krippendorff's alpha with MASI distance.

Krippendorff pairs all answers of all records with one another. Here two answers are compared on the labels that both
judge, and pairs across records may have other labels in common than pairs within records, so that random answers would
not have an alpha of 0. So each pair of answers to one record, with the common labels c, is held against all pairs of
answers that judge all of c, restricted to c. Where all answers judge all labels, that is Krippendorff's definition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from marginalia.annotation.gold.votes import Bools, Floats, Ints, Votes, common_labels, masi_distances

MOST_SETS = 10_000  # distinct label sets, in all comparisons together; their distances take 1.2 GB
Weights = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Comparison:
    """One set of common labels. `members` (S x D): which distinct answers, restricted to these labels, have each of S
    label sets; `distance` (S x S): between these sets."""

    members: Any  # a sparse matrix; None where the distinct answers are the label sets
    distance: Floats


class ChanceDisagreement:
    """The distinct answers (D) of each unit of resampling, and the distances between them.

    `first`, `second`, `weight` (P): the pairs of answers that are compared, and their weights in the observed
    disagreement; `unit` (A): each answer's unit, -1 for answers that are in no pair."""

    def __init__(
        self, votes: Votes, first: Ints, second: Ints, weight: Floats | None, unit: Ints, n_units: int
    ) -> None:
        from scipy.sparse import csr_matrix

        paired = np.flatnonzero(unit >= 0)
        marks = [votes.judged[paired], votes.indicators[paired]] if votes.partial else [votes.indicators[paired]]
        example, kind = _distinct(*marks)
        ones = np.ones(len(kind), dtype=np.float32)
        self._counts = csr_matrix((ones, (kind, unit[paired])), shape=(len(example), n_units))
        self._comparisons: list[_Comparison] = []
        self.too_many_sets = len(example) > MOST_SETS
        if self.too_many_sets:
            return
        kinds = paired[example]
        if weight is None:
            self._comparisons = [_Comparison(None, masi_distances(votes.indicators[kinds]))]
            return
        common = common_labels(votes, first, second)
        shown, at = _distinct(common)
        self._weights = csr_matrix((weight, (at, unit[first])), shape=(len(shown), n_units))
        self._compare(votes.judged[kinds], votes.indicators[kinds], common[shown])

    def _compare(self, judged: Bools, ticked: Bools, common: Bools) -> None:
        """Adds one comparison per row of `common` (C x L), of the distinct answers `judged`, `ticked` (D x L)."""
        from scipy.sparse import csr_matrix

        n_sets = 0
        for labels in common:
            kinds = np.flatnonzero((judged | ~labels).all(axis=1))
            restricted = ticked[kinds][:, labels]
            example, which = _distinct(restricted)
            n_sets += len(example)
            if n_sets > MOST_SETS:
                self.too_many_sets = True
                return
            members = csr_matrix((np.ones(len(kinds)), (which, kinds)), shape=(len(example), len(judged)))
            self._comparisons.append(_Comparison(members, masi_distances(restricted[example])))

    def expected(self, weights: Weights | None, total: Floats) -> Floats:
        """The sum of the distances of all ordered pairs of `total` answers (B), if they had the chance disagreement,
        when unit u counts `weights[u, b]` times; NaN where it was not computed. Without weights each counts once."""
        if self.too_many_sets:
            return np.full(len(total), np.nan)
        if weights is None:
            counts = np.asarray(self._counts.sum(axis=1), dtype=float).reshape(-1, 1)
        else:
            counts = self._counts @ weights
        if self._comparisons and self._comparisons[0].members is None:
            return _sum_of_distances(counts, self._comparisons[0].distance)
        share = np.zeros(len(total))
        for at, comparison in enumerate(self._comparisons):
            row = self._weights[at]
            weight = np.atleast_1d(row.sum()) if weights is None else np.asarray(row @ weights, dtype=float).ravel()
            sets = np.asarray(comparison.members @ counts)
            n = sets.sum(axis=0, dtype=float)
            pairs = np.where(weight > 0, n * (n - 1), 1.0)
            share += weight * _sum_of_distances(sets, comparison.distance) / pairs
        return share * (total - 1)


def _sum_of_distances(counts: npt.NDArray[np.floating], distance: Floats) -> Floats:
    """The sum over ordered pairs of answers, of which `counts` (S x B) have each set."""
    distance = distance.astype(counts.dtype, copy=False)
    total: Floats = np.einsum("sb,sb->b", counts, distance @ counts, dtype=float)
    return total


def _distinct(*flags: Bools) -> tuple[Ints, Ints]:
    """The index of one example of each distinct row, and the distinct row that each row is."""
    packed = np.concatenate([np.packbits(part, axis=1) for part in flags], axis=1)
    rows = np.ascontiguousarray(packed).view([("", packed.dtype)] * packed.shape[1]).ravel()
    _, example, which = np.unique(rows, return_index=True, return_inverse=True)
    return example, which

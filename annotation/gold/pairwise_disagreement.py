"""The statistics that compare answers to the same record, as functions of the weight of each record.

Krippendorff's alpha is 1 - D_o / D_e. With n answers to a record, the observed disagreement adds
the sum over ordered pairs of distance / (n - 1); the expected one pairs all answers of all records with one another
(Krippendorff 2011, Computing Krippendorff's Alpha-Reliability).

Where answers judge only some of the labels, a label's alpha and percent agreement are those of the answers that judge
it. Label sets are compared on the labels that both answers judge. A pair without such a label is missing, and each
answer is weighted by its own number of partners: in the observed disagreement of label sets it counts with the mean
distance to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from marginalia.annotation.gold.bootstrap import bundles
from marginalia.annotation.gold.chance_disagreement import ChanceDisagreement, Weights
from marginalia.annotation.gold.votes import Floats, Ints, Votes, jaccard, masi_distance, pairs_of, sum_by


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
    """Sums per record over its pairs of answers, for the records (K) with at least one pair.

    `n` (K x L): answers that judge each label, or 0 where only one does; `yes` (K x L): how many of them tick it. For
    resampling, the sums of records are added up by unit: see `bootstrap.bundles`."""

    def __init__(self, votes: Votes, seed: str) -> None:
        first, second = pairs_of(votes)
        pairs = np.bincount(votes.record_index[first], minlength=len(votes.records))
        kept = np.flatnonzero(pairs)
        self.records = len(kept)
        self.partial = votes.partial
        self.n, self.yes = votes.judged_votes[kept], votes.yes_votes[kept]
        if votes.partial:
            single = self.n < 2
            self.n, self.yes = np.where(single, 0, self.n), np.where(single, 0, self.yes)
        distances = masi_distance(votes, first, second)

        def per_record(values: Floats) -> Floats:
            sums = np.bincount(votes.record_index[first], weights=values, minlength=len(votes.records))
            return sums[kept].astype(np.float64)

        answers, weight = _weights(votes, first, second)
        total = np.bincount(votes.record_index[answers], minlength=len(votes.records))[kept].astype(float)
        masi = 2 * per_record(distances) / (total - 1) if weight is None else per_record(distances * weight)
        n = self.n.astype(float)
        split = self.yes * (n - self.yes)  # unordered pairs of answers that differ on the label
        unit = bundles(self.records, seed)
        self.units = int(unit.max(initial=-1)) + 1
        self._record_sums = np.concatenate(
            [
                masi[:, None],
                per_record(jaccard(votes, first, second))[:, None],
                per_record((distances == 0).astype(float))[:, None],
                pairs[kept][:, None].astype(float),
                total[:, None],
                self.yes,
                split,
                2 * split / np.maximum(n - 1, 1),
                *([n * (n - 1) / 2, n] if votes.partial else []),  # otherwise the same for all labels
            ],
            axis=1,
        )
        self._unit_sums = sum_by(unit, self._record_sums, self.units).astype(np.float32)
        unit_of_answer = np.full(votes.n_answers, -1)
        unit_of_answer[answers] = unit[np.searchsorted(kept, votes.record_index[answers])]
        self._chance = ChanceDisagreement(votes, first, second, weight, unit_of_answer, self.units)
        self.too_many_sets = self._chance.too_many_sets

    def statistics(self, weights: Weights | None = None) -> Statistics:
        """The statistics when unit u counts `weights[u, b]` times in resample b (units x B). Without weights: when each
        counts once (B = 1), in double precision."""
        if weights is None:
            sums = self._record_sums.sum(axis=0)[:, None]
        else:
            sums = (self._unit_sums.T @ weights).astype(float)
        masi, jaccards, exacts, pairs, total = sums[:5]
        if self.partial:
            yes, split, disagreement, label_pairs, label_total = np.split(sums[5:], 5)
        else:
            yes, split, disagreement = np.split(sums[5:], 3)
            label_pairs, label_total = pairs[None, :], total[None, :]
        return Statistics(
            alpha=_alpha(disagreement, 2 * yes * (label_total - yes), label_total),
            percent=1 - _ratio(split, label_pairs),
            alpha_masi=_alpha(masi, self._chance.expected(weights, total), total),
            exact=_ratio(exacts, pairs),
            jaccard=_ratio(jaccards, pairs),
        )


def _weights(votes: Votes, first: Ints, second: Ints) -> tuple[Ints, Floats | None]:
    """The answers that are in a pair, and the weight of each pair's distance in the observed disagreement: 1 / partners
    of its first answer plus 1 / partners of its second. None where all answers to a record are partners."""
    if not votes.partial:
        return np.flatnonzero(votes.answers_per_record[votes.record_index] >= 2), None
    partners = np.bincount(first, minlength=votes.n_answers) + np.bincount(second, minlength=votes.n_answers)
    return np.flatnonzero(partners), 1 / partners[first] + 1 / partners[second]


def _alpha(observed: Floats, expected: Floats, total: Floats) -> Floats:
    """1 - (observed / total) / (expected / (total (total - 1))); NaN where no answers differ."""
    return 1 - _ratio(observed * (total - 1), expected)


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    ratio: Floats = np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)
    return ratio

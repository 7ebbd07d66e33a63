"""Each annotator against the others: kappa, precision and recall, in pairs and against all others together."""

from __future__ import annotations

import numpy as np

from marginalia.annotation.gold.bootstrap import bundles, estimate, resampled_weights
from marginalia.annotation.gold.votes import Floats, Ints, Votes, common_labels, sum_by
from marginalia.schemas.agreement_json import AnnotatorAgreement, AnnotatorLabelAgreement, PairAgreement

MOST_PAIRS = 2000  # a large crowd has more pairs than anybody reads


def annotator_agreement(votes: Votes, resamples: int, seed: str) -> list[AnnotatorAgreement]:
    """Each annotator against the others on the same records, with intervals from `resamples` resamples of records.

    Each label of a record that somebody else also judged is compared with each of the k other answers that judge it,
    weighted 1/k: every such label of a record counts the same."""
    return [
        _against_others(votes, index, resamples, f"{seed}:{annotator}")
        for index, annotator in enumerate(votes.annotators)
    ]


def _against_others(votes: Votes, annotator: int, resamples: int, seed: str) -> AnnotatorAgreement:
    answers = np.flatnonzero(votes.annotator_index == annotator)
    cells, compared = _confusion(votes, answers)
    n = len(cells)
    pooled = cells.sum(axis=1)
    point = pooled.sum(axis=0)[:, None]
    unit = bundles(n, seed)
    units = int(unit.max(initial=-1)) + 1
    unit_sums = sum_by(unit, pooled, units).astype(np.float32)
    blocks = [unit_sums.T @ weights for weights in resampled_weights(units, resamples, seed)]
    spread = np.concatenate([np.empty((4, 0)), *blocks], axis=1)
    per_label = cells.sum(axis=0).T
    return AnnotatorAgreement(
        annotator=votes.annotators[annotator],
        answers=len(answers),
        labels_per_answer=float(votes.indicators[answers].sum() / len(answers)) if len(answers) else None,
        kappa=estimate(kappa(point)[0], kappa(spread), n, lowest=-1.0),
        precision=estimate(precision(point)[0], precision(spread), n),
        recall=estimate(recall(point)[0], recall(spread), n),
        per_label=[
            AnnotatorLabelAgreement(
                label=label,
                n=int(compared[at]) if votes.partial else None,
                kappa=_or_null(kappa(per_label)[at]),
                precision=_or_null(precision(per_label)[at]),
                recall=_or_null(recall(per_label)[at]),
            )
            for at, label in enumerate(votes.labels)
        ],
    )


def _confusion(votes: Votes, answers: Ints) -> tuple[Floats, Ints]:
    """Two-by-two tables of one annotator's `answers` (indices) against the other answers to the same records, as shares
    of the others: answers x labels x [both ticked, only this annotator, only the others, neither]. A label that the
    annotator or all others did not judge has zeros; answers that would have only zeros are left out. And the number of
    records in which each label was compared (L, or 1 where it is the same for all labels)."""
    record = votes.record_index[answers]
    if votes.partial:
        others = votes.judged_votes[record] - votes.judged[answers]
        compared = votes.judged[answers] & (others > 0)
    else:  # the same for all labels
        others = (votes.answers_per_record[record] - 1)[:, None]
        compared = others > 0
    kept = compared.any(axis=1)
    own = votes.indicators[answers[kept]].astype(float)
    theirs = (votes.yes_votes[record[kept]] - own) / np.maximum(others[kept], 1)
    cells = np.stack([own * theirs, own * (1 - theirs), (1 - own) * theirs, (1 - own) * (1 - theirs)], axis=2)
    if votes.partial:
        cells *= compared[kept][:, :, None]
    return cells, compared.sum(axis=0)


def kappa(cells: Floats) -> Floats:
    """Cohen's kappa of two-by-two tables (4 x B: both, only first, only second, neither → B); NaN where chance
    agreement is 1."""
    both, first, second, neither = cells
    total = cells.sum(axis=0)
    agreed = _ratio(both + neither, total)
    chance = _ratio((both + first) * (both + second) + (neither + first) * (neither + second), total * total)
    return _ratio(agreed - chance, 1 - chance)


def precision(cells: Floats) -> Floats:
    """Share of the first's ticks that the second also has (4 x B → B); NaN without ticks of the first."""
    return _ratio(cells[0], cells[0] + cells[1])


def recall(cells: Floats) -> Floats:
    """Share of the second's ticks that the first also has (4 x B → B); NaN without ticks of the second."""
    return _ratio(cells[0], cells[0] + cells[2])


def pair_agreement(votes: Votes) -> list[PairAgreement]:
    """The agreement of each pair of annotators who judged a label of the same record: of all pairs, or of the
    MOST_PAIRS with the most such records (with partial answers: labels of records)."""
    from scipy.sparse import csr_matrix

    shape = (len(votes.annotators), len(votes.records) * len(votes.labels))
    answer, column = np.arange(votes.n_answers), votes.record_index
    if votes.partial:
        answer, label = np.nonzero(votes.judged)
        column = votes.record_index[answer] * len(votes.labels) + label
    ones = np.ones(len(answer), dtype=np.int64)
    answered = csr_matrix((ones, (votes.annotator_index[answer], column)), shape=shape)
    common = (answered @ answered.T).toarray()
    pairs = np.argwhere(np.triu(common, k=1) > 0)
    order = np.argsort(-common[pairs[:, 0], pairs[:, 1]], kind="stable")[:MOST_PAIRS]
    by_annotator = np.argsort(votes.annotator_index, kind="stable")
    answers = np.split(by_annotator, np.cumsum(np.bincount(votes.annotator_index, minlength=shape[0]))[:-1])
    return [_pair(votes, answers, int(a), int(b)) for a, b in sorted(map(tuple, pairs[order]))]


def _pair(votes: Votes, answers: list[Ints], a: int, b: int) -> PairAgreement:
    """The agreement of annotators `a` and `b`. `answers`: each annotator's answers, in the order of the records."""
    _, in_a, in_b = np.intersect1d(
        votes.record_index[answers[a]], votes.record_index[answers[b]], assume_unique=True, return_indices=True
    )
    in_a, in_b = answers[a][in_a], answers[b][in_b]
    first, second = votes.indicators[in_a], votes.indicators[in_b]
    n_cells = first.size
    if votes.partial:
        both = common_labels(votes, in_a, in_b)
        n_cells, compared = int(both.sum()), both.any(axis=1)
        first, second = (first & both)[compared], (second & both)[compared]
    cells = np.array(
        [[(first & second).sum()], [(first & ~second).sum()], [(~first & second).sum()], [n_cells]], dtype=float
    )
    cells[3] -= cells[:3].sum(axis=0)  # neither
    return PairAgreement(
        first=votes.annotators[a],
        second=votes.annotators[b],
        records=len(first),
        kappa=_or_null(kappa(cells)[0]),
        exact=float((first == second).all(axis=1).mean()),
    )


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    ratio: Floats = np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator > 0)
    return ratio


def _or_null(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None

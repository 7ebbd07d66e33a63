"""Each annotator against the others: kappa, precision and recall, pair by pair and against everybody."""

from __future__ import annotations

import numpy as np

from marginalia.annotation.gold.answer_arrays import AnswerArrays, Floats, Ints, sum_by
from marginalia.annotation.gold.bootstrap import bundles, estimate, resampled_weights
from marginalia.schemas.agreement_json import AnnotatorAgreement, AnnotatorLabelAgreement, PairAgreement

MOST_PAIRS = 2000  # a crowd of strangers has too many pairs to read


def annotator_agreement(ticks: AnswerArrays, resamples: int, seed: str) -> list[AnnotatorAgreement]:
    """Every annotator against the others on the same records. One comparison is a label of a record that another
    person answered, too; with k others each counts 1/k, so that every answered record weighs the same."""
    return [_against_others(ticks, person, resamples, f"{seed}:{name}") for person, name in enumerate(ticks.annotators)]


def _against_others(ticks: AnswerArrays, person: int, resamples: int, seed: str) -> AnnotatorAgreement:
    mine = np.flatnonzero(ticks.annotator == person)
    cells = _cells(ticks, mine)
    n = len(cells)
    pooled = cells.sum(axis=1)
    point = pooled.sum(axis=0)[:, None]
    unit = bundles(n, seed)
    units = int(unit.max(initial=-1)) + 1
    narrow = sum_by(unit, pooled, units).astype(np.float32)
    blocks = [narrow.T @ weights for weights in resampled_weights(units, resamples, seed)]
    spread = np.concatenate([np.empty((4, 0)), *blocks], axis=1)
    per_label = cells.sum(axis=0).T
    return AnnotatorAgreement(
        annotator=ticks.annotators[person],
        answers=len(mine),
        labels_per_answer=float(ticks.ticked[mine].sum() / len(mine)) if len(mine) else None,
        kappa=estimate(kappa(point)[0], kappa(spread), n, lowest=-1.0),
        precision=estimate(precision(point)[0], precision(spread), n),
        recall=estimate(recall(point)[0], recall(spread), n),
        per_label=[
            AnnotatorLabelAgreement(
                label=label,
                kappa=_or_null(kappa(per_label)[at]),
                precision=_or_null(precision(per_label)[at]),
                recall=_or_null(recall(per_label)[at]),
            )
            for at, label in enumerate(ticks.labels)
        ],
    )


def _cells(ticks: AnswerArrays, mine: Ints) -> Floats:
    """Of these answers, those to records that somebody else answered: the share of the others in each cell of the
    two-by-two table (answers x labels x [both ticked, only I, only they, neither])."""
    record = ticks.record[mine]
    others = ticks.counts[record] - 1
    kept = others > 0
    me = ticks.ticked[mine[kept]].astype(float)
    they = (ticks.yes[record[kept]] - me) / others[kept][:, None]
    return np.stack([me * they, me * (1 - they), (1 - me) * they, (1 - me) * (1 - they)], axis=2)


def kappa(cells: Floats) -> Floats:
    """Cohen's kappa of two-by-two tables (4 x B: both, only first, only second, neither); NaN without variation."""
    both, first, second, neither = cells
    total = cells.sum(axis=0)
    agreed = _ratio(both + neither, total)
    chance = _ratio((both + first) * (both + second) + (neither + first) * (neither + second), total * total)
    return _ratio(agreed - chance, 1 - chance)


def precision(cells: Floats) -> Floats:
    """Share of the first's ticks that the second made, too (4 x B → B)."""
    return _ratio(cells[0], cells[0] + cells[1])


def recall(cells: Floats) -> Floats:
    """Share of the second's ticks that the first made, too (4 x B → B)."""
    return _ratio(cells[0], cells[0] + cells[2])


def pair_agreement(ticks: AnswerArrays) -> list[PairAgreement]:
    """Who agrees with whom, for every pair with a record in common; the pairs with most records when there are very
    many."""
    from scipy.sparse import csr_matrix

    shape = (len(ticks.annotators), len(ticks.records))
    ones = np.ones(ticks.answers, dtype=np.int64)
    answered = csr_matrix((ones, (ticks.annotator, ticks.record)), shape=shape)
    common = (answered @ answered.T).toarray()
    pairs = np.argwhere(np.triu(common, k=1) > 0)
    order = np.argsort(-common[pairs[:, 0], pairs[:, 1]], kind="stable")[:MOST_PAIRS]
    by_person = np.argsort(ticks.annotator, kind="stable")
    mine = np.split(by_person, np.cumsum(np.bincount(ticks.annotator, minlength=shape[0]))[:-1])
    return [_pair(ticks, mine, int(one), int(other)) for one, other in sorted(map(tuple, pairs[order]))]


def _pair(ticks: AnswerArrays, mine: list[Ints], one: int, other: int) -> PairAgreement:
    """`mine`: the answers of each annotator, in the order of the records."""
    here, there = mine[one], mine[other]
    _, at, opposite = np.intersect1d(ticks.record[here], ticks.record[there], assume_unique=True, return_indices=True)
    first, second = ticks.ticked[here[at]], ticks.ticked[there[opposite]]
    cells = np.array(
        [[(first & second).sum()], [(first & ~second).sum()], [(~first & second).sum()], [(~first & ~second).sum()]],
        dtype=float,
    )
    return PairAgreement(
        first=ticks.annotators[one],
        second=ticks.annotators[other],
        records=len(at),
        kappa=_or_null(kappa(cells)[0]),
        exact=float((first == second).all(axis=1).mean()),
    )


def _ratio(above: Floats, below: Floats) -> Floats:
    found: Floats = np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)
    return found


def _or_null(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None

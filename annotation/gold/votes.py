"""Submitted answers as arrays of votes: one row per answer, one column per label. Agreement and reconciliation are
computed from them.

An annotator may have been asked about some labels only (the column `judged` of `Answer`). A label that an answer does
not judge counts neither for nor against the label. Two answers are compared on the labels that both judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

from marginalia.schemas.errors import InputError, did_you_mean
from marginalia.schemas.judged_labels import judged_cells

SETS_PER_BLOCK = 1024

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Votes:
    """The submitted answers of one round, sorted by record, then annotator: the order in which they were given does not
    affect any result.

    `records` (R) and `annotators` (W) are ids in sorted order; `record_index` and `annotator_index` (A) are the
    indices in them of each of the A answers; `judged` (A x L) is true where an answer judges a label, at least one per
    answer; `indicators` (A x L) is true where it ticks the label, which it then also judges."""

    records: list[str]
    annotators: list[str]
    labels: tuple[str, ...]
    record_index: Ints
    annotator_index: Ints
    indicators: Bools
    judged: Bools

    @property
    def n_answers(self) -> int:
        """A, the number of answers."""
        return len(self.record_index)

    @cached_property
    def partial(self) -> bool:
        """Whether an answer judges only some of the labels."""
        return not self.judged.all()

    @cached_property
    def answers_per_record(self) -> Ints:
        """Number of answers to each record (R)."""
        return np.bincount(self.record_index, minlength=len(self.records)).astype(np.int64)

    @cached_property
    def yes_votes(self) -> Ints:
        """Number of answers that tick each label, per record (R x L)."""
        return sum_by(self.record_index, self.indicators, len(self.records)).astype(np.int64)

    @cached_property
    def judged_votes(self) -> Ints:
        """Number of answers that judge each label, per record (R x L)."""
        if not self.partial:
            return np.broadcast_to(self.answers_per_record[:, None], (len(self.records), len(self.labels)))
        return sum_by(self.record_index, self.judged, len(self.records)).astype(np.int64)

    def of_label(self, at: int) -> tuple[Ints, Votes]:
        """The answers that judge label `at`, with their records, their annotators and that label alone; and the indices
        (in `records`) of these records."""
        only = slice(at, at + 1)
        if not self.partial:
            column = replace(
                self, labels=self.labels[only], indicators=self.indicators[:, only], judged=self.judged[:, only]
            )
            return np.arange(len(self.records)), column
        chosen = self.judged[:, at]
        records, record_index = np.unique(self.record_index[chosen], return_inverse=True)
        annotators, annotator_index = np.unique(self.annotator_index[chosen], return_inverse=True)
        return records, Votes(
            records=[self.records[record] for record in records],
            annotators=[self.annotators[annotator] for annotator in annotators],
            labels=self.labels[only],
            record_index=record_index,
            annotator_index=annotator_index,
            indicators=self.indicators[chosen, only],
            judged=self.judged[chosen, only],
        )


def sample(votes: Votes, most_answers: int, random: np.random.Generator) -> Votes:
    """The votes on records drawn at random, at most `most_answers` answers; `votes` itself when it has no more."""
    if votes.n_answers <= most_answers:
        return votes
    order = random.permutation(len(votes.records))
    drawn = np.sort(order[np.cumsum(votes.answers_per_record[order]) <= most_answers])
    new_index = np.full(len(votes.records), -1)
    new_index[drawn] = np.arange(len(drawn))
    kept = new_index[votes.record_index] >= 0
    return Votes(
        records=[votes.records[at] for at in drawn],
        annotators=votes.annotators,
        labels=votes.labels,
        record_index=new_index[votes.record_index[kept]],
        annotator_index=votes.annotator_index[kept],
        indicators=votes.indicators[kept],
        judged=votes.judged[kept],
    )


def votes_of(answers: pl.DataFrame, labels: Sequence[str], *, round: str = "annotate") -> Votes:
    """The submitted answers of one round in a frame of `Answer` rows, without those that judge no label at all.

    Raises InputError for a label that is not in `labels`, and for a ticked label that the answer does not judge."""
    submitted = answers.filter((pl.col("status") == "submitted") & (pl.col("round") == round)).sort(
        "record_id", "annotator"
    )
    _refuse_unknown(submitted, labels)
    submitted = submitted.filter(judges_a_label())
    columns = ("record_id", "annotator")
    indices = submitted.select(pl.col(column).rank("dense").cast(pl.Int64) - 1 for column in columns)
    indicators = np.zeros((submitted.height, len(labels)), dtype=np.bool_)
    for position, label in enumerate(labels):
        indicators[:, position] = submitted["labels"].list.contains(label).to_numpy()
    return Votes(
        records=submitted["record_id"].unique().sort().to_list(),
        annotators=submitted["annotator"].unique().sort().to_list(),
        labels=tuple(labels),
        record_index=indices["record_id"].to_numpy(),
        annotator_index=indices["annotator"].to_numpy(),
        indicators=indicators,
        judged=_judged(submitted["judged"], labels),
    )


def judges_a_label() -> pl.Expr:
    """Whether an `Answer` row judges any label: one that judges none is no answer."""
    return (pl.col("judged").list.len() > 0).fill_null(True)


def _judged(judged: pl.Series, labels: Sequence[str]) -> Bools:
    if judged.null_count() == len(judged):  # the usual case, with a million answers
        return np.ones((len(judged), len(labels)), dtype=np.bool_)
    return judged_cells(judged, labels)


def pairs_of(votes: Votes) -> tuple[Ints, Ints]:
    """Indices of the first and the second answer of every unordered pair of answers to the same record that judge a
    label in common."""
    first: list[Ints] = []
    second: list[Ints] = []
    answers = np.arange(votes.n_answers)
    for step in range(1, int(votes.answers_per_record.max(initial=0))):
        start = answers[:-step][votes.record_index[:-step] == votes.record_index[step:]]
        first.append(start)
        second.append(start + step)
    no_pairs = np.empty(0, dtype=np.int64)
    firsts, seconds = np.concatenate([no_pairs, *first]), np.concatenate([no_pairs, *second])
    if votes.partial:
        comparable = common_labels(votes, firsts, seconds).any(axis=1)
        firsts, seconds = firsts[comparable], seconds[comparable]
    return firsts, seconds


def common_labels(votes: Votes, first: Ints, second: Ints) -> Bools:
    """Whether both answers of each pair judge each label (P x L)."""
    common: Bools = votes.judged[first] & votes.judged[second]
    return common


def jaccard(votes: Votes, first: Ints, second: Ints) -> Floats:
    """|A ∩ B| / |A ∪ B| of the label sets of each pair of answers, among the labels that both judge; 1 for two empty
    sets."""
    return _jaccard(*_overlap(votes, first, second))


def masi_distance(votes: Votes, first: Ints, second: Ints) -> Floats:
    """1 - Jaccard x monotonicity of each pair, among the labels that both answers judge. Monotonicity is 1 for equal
    sets, 2/3 when one contains the other, 1/3 when they only overlap, 0 when they are disjoint (Passonneau 2006). Two
    empty sets: 0."""
    return _masi(*_overlap(votes, first, second))


def masi_distances(sets: Bools) -> Floats:
    """The MASI distances between all pairs of label sets (D x L → D x D)."""
    members = sets.astype(np.float64)
    sizes = members.sum(axis=1)
    distances = np.empty((len(sets), len(sets)))
    for start in range(0, len(sets), SETS_PER_BLOCK):  # bounds the memory of the intermediate matrices
        block = slice(start, start + SETS_PER_BLOCK)
        distances[block] = _masi(members[block] @ members.T, *np.broadcast_arrays(sizes[block, None], sizes[None, :]))
    return distances


def _masi(both: Floats, first_size: Floats, second_size: Floats) -> Floats:
    nested = both == np.minimum(first_size, second_size)
    equal = nested & (first_size == second_size)
    monotonicity = np.where(equal, 1.0, np.where(nested, 2 / 3, np.where(both > 0, 1 / 3, 0.0)))
    return 1.0 - _jaccard(both, first_size, second_size) * monotonicity


def _jaccard(both: Floats, first_size: Floats, second_size: Floats) -> Floats:
    either = first_size + second_size - both
    share: Floats = np.divide(both, either, out=np.ones(both.shape), where=either > 0)
    return share


def _overlap(votes: Votes, first: Ints, second: Ints) -> tuple[Floats, Floats, Floats]:
    """Sizes of each pair's intersection, of its first and of its second label set, among the labels both judge."""
    a, b = votes.indicators[first], votes.indicators[second]
    if votes.partial:
        common = common_labels(votes, first, second)
        a, b = a & common, b & common
    return (a & b).sum(axis=1).astype(float), a.sum(axis=1).astype(float), b.sum(axis=1).astype(float)


def sum_by(group: Ints, values: npt.NDArray[np.generic], groups: int) -> Floats:
    """Sums of the rows of `values` (A x K) with the same index in `group` (A): (groups x K)."""
    return np.stack([np.bincount(group, weights=column, minlength=groups) for column in values.T], axis=1)


def _refuse_unknown(submitted: pl.DataFrame, labels: Sequence[str]) -> None:
    known = pl.Series(labels, dtype=pl.String)
    for column, verb in (("labels", "ticked"), ("judged", "was asked about")):
        named = submitted.select("record_id", "annotator", pl.col(column).alias("label")).explode("label")
        unknown = named.drop_nulls("label").filter(~pl.col("label").is_in(known.implode()))
        if unknown.height:
            record, annotator, label = unknown.row(0)
            raise InputError(
                f"record '{record}': {annotator} {verb} '{label}', which is not in the taxonomy"
                f"{did_you_mean(label, labels)}",
                hint="the taxonomy changed after these answers were given: restore its labels, or start annotation "
                "again",
            )
    for record, annotator, label in ticked_not_judged(submitted).head(1).iter_rows():
        raise InputError(
            f"record '{record}': {annotator} ticked '{label}', which the answer's column 'judged' leaves out",
            hint="add the label to 'judged' in the source of these answers, then import them again",
        )


def ticked_not_judged(answers: pl.DataFrame) -> pl.DataFrame:
    """One row (record_id, annotator, label) for each label that an `Answer` row ticks although its column `judged`
    leaves it out."""
    partly = answers.drop_nulls("judged")
    outside = partly.select("record_id", "annotator", label=pl.col("labels").list.set_difference("judged"))
    return outside.explode("label").drop_nulls("label")

"""Submitted answers as arrays of votes: one row per answer, one column per label. Agreement and reconciliation are
computed from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

from marginalia.schemas.errors import InputError, did_you_mean

SETS_PER_BLOCK = 1024

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Votes:
    """The submitted answers of one round, sorted by record, then annotator: the order in which they were given does not
    affect any result.

    `records` (R) and `annotators` (W) are ids in sorted order; `record_index` and `annotator_index` (A) are the
    indices in them of each of the A answers; `indicators` (A x L) is true where an answer ticks a label."""

    records: list[str]
    annotators: list[str]
    labels: tuple[str, ...]
    record_index: Ints
    annotator_index: Ints
    indicators: Bools

    @property
    def n_answers(self) -> int:
        """A, the number of answers."""
        return len(self.record_index)

    @cached_property
    def answers_per_record(self) -> Ints:
        """Number of answers to each record (R)."""
        return np.bincount(self.record_index, minlength=len(self.records)).astype(np.int64)

    @cached_property
    def yes_votes(self) -> Ints:
        """Number of answers that tick each label, per record (R x L)."""
        return sum_by(self.record_index, self.indicators, len(self.records)).astype(np.int64)


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
    )


def votes_of(answers: pl.DataFrame, labels: Sequence[str], *, round: str = "annotate") -> Votes:
    """The submitted answers of one round in a frame of `Answer` rows. Raises InputError for a label that is not in
    `labels`."""
    submitted = answers.filter((pl.col("status") == "submitted") & (pl.col("round") == round)).sort(
        "record_id", "annotator"
    )
    _refuse_unknown(submitted, labels)
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
    )


def pairs_of(votes: Votes) -> tuple[Ints, Ints]:
    """Indices of the first and the second answer of every unordered pair of answers to the same record."""
    first: list[Ints] = []
    second: list[Ints] = []
    answers = np.arange(votes.n_answers)
    for step in range(1, int(votes.answers_per_record.max(initial=0))):
        start = answers[:-step][votes.record_index[:-step] == votes.record_index[step:]]
        first.append(start)
        second.append(start + step)
    no_pairs = np.empty(0, dtype=np.int64)
    return np.concatenate([no_pairs, *first]), np.concatenate([no_pairs, *second])


def jaccard(votes: Votes, first: Ints, second: Ints) -> Floats:
    """|A ∩ B| / |A ∪ B| of the label sets of each pair of answers; 1 for two empty sets."""
    return _jaccard(*_overlap(votes, first, second))


def masi_distance(votes: Votes, first: Ints, second: Ints) -> Floats:
    """1 - Jaccard x monotonicity of each pair, where monotonicity is 1 for equal sets, 2/3 when one contains the other,
    1/3 when they only overlap, 0 when they are disjoint (Passonneau 2006). Two empty sets: 0."""
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
    """Sizes of each pair's intersection, of its first and of its second label set."""
    a, b = votes.indicators[first], votes.indicators[second]
    return (a & b).sum(axis=1).astype(float), a.sum(axis=1).astype(float), b.sum(axis=1).astype(float)


def sum_by(group: Ints, values: npt.NDArray[np.generic], groups: int) -> Floats:
    """Sums of the rows of `values` (A x K) with the same index in `group` (A): (groups x K)."""
    return np.stack([np.bincount(group, weights=column, minlength=groups) for column in values.T], axis=1)


def _refuse_unknown(submitted: pl.DataFrame, labels: Sequence[str]) -> None:
    known = pl.Series(labels, dtype=pl.String)
    ticked = submitted.select("record_id", "annotator", pl.col("labels").alias("label")).explode("label")
    unknown = ticked.drop_nulls("label").filter(~pl.col("label").is_in(known.implode()))
    if unknown.height:
        record, annotator, label = unknown.row(0)
        raise InputError(
            f"record '{record}': {annotator} ticked '{label}', which is not in the taxonomy"
            f"{did_you_mean(label, labels)}",
            hint="the taxonomy changed after these answers were given: restore its labels, or start annotation again",
        )

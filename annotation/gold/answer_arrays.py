"""Submitted answers as arrays: who ticked what. The ground that agreement and reconciling stand on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

from marginalia.schemas.errors import InputError, did_you_mean

SETS_TOGETHER = 1024

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class AnswerArrays:
    """The submitted answers of one round, sorted by record, then annotator, so that the order in which they came
    changes nothing.

    `records` (R) and `annotators` (W) are ids in sorted order; `record` and `annotator` (A) are indices into them;
    `ticked` (A x L) says which of `labels` an answer carries."""

    records: list[str]
    annotators: list[str]
    labels: tuple[str, ...]
    record: Ints
    annotator: Ints
    ticked: Bools

    @property
    def answers(self) -> int:
        return len(self.record)

    @cached_property
    def counts(self) -> Ints:
        """Answers of each record (R)."""
        return np.bincount(self.record, minlength=len(self.records)).astype(np.int64)

    @cached_property
    def yes(self) -> Ints:
        """Ticks of each record and label (R x L)."""
        return sum_by(self.record, self.ticked, len(self.records)).astype(np.int64)


def sample(ticks: AnswerArrays, answers: int, random: np.random.Generator) -> AnswerArrays:
    """All answers to records drawn at random, so many answers at most; `ticks` itself when it has no more."""
    if ticks.answers <= answers:
        return ticks
    order = random.permutation(len(ticks.records))
    drawn = np.sort(order[np.cumsum(ticks.counts[order]) <= answers])
    place = np.full(len(ticks.records), -1)
    place[drawn] = np.arange(len(drawn))
    kept = place[ticks.record] >= 0
    return AnswerArrays(
        records=[ticks.records[at] for at in drawn],
        annotators=ticks.annotators,
        labels=ticks.labels,
        record=place[ticks.record[kept]],
        annotator=ticks.annotator[kept],
        ticked=ticks.ticked[kept],
    )


def answer_arrays(answers: pl.DataFrame, labels: Sequence[str], *, round: str = "annotate") -> AnswerArrays:
    """The submitted answers in a frame of `Answer` rows. Raises InputError for a label that the taxonomy lacks."""
    given = answers.filter((pl.col("status") == "submitted") & (pl.col("round") == round)).sort(
        "record_id", "annotator"
    )
    _refuse_unknown(given, labels)
    names = ("record_id", "annotator")
    ranks = given.select(pl.col(name).rank("dense").cast(pl.Int64) - 1 for name in names)
    ticked = np.zeros((given.height, len(labels)), dtype=np.bool_)
    for position, label in enumerate(labels):
        ticked[:, position] = given["labels"].list.contains(label).to_numpy()
    return AnswerArrays(
        records=given["record_id"].unique().sort().to_list(),
        annotators=given["annotator"].unique().sort().to_list(),
        labels=tuple(labels),
        record=ranks["record_id"].to_numpy(),
        annotator=ranks["annotator"].to_numpy(),
        ticked=ticked,
    )


def pairs_of(ticks: AnswerArrays) -> tuple[Ints, Ints]:
    """Indices of all unordered pairs of answers to one record."""
    first: list[Ints] = []
    second: list[Ints] = []
    here = np.arange(ticks.answers)
    for step in range(1, int(ticks.counts.max(initial=0))):
        start = here[:-step][ticks.record[:-step] == ticks.record[step:]]
        first.append(start)
        second.append(start + step)
    nothing = np.empty(0, dtype=np.int64)
    return np.concatenate([nothing, *first]), np.concatenate([nothing, *second])


def jaccard(ticks: AnswerArrays, first: Ints, second: Ints) -> Floats:
    """|A ∩ B| / |A ∪ B| of each pair of answers; two empty sets agree wholly: 1."""
    return _jaccard(*_overlap(ticks, first, second))


def masi_distance(ticks: AnswerArrays, first: Ints, second: Ints) -> Floats:
    """1 - Jaccard x monotonicity of each pair, where monotonicity is 1 for equal sets, 2/3 when one holds the other,
    1/3 when they only overlap, 0 when they share nothing (Passonneau 2006). Two empty sets: 0."""
    return _masi(*_overlap(ticks, first, second))


def masi_distances(sets: Bools) -> Floats:
    """The MASI distance of each set to each (D x L → D x D)."""
    members = sets.astype(np.float64)
    sizes = members.sum(axis=1)
    found = np.empty((len(sets), len(sets)))
    for start in range(0, len(sets), SETS_TOGETHER):  # bounds the memory of the intermediate matrices
        here = slice(start, start + SETS_TOGETHER)
        found[here] = _masi(members[here] @ members.T, *np.broadcast_arrays(sizes[here, None], sizes[None, :]))
    return found


def _masi(both: Floats, size: Floats, other: Floats) -> Floats:
    nested = both == np.minimum(size, other)
    equal = nested & (size == other)
    monotonicity = np.where(equal, 1.0, np.where(nested, 2 / 3, np.where(both > 0, 1 / 3, 0.0)))
    return 1.0 - _jaccard(both, size, other) * monotonicity


def _jaccard(both: Floats, size: Floats, other: Floats) -> Floats:
    either = size + other - both
    found: Floats = np.divide(both, either, out=np.ones(both.shape), where=either > 0)
    return found


def _overlap(ticks: AnswerArrays, first: Ints, second: Ints) -> tuple[Floats, Floats, Floats]:
    """Sizes of each pair's intersection, of its first and of its second set."""
    one, other = ticks.ticked[first], ticks.ticked[second]
    return (one & other).sum(axis=1).astype(float), one.sum(axis=1).astype(float), other.sum(axis=1).astype(float)


def sum_by(group: Ints, values: npt.NDArray[np.generic], groups: int) -> Floats:
    """Sums of the rows of `values` (A x K) by group index: (groups x K)."""
    return np.stack([np.bincount(group, weights=column, minlength=groups) for column in values.T], axis=1)


def _refuse_unknown(given: pl.DataFrame, labels: Sequence[str]) -> None:
    known = pl.Series(labels, dtype=pl.String)
    seen = given.select("record_id", "annotator", pl.col("labels").alias("label")).explode("label").drop_nulls("label")
    unknown = seen.filter(~pl.col("label").is_in(known.implode()))
    if unknown.height:
        record, annotator, label = unknown.row(0)
        raise InputError(
            f"record '{record}': {annotator} ticked '{label}', which the taxonomy does not have"
            f"{did_you_mean(label, labels)}",
            hint="the taxonomy changed since the answers were given: put its labels back, or annotate anew",
        )

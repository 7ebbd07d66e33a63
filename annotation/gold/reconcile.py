"""Answers → gold: one decision per record and label, or a status that says why there is none.

needs_answers       no label has `min_answers` submitted answers that judge it: one annotator, none, or all skipped
needs_adjudication  a tie, too little agreement, too uncertain a posterior, or experts who disagree
final               everything else; an expert's answer wins over all others and is marked

Unresolved records have no labels at all: they are never safe by default. In a final record, `judged` lists the labels
that were decided: those that at least `min_answers` answers judge, and those that an expert judges. A label that it
leaves out is neither positive nor negative. An expert who judges only some of the labels decides these, and the others
stay as the annotators decided; too little agreement is settled only by experts who judge all that the annotators
judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from marginalia.annotation.config import ReconcileSection
from marginalia.annotation.gold.bootstrap import generator
from marginalia.annotation.gold.label_posteriors import METHODS, Method, posteriors
from marginalia.annotation.gold.splits import assign_splits
from marginalia.annotation.gold.votes import Bools, Floats, Ints, Votes, jaccard, pairs_of, sample, votes_of
from marginalia.schemas.agreement_json import MethodComparison
from marginalia.schemas.tables import GoldRecord

T = TypeVar("T", bound=np.generic)
HALF = 1e-9  # a share of answers this close to one half is a tie
TIE_BAND = 0.05  # a posterior this close to one half is a tie: one more annotator could reverse the decision
COMPARED = 20_000  # most answers that the other methods are run on: a few seconds with twelve labels


@dataclass(frozen=True)
class Decisions:
    """What a method decides per record and label (R x L): the `probability`, NaN where no answer judges the label;
    whether the label is `judged` by enough answers; whether it applies (`decided`); and whether an expert must decide
    it (`uncertain`), the last two only where it is judged. `agreement` (R): in [0, 1], NaN where no two answers can be
    compared; `disputed` (R): it is too low. `unconverged`: labels whose fit did not converge."""

    probability: Floats
    judged: Bools
    decided: Bools
    uncertain: Bools
    agreement: Floats
    disputed: Bools
    unconverged: tuple[str, ...]

    @property
    def final(self) -> Bools:
        """The records (R) that have a judged label and that no expert must decide."""
        return self.judged.any(axis=1) & ~self.uncertain.any(axis=1) & ~self.disputed


def reconcile(
    records: pl.DataFrame, answers: pl.DataFrame, labels: Sequence[str], section: ReconcileSection, *, seed: int
) -> pl.DataFrame:
    """Gold for every record, in the order of `records` (id, messages), from a frame of `Answer` rows.

    Raises InputError when an answer has a label that is not in `labels`."""
    return reconcile_with_notes(records, answers, labels, section, seed=seed)[0]


def reconcile_with_notes(
    records: pl.DataFrame, answers: pl.DataFrame, labels: Sequence[str], section: ReconcileSection, *, seed: int
) -> tuple[pl.DataFrame, list[str]]:
    """The same as `reconcile`, with notes for the reader of the report."""
    known = answers.filter(pl.col("record_id").is_in(records["id"].implode()))
    votes = votes_of(known, labels)
    decisions = decide(votes, section.method, section)
    expert_votes = votes_of(known, labels, round="adjudicate")
    unanimous = {"tie": "adjudicate", "adjudicate_below_agreement": 0.0, "min_answers": 1}
    verdicts = decide(expert_votes, "majority", section.model_copy(update=unanimous))
    crowd, experts = _rows(records["id"], votes.records), _rows(records["id"], expert_votes.records)
    gold = _gold(records, votes, decisions, verdicts, crowd, experts, section)
    splits = assign_splits(gold, labels, section.splits, seed)
    gold = gold.with_columns(splits).select(list(GoldRecord.polars_schema()))
    return gold, _notes(gold, decisions, section)


def _notes(gold: pl.DataFrame, decisions: Decisions, section: ReconcileSection) -> list[str]:
    notes = []
    if decisions.unconverged:
        labels = ", ".join(decisions.unconverged)
        notes.append(
            f"{section.method} had not converged after {section.iterations:,} rounds for {labels}: these labels may "
            "still change. Raise reconcile.iterations."
        )
    if partly := gold["judged"].count():
        final = gold.filter(pl.col("status") == "final").height
        notes.append(
            f"In {partly:,} of {final:,} final records only some labels were judged. The other labels of these records "
            "are neither positive nor negative."
        )
    return notes


def _rows(ids: pl.Series, answered: list[str]) -> Ints:
    """The index in `answered` of each record; -1 where it is not among them."""
    index = pl.DataFrame({"id": answered}, schema={"id": pl.String}).with_row_index("row")
    rows = ids.to_frame("id").join(index, on="id", how="left", maintain_order="left")["row"]
    return rows.cast(pl.Int64).fill_null(-1).to_numpy()


def _of_rows(values: npt.NDArray[T], rows: Ints, missing: float = 0) -> npt.NDArray[T]:
    """The rows of `values`, in the order of `rows`; `missing` in the rows of -1."""
    end = np.full((1, *values.shape[1:]), missing, dtype=values.dtype)
    return np.concatenate([values, end])[rows]


def _gold(
    records: pl.DataFrame,
    votes: Votes,
    decisions: Decisions,
    verdicts: Decisions,
    crowd: Ints,
    experts: Ints,
    section: ReconcileSection,
) -> pl.DataFrame:
    """Gold without splits. `crowd` and `experts`: the row of each record in `decisions` and in the experts' `verdicts`,
    -1 where it has no answers."""
    by_crowd, by_expert = _of_rows(decisions.judged, crowd), _of_rows(verdicts.judged, experts)
    uncertain = np.where(by_expert, _of_rows(verdicts.uncertain, experts), _of_rows(decisions.uncertain, crowd))
    decided = np.where(by_expert, _of_rows(verdicts.decided, experts), _of_rows(decisions.decided, crowd))
    judged = by_crowd | by_expert
    disputed = _of_rows(decisions.disputed, crowd) & (by_crowd & ~by_expert).any(axis=1)
    final = judged.any(axis=1) & ~uncertain.any(axis=1) & ~disputed
    adjudicated = final & by_expert.any(axis=1)
    n = _of_rows(votes.judged_votes, crowd)
    partial = final & ~judged.all(axis=1)
    status = np.where(final, "final", np.where(judged.any(axis=1), "needs_adjudication", "needs_answers"))
    columns = _label_columns(
        votes.labels,
        probability=_of_rows(decisions.probability, crowd),
        soft=(n > 0) & (judged | ~final[:, None]),
        yes=_of_rows(votes.yes_votes, crowd),
        n=n,
        decided=decided & final[:, None],
        judged=judged & partial[:, None],
    )
    return records.select("id", "messages").with_columns(
        columns["soft_labels"],
        columns["votes"],
        pl.Series("status", status, dtype=pl.String),
        pl.Series("n_annotators", _of_rows(votes.answers_per_record, crowd)),
        pl.Series("agreement", _of_rows(decisions.agreement, crowd, np.nan), dtype=pl.Float64).fill_nan(None),
        pl.Series("adjudicated", adjudicated),
        labels=pl.when(pl.Series(final)).then(columns["labels"]),
        judged=pl.when(pl.Series(partial)).then(columns["judged"]),
        method=pl.when(pl.Series(adjudicated)).then(pl.lit("expert")).otherwise(pl.lit(section.method)),
    )


def _label_columns(labels: Sequence[str], **cells: npt.NDArray[Any]) -> pl.DataFrame:
    """The columns soft_labels, votes, labels and judged from N x L arrays: `probability`, and whether it becomes a
    `soft` label; votes `yes` of `n`; whether the label is `decided`; whether it is listed as `judged`."""
    frames = [
        pl.DataFrame(values, schema=[f"{name}{at}" for at in range(len(labels))]) for name, values in cells.items()
    ]
    wide = pl.concat(frames, how="horizontal")
    soft = [pl.struct(pl.lit(label).alias("label"), probability=f"probability{at}") for at, label in enumerate(labels)]
    votes = [pl.struct(pl.lit(label).alias("label"), yes=f"yes{at}", n=f"n{at}") for at, label in enumerate(labels)]

    def chosen(name: str, values: Sequence[pl.Expr]) -> pl.Expr:
        """The values of the labels for which the cells `name` are true."""
        if cells[name].all():
            return pl.concat_list(values)
        if not cells[name].any():
            return pl.concat_list(values).list.head(0)
        return pl.concat_list([pl.when(f"{name}{at}").then(value) for at, value in enumerate(values)]).list.drop_nulls()

    names = [pl.lit(label) for label in labels]
    return wide.select(
        soft_labels=chosen("soft", soft),
        votes=pl.concat_list(votes),
        labels=chosen("decided", names),
        judged=chosen("judged", names),
    )


def decide(votes: Votes, method: Method, section: ReconcileSection) -> Decisions:
    """Each record's labels by `method`. A label is judged where at least `section.min_answers` answers judge it."""
    fitted = posteriors(votes, method, iterations=section.iterations, smoothing=section.smoothing)
    judged = votes.judged_votes >= section.min_answers
    probability = np.where(judged, fitted.probability, 0.0)  # 0: neither applies, nor is tied, nor is uncertain
    tied = np.abs(probability - 0.5) <= (HALF if method == "majority" else TIE_BAND)
    decided = np.where(tied, section.tie == "yes", probability > 0.5)
    uncertain = tied & (section.tie == "adjudicate")
    if method != "majority":
        uncertain |= np.maximum(probability, 1 - probability) < section.adjudicate_below_posterior
    agreement = record_agreement(votes)
    disputed = np.nan_to_num(agreement, nan=1.0) < section.adjudicate_below_agreement
    return Decisions(fitted.probability, judged, decided, uncertain, agreement, disputed, fitted.unconverged)


def record_agreement(votes: Votes) -> Floats:
    """Mean Jaccard of the pairs of answers to each record, each among the labels that both judge (R); NaN without a
    pair."""
    first, second = pairs_of(votes)
    size = len(votes.records)
    total = np.bincount(votes.record_index[first], weights=jaccard(votes, first, second), minlength=size)
    pairs = np.bincount(votes.record_index[first], minlength=size)
    mean: Floats = np.divide(total, pairs, out=np.full(size, np.nan), where=pairs > 0)
    return mean


def compare_methods(votes: Votes, section: ReconcileSection, seed: int) -> list[MethodComparison]:
    """On how many final records each other method decides the judged labels alike. Beyond COMPARED answers, on random
    records."""
    if not section.compare or not votes.n_answers:
        return []
    votes = sample(votes, COMPARED, generator(f"{seed}:compare"))
    chosen = decide(votes, section.method, section)
    comparisons = []
    for method in METHODS:
        if method != section.method:
            other = decide(votes, method, section)
            same = (chosen.decided == other.decided).all(axis=1) & chosen.final & other.final
            records = int(chosen.final.sum())
            comparisons.append(MethodComparison(method=method, records=records, same_labels=int(same.sum())))
    return comparisons

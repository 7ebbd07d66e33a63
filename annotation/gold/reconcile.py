"""Answers → gold: one decision per record and label, or a status that says why there is none.

needs_answers       fewer submitted answers than `min_answers`: one annotator, none, or all skipped
needs_adjudication  a tie, too little agreement, too uncertain a posterior, or experts who disagree
final               everything else; an expert's answer wins over all others and is marked

Unresolved records have no labels at all: they are never safe by default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from marginalia.annotation.config import ReconcileSection
from marginalia.annotation.gold.bootstrap import generator
from marginalia.annotation.gold.label_posteriors import METHODS, Method, posteriors
from marginalia.annotation.gold.splits import assign_splits
from marginalia.annotation.gold.votes import Bools, Floats, Votes, jaccard, pairs_of, sample, votes_of
from marginalia.schemas.agreement_json import MethodComparison
from marginalia.schemas.tables import GoldRecord

HALF = 1e-9  # a share of answers this close to one half is a tie
TIE_BAND = 0.05  # a posterior this close to one half is a tie: one more annotator could reverse the decision
COMPARED = 20_000  # most answers that the other methods are run on: a few seconds with twelve labels


@dataclass(frozen=True)
class Decisions:
    """What a method decides: `probability` and `decided` (R x L) per record and label, `open` (R) where an expert must
    decide, `agreement` (R) in [0, 1]; `unconverged`: labels whose fit did not converge."""

    probability: Floats
    decided: Bools
    open: Bools
    agreement: Floats
    unconverged: tuple[str, ...]


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
    crowd = _columns(votes, decisions)
    expert_votes = votes_of(known, labels, round="adjudicate")
    unanimous = section.model_copy(update={"tie": "adjudicate", "adjudicate_below_agreement": 0.0})
    verdicts = _columns(expert_votes, decide(expert_votes, "majority", unanimous)).select("id", "decided", "open")
    joined = (
        records.select("id", "messages")
        .join(crowd, on="id", how="left", maintain_order="left")
        .join(verdicts, on="id", how="left", maintain_order="left", suffix="_expert")
    )
    gold = _gold(joined, labels, section)
    splits = assign_splits(gold, labels, section.splits, seed)
    return gold.with_columns(splits).select(list(GoldRecord.polars_schema())), _notes(decisions, section)


def _notes(decisions: Decisions, section: ReconcileSection) -> list[str]:
    if not decisions.unconverged:
        return []
    labels = ", ".join(decisions.unconverged)
    return [
        f"{section.method} had not converged after {section.iterations:,} rounds for {labels}: these labels may still "
        "change. Raise reconcile.iterations."
    ]


def _columns(votes: Votes, decisions: Decisions) -> pl.DataFrame:
    """One row per record that has answers."""
    labels = votes.labels
    probability = pl.DataFrame(decisions.probability, schema=[f"p{at}" for at in range(len(labels))])
    yes = pl.DataFrame(votes.yes_votes, schema=[f"y{at}" for at in range(len(labels))])
    decided = pl.DataFrame(decisions.decided, schema=[f"d{at}" for at in range(len(labels))])
    wide = pl.concat([probability, yes, decided], how="horizontal").with_columns(n=pl.Series(votes.answers_per_record))
    soft = [pl.struct(pl.lit(label).alias("label"), probability=f"p{at}") for at, label in enumerate(labels)]
    vote_counts = [pl.struct(pl.lit(label).alias("label"), yes=f"y{at}", n="n") for at, label in enumerate(labels)]
    chosen = [pl.when(f"d{at}").then(pl.lit(label)) for at, label in enumerate(labels)]
    return wide.select(
        "n",
        pl.Series("id", votes.records, dtype=pl.String),
        pl.Series("open", decisions.open, dtype=pl.Boolean),
        pl.Series("agreement", decisions.agreement, dtype=pl.Float64).fill_nan(None),
        soft_labels=pl.concat_list(soft),
        votes=pl.concat_list(vote_counts),
        decided=pl.concat_list(chosen).list.drop_nulls(),
    )


def _gold(joined: pl.DataFrame, labels: Sequence[str], section: ReconcileSection) -> pl.DataFrame:
    by_expert = pl.col("decided_expert").is_not_null()
    settled = by_expert & ~pl.col("open_expert")
    enough = pl.col("n").fill_null(0) >= section.min_answers
    unanswered = pl.lit([{"label": label, "yes": 0, "n": 0} for label in labels], dtype=_dtype("votes"))
    status = (
        pl.when(settled)
        .then(pl.lit("final"))
        .when(by_expert)
        .then(pl.lit("needs_adjudication"))
        .when(~enough)
        .then(pl.lit("needs_answers"))
        .when(pl.col("open"))
        .then(pl.lit("needs_adjudication"))
        .otherwise(pl.lit("final"))
    )
    return joined.with_columns(status=status).with_columns(
        labels=pl.when(settled).then("decided_expert").when(pl.col("status") == "final").then("decided"),
        soft_labels=pl.col("soft_labels").fill_null(pl.lit([], dtype=_dtype("soft_labels"))),
        votes=pl.col("votes").fill_null(unanswered),
        n_annotators=pl.col("n").fill_null(0),
        method=pl.when(settled).then(pl.lit("expert")).otherwise(pl.lit(section.method)),
        adjudicated=settled,
        judged=pl.lit(None, dtype=_dtype("judged")),
    )


def _dtype(column: str) -> pl.DataType:
    return GoldRecord.polars_schema()[column]


def decide(votes: Votes, method: Method, section: ReconcileSection) -> Decisions:
    """Each record's labels by `method`. `open` marks those that an expert must decide."""
    fitted = posteriors(votes, method, iterations=section.iterations, smoothing=section.smoothing)
    probability = fitted.probability
    tied = np.abs(probability - 0.5) <= (HALF if method == "majority" else TIE_BAND)
    decided = np.where(tied, section.tie == "yes", probability > 0.5)
    agreement = record_agreement(votes)
    unsettled = tied.any(axis=1) & (section.tie == "adjudicate")
    unsettled |= np.nan_to_num(agreement, nan=1.0) < section.adjudicate_below_agreement
    if method != "majority":
        certainty = np.maximum(probability, 1 - probability).min(axis=1, initial=1.0)
        unsettled |= certainty < section.adjudicate_below_posterior
    return Decisions(probability, decided, unsettled, agreement, fitted.unconverged)


def record_agreement(votes: Votes) -> Floats:
    """Mean Jaccard of the pairs of answers to each record (R); NaN with fewer than two answers."""
    first, second = pairs_of(votes)
    size = len(votes.records)
    total = np.bincount(votes.record_index[first], weights=jaccard(votes, first, second), minlength=size)
    pairs = np.bincount(votes.record_index[first], minlength=size)
    mean: Floats = np.divide(total, pairs, out=np.full(size, np.nan), where=pairs > 0)
    return mean


def compare_methods(votes: Votes, section: ReconcileSection, seed: int) -> list[MethodComparison]:
    """On how many final records each other method gives the same labels. Beyond COMPARED answers, on random records."""
    if not section.compare or not votes.n_answers:
        return []
    votes = sample(votes, COMPARED, generator(f"{seed}:compare"))
    enough = votes.answers_per_record >= section.min_answers
    chosen = decide(votes, section.method, section)
    final = enough & ~chosen.open
    comparisons = []
    for method in METHODS:
        if method != section.method:
            other = decide(votes, method, section)
            same = (chosen.decided == other.decided).all(axis=1) & final & ~other.open
            comparisons.append(MethodComparison(method=method, records=int(final.sum()), same_labels=int(same.sum())))
    return comparisons

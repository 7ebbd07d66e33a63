"""How much annotators agree: Krippendorff's alpha per label and over label sets, percent agreement, and each annotator
against the others, all with n and 95 % intervals over records.

Missing answers and unequal numbers of annotators are normal, and so are answers that judge only some of the labels: a
label's numbers come from the answers that judge it. Everything is computed from sums per record, so that a
resample is a weighted sum of them and a million answers take seconds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from marginalia.annotation.config import ReconcileSection
from marginalia.annotation.gold.annotator_agreement import annotator_agreement, pair_agreement
from marginalia.annotation.gold.bootstrap import FEWEST_OF_A_KIND, estimate, resampled_weights, variance
from marginalia.annotation.gold.chance_disagreement import MOST_SETS
from marginalia.annotation.gold.pairwise_disagreement import PairSums, Statistics
from marginalia.annotation.gold.votes import Floats, Ints, Votes, votes_of
from marginalia.schemas.agreement_json import Agreement, LabelAgreement
from marginalia.schemas.progress import progress


def agreement_of(
    answers: pl.DataFrame,
    labels: Sequence[str],
    section: ReconcileSection,
    *,
    seed: int,
    taxonomy: str,
    simulated: bool,
) -> Agreement:
    """The agreement between all submitted answers of the round `annotate` in a frame of `Answer` rows.

    Raises InputError for a label that is not in `labels`."""
    return agreement_of_votes(votes_of(answers, labels), section, seed=seed, taxonomy=taxonomy, simulated=simulated)


def agreement_of_votes(
    votes: Votes, section: ReconcileSection, *, seed: int, taxonomy: str = "", simulated: bool = False
) -> Agreement:
    """The agreement between the answers in `votes`, as agreement.json has it. Intervals are from `section.bootstrap`
    resamples of records."""
    labels = votes.labels
    sums = PairSums(votes, f"{seed}:agreement")
    n = sums.records
    point = sums.statistics()
    drawn = resampled_weights(sums.units, section.bootstrap, f"{seed}:agreement")
    blocks = []
    with progress(total=section.bootstrap, what="agreement", unit="resample") as bar:
        for block in drawn:
            blocks.append(sums.statistics(block))
            bar.update(block.shape[1])
    spread = Statistics.joined(blocks, len(labels))
    alphas = label_alphas(sums)
    rarer = np.minimum((sums.yes > 0).sum(axis=0), (sums.yes < sums.n).sum(axis=0))
    of_label = (sums.n > 0).sum(axis=0)
    judging = votes.judged.sum(axis=0)
    per_label = [
        LabelAgreement(
            label=label,
            alpha=estimate(alphas[at], spread.alpha[at], int(of_label[at]), lowest=-1.0, rarest=int(rarer[at])),
            percent=estimate(point.percent[at, 0], spread.percent[at], int(of_label[at]), mean_of_records=True),
            ticked=float(votes.indicators[:, at].sum() / judging[at]) if judging[at] else None,
            answers=int(judging[at]) if votes.partial else None,
        )
        for at, label in enumerate(labels)
    ]
    return Agreement(
        simulated=simulated,
        taxonomy=taxonomy,
        records=len(votes.records),
        pairable=n,
        answers=votes.n_answers,
        partial_answers=_partial_answers(votes),
        annotators=len(votes.annotators),
        alpha_masi=estimate(point.alpha_masi[0], spread.alpha_masi, n, lowest=-1.0),
        alpha_mean=estimate(
            _mean(alphas[:, None])[0],
            _mean(spread.alpha),
            n,
            lowest=-1.0,
            rarest=int(rarer[np.isfinite(alphas)].max(initial=0)),
            hidden_variance=_hidden_variance(alphas, spread.alpha, rarer),
        ),
        exact=estimate(point.exact[0], spread.exact, n, mean_of_records=True),
        jaccard=estimate(point.jaccard[0], spread.jaccard, n, mean_of_records=True),
        per_label=per_label,
        per_annotator=annotator_agreement(votes, section.bootstrap, f"{seed}:annotators"),
        pairs=pair_agreement(votes),
        notes=_notes(votes, sums, simulated),
    )


def label_alphas(sums: PairSums) -> Floats:
    """Krippendorff's alpha of each label (L), nominal; NaN where all answers are the same."""
    import krippendorff

    alphas = np.full(sums.yes.shape[1], np.nan)
    for at in range(len(alphas)):
        counts = np.stack([sums.n[:, at] - sums.yes[:, at], sums.yes[:, at]], axis=1)
        if sums.partial:
            counts = counts[sums.n[:, at] > 0]
        if (counts.sum(axis=0) > 0).all():
            alphas[at] = krippendorff.alpha(value_counts=counts, level_of_measurement="nominal")
    return alphas


def _mean(alphas: Floats) -> Floats:
    """Column means over the labels that have an alpha (L x B → B)."""
    usable = np.isfinite(alphas)
    total = np.where(usable, alphas, 0.0).sum(axis=0)
    undefined = np.full(alphas.shape[1], np.nan)
    mean: Floats = np.divide(total, usable.sum(axis=0), out=undefined, where=usable.any(axis=0))
    return mean


def _hidden_variance(alphas: Floats, resampled: Floats, rarer: Ints) -> float:
    """The part of the mean alpha's variance that resamples miss, for labels too rare for an interval of their own.

    It assumes that the variance times the number of records of the rarer kind is, for these labels, the average of the
    other labels."""
    known = np.isfinite(alphas)
    own = np.array([variance(row) for row in resampled])
    few = known & (rarer < FEWEST_OF_A_KIND)
    usual = own[known & ~few] * rarer[known & ~few]
    if not few.any() or not usual.size:
        return 0.0
    missing = np.maximum(0.0, usual.mean() / np.maximum(rarer[few], 1) - own[few])
    return float(missing.sum() / known.sum() ** 2)


def _partial_answers(votes: Votes) -> int:
    return int((~votes.judged.all(axis=1)).sum())


def _notes(votes: Votes, sums: PairSums, simulated: bool) -> list[str]:
    notes, pairable = [], sums.records
    if simulated:
        notes.append(
            "The annotators are simulated: these numbers show that the pipeline works, not how well people agree."
        )
    if votes.n_answers == 0:
        notes.append("No answer has been submitted yet.")
    elif pairable == 0:
        that = " that judge the same label" if votes.partial else ""
        notes.append(f"No record has two answers{that}, so agreement cannot be measured.")
    elif pairable < 50:
        records = "record has" if pairable == 1 else "records have"
        notes.append(f"Only {pairable} {records} two or more answers; the intervals are wide.")
    if votes.partial:
        notes.append(
            f"{_partial_answers(votes):,} of {votes.n_answers:,} answers judge only some of the labels. Answers are "
            "compared on the labels that both judge, and each label has its own n."
        )
    if sums.too_many_sets:
        notes.append(f"More than {MOST_SETS:,} distinct label sets: alpha over label sets was not computed.")
    return notes

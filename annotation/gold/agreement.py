"""How far annotators agree: Krippendorff's alpha per label and over label sets, percent agreement, and each annotator
against the others, all with n and 95 % intervals over records.

Missing answers and unequal numbers of annotators are normal. Everything is computed from sums per record, so that a
resample is a weighted sum of them and a million answers take seconds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from marginalia.annotation.config import ReconcileSection
from marginalia.annotation.gold.annotator_agreement import annotator_agreement, pair_agreement
from marginalia.annotation.gold.answer_arrays import AnswerArrays, Floats, Ints, answer_arrays
from marginalia.annotation.gold.bootstrap import FEWEST_OF_A_KIND, estimate, resampled_weights, variance
from marginalia.annotation.gold.pairwise_disagreement import MOST_SETS, PairSums, Statistics
from marginalia.schemas.agreement_json import Agreement, LabelAgreement


def agreement_of(
    answers: pl.DataFrame,
    labels: Sequence[str],
    section: ReconcileSection,
    *,
    seed: int,
    taxonomy: str,
    simulated: bool,
) -> Agreement:
    """The agreement between all submitted answers of the round `annotate` in a frame of `Answer` rows."""
    return agreement_of_ticks(
        answer_arrays(answers, labels), section, seed=seed, taxonomy=taxonomy, simulated=simulated
    )


def agreement_of_ticks(
    ticks: AnswerArrays, section: ReconcileSection, *, seed: int, taxonomy: str = "", simulated: bool = False
) -> Agreement:
    labels = ticks.labels
    sums = PairSums(ticks, f"{seed}:agreement")
    n = sums.records
    point = sums.statistics()
    drawn = resampled_weights(sums.units, section.bootstrap, f"{seed}:agreement")
    blocks = [sums.statistics(block) for block in drawn]
    spread = Statistics.joined(blocks, len(labels))
    alphas = label_alphas(sums)
    rarer = np.minimum((sums.yes > 0).sum(axis=0), (sums.yes < sums.n[:, None]).sum(axis=0))
    per_label = [
        LabelAgreement(
            label=label,
            alpha=estimate(alphas[at], spread.alpha[at], n, lowest=-1.0, rarest=int(rarer[at])),
            percent=estimate(point.percent[at, 0], spread.percent[at], n, mean_of_records=True),
            ticked=float(ticks.ticked[:, at].mean()) if ticks.answers else None,
        )
        for at, label in enumerate(labels)
    ]
    return Agreement(
        simulated=simulated,
        taxonomy=taxonomy,
        records=len(ticks.records),
        pairable=n,
        answers=ticks.answers,
        annotators=len(ticks.annotators),
        alpha_masi=estimate(point.alpha_masi[0], spread.alpha_masi, n, lowest=-1.0),
        alpha_mean=estimate(
            _mean(alphas[:, None])[0],
            _mean(spread.alpha),
            n,
            lowest=-1.0,
            rarest=int(rarer[np.isfinite(alphas)].max(initial=0)),
            lacking=_lacking(alphas, spread.alpha, rarer),
        ),
        exact=estimate(point.exact[0], spread.exact, n, mean_of_records=True),
        jaccard=estimate(point.jaccard[0], spread.jaccard, n, mean_of_records=True),
        per_label=per_label,
        per_annotator=annotator_agreement(ticks, section.bootstrap, f"{seed}:annotators"),
        pairs=pair_agreement(ticks),
        notes=_notes(ticks, sums, simulated),
    )


def label_alphas(sums: PairSums) -> Floats:
    """Krippendorff's alpha of each label (L), nominal; NaN where all answers are the same."""
    import krippendorff

    found = np.full(sums.yes.shape[1], np.nan)
    for at in range(len(found)):
        counts = np.stack([sums.n - sums.yes[:, at], sums.yes[:, at]], axis=1)
        if (counts.sum(axis=0) > 0).all():
            found[at] = krippendorff.alpha(value_counts=counts, level_of_measurement="nominal")
    return found


def _mean(alphas: Floats) -> Floats:
    """Column means over the labels that have an alpha (L x B → B)."""
    usable = np.isfinite(alphas)
    total = np.where(usable, alphas, 0.0).sum(axis=0)
    none = np.full(alphas.shape[1], np.nan)
    found: Floats = np.divide(total, usable.sum(axis=0), out=none, where=usable.any(axis=0))
    return found


def _lacking(alphas: Floats, resampled: Floats, rarer: Ints) -> float:
    """The variance of the mean alpha that resamples do not show for labels too rare for an interval: what they would
    have if each record with (or without) the label spread as it does, on average, for the other labels."""
    known = np.isfinite(alphas)
    own = np.array([variance(row) for row in resampled])
    few = known & (rarer < FEWEST_OF_A_KIND)
    usual = own[known & ~few] * rarer[known & ~few]
    if not few.any() or not usual.size:
        return 0.0
    missing = np.maximum(0.0, usual.mean() / np.maximum(rarer[few], 1) - own[few])
    return float(missing.sum() / known.sum() ** 2)


def _notes(ticks: AnswerArrays, sums: PairSums, simulated: bool) -> list[str]:
    notes, pairable = [], sums.records
    if simulated:
        notes.append("The annotators are simulated: these numbers prove the machinery and say nothing about people.")
    if ticks.answers == 0:
        notes.append("Nobody has submitted an answer yet.")
    elif pairable == 0:
        notes.append("No record has two answers, so nothing can be said about agreement.")
    elif pairable < 50:
        notes.append(f"Only {pairable} records have two answers or more; the intervals are wide.")
    if sums.too_many_sets:
        notes.append(f"More than {MOST_SETS:,} distinct label sets: alpha over label sets was not computed.")
    return notes

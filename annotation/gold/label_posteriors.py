"""The probability of each label given the answers, by majority vote, Dawid-Skene or MACE, one label at a time (binary
relevance)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from marginalia.annotation.gold.dawid_skene import dawid_skene
from marginalia.annotation.gold.mace import mace
from marginalia.annotation.gold.votes import Floats, Votes
from marginalia.schemas.progress import progress

Method = Literal["majority", "dawid_skene", "mace"]
METHODS: tuple[Method, ...] = ("majority", "dawid_skene", "mace")


@dataclass(frozen=True)
class Posteriors:
    """`probability` of each label for each record with an answer (R x L), in [0, 1], and NaN where no answer judges the
    label; `unconverged`: the labels whose fit did not converge."""

    probability: Floats
    unconverged: tuple[str, ...] = ()


def posteriors(votes: Votes, method: Method, *, iterations: int = 10_000, smoothing: float = 0.0) -> Posteriors:
    """The posterior of every record and label by `method`, with at most `iterations` EM rounds per label.

    majority: the share of answers that tick the label. dawid_skene: one confusion matrix per annotator and label, with
    `smoothing` answers added to each cell. mace: an annotator either knows or answers by habit. A label that all
    answers tick, or none, needs no fit and gets 1 or 0. Each label's numbers come from the answers that judge it, the
    records that have such an answer, and the annotators who gave one."""
    if method == "majority" or not votes.n_answers:
        share = np.full(votes.yes_votes.shape, np.nan)
        return Posteriors(np.divide(votes.yes_votes, votes.judged_votes, out=share, where=votes.judged_votes > 0))
    probability = np.full((len(votes.records), len(votes.labels)), np.nan)
    unconverged = []
    for at, label in enumerate(progress(votes.labels, total=len(votes.labels), what=method, unit="label")):
        records, answers = votes.of_label(at)
        indicator = answers.indicators[:, 0]
        if indicator.all() or not indicator.any():
            probability[records, at] = float(indicator.any())
            continue
        fit = (
            dawid_skene(answers, indicator, iterations, smoothing)
            if method == "dawid_skene"
            else mace(answers, indicator, iterations)
        )
        probability[records, at] = fit.posterior
        if not fit.converged:
            unconverged.append(label)
    return Posteriors(np.clip(probability, 0.0, 1.0), tuple(unconverged))

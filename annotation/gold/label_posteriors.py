"""The probability of each label given the answers, by majority vote, Dawid-Skene or MACE, one label at a time (binary
relevance)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from marginalia.annotation.gold.dawid_skene import dawid_skene
from marginalia.annotation.gold.mace import mace
from marginalia.annotation.gold.votes import Floats, Votes

Method = Literal["majority", "dawid_skene", "mace"]
METHODS: tuple[Method, ...] = ("majority", "dawid_skene", "mace")


@dataclass(frozen=True)
class Posteriors:
    """`probability` of each label for each record with an answer (R x L), in [0, 1]; `unconverged`: the labels whose
    fit did not converge."""

    probability: Floats
    unconverged: tuple[str, ...] = ()


def posteriors(votes: Votes, method: Method, *, iterations: int = 10_000, smoothing: float = 0.0) -> Posteriors:
    """The posterior of every record and label by `method`, with at most `iterations` EM rounds per label.

    majority: the share of answers that tick the label. dawid_skene: one confusion matrix per annotator and label, with
    `smoothing` answers added to each cell. mace: an annotator either knows or answers by habit. A label that all
    answers tick, or none, needs no fit and gets 1 or 0."""
    if method == "majority" or not votes.n_answers:
        return Posteriors(votes.yes_votes / np.maximum(votes.answers_per_record, 1)[:, None])
    probability = np.zeros((len(votes.records), len(votes.labels)))
    unconverged = []
    for at, label in enumerate(votes.labels):
        indicator = votes.indicators[:, at]
        if indicator.all() or not indicator.any():
            probability[:, at] = float(indicator[0])
            continue
        fit = (
            dawid_skene(votes, indicator, iterations, smoothing)
            if method == "dawid_skene"
            else mace(votes, indicator, iterations)
        )
        probability[:, at] = fit.posterior
        if not fit.converged:
            unconverged.append(label)
    return Posteriors(np.clip(probability, 0.0, 1.0), tuple(unconverged))

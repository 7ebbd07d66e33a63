"""How probable each label is, given the answers: by counting heads, Dawid-Skene or MACE, label by label (binary
relevance)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from marginalia.annotation.gold.answer_arrays import AnswerArrays, Floats
from marginalia.annotation.gold.dawid_skene import dawid_skene
from marginalia.annotation.gold.mace import mace

Method = Literal["majority", "dawid_skene", "mace"]
METHODS: tuple[Method, ...] = ("majority", "dawid_skene", "mace")


@dataclass(frozen=True)
class Posteriors:
    """`probability` of each label for each record with an answer (R x L), in [0, 1]; `unconverged`: the labels whose
    fit used up its rounds."""

    probability: Floats
    unconverged: tuple[str, ...] = ()


def posteriors(ticks: AnswerArrays, method: Method, *, iterations: int = 10_000, smoothing: float = 0.0) -> Posteriors:
    """majority: the share of answers that carry the label. dawid_skene: one table of right and wrong answers per
    annotator and label, fitted by EM, `smoothing` answers added to each cell. mace: an annotator either knows or
    answers by habit. A label that all answers carry, or none, has nothing to fit and gets 1 or 0."""
    if method == "majority" or not ticks.answers:
        return Posteriors(ticks.yes / np.maximum(ticks.counts, 1)[:, None])
    found = np.zeros((len(ticks.records), len(ticks.labels)))
    unconverged = []
    for at, label in enumerate(ticks.labels):
        ticked = ticks.ticked[:, at]
        if ticked.all() or not ticked.any():
            found[:, at] = float(ticked[0])
            continue
        fit = (
            dawid_skene(ticks, ticked, iterations, smoothing)
            if method == "dawid_skene"
            else mace(ticks, ticked, iterations)
        )
        found[:, at] = fit.posterior
        if not fit.converged:
            unconverged.append(label)
    return Posteriors(np.clip(found, 0.0, 1.0), tuple(unconverged))

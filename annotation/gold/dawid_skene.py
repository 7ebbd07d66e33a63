"""Dawid & Skene 1979 (Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm), one label at a
time: each annotator has a chance to tick the label where it applies and another where it does not."""

from __future__ import annotations

import numpy as np

from marginalia.annotation.gold.answer_arrays import AnswerArrays, Bools, Floats
from marginalia.annotation.gold.expectation_maximisation import SMALLEST, Fit, Round, converge


def dawid_skene(ticks: AnswerArrays, ticked: Bools, rounds: int, smoothing: float = 0.0) -> Fit:
    """The fit to `ticked` (A): who ticked one label, starting from each record's share of ticks.

    `smoothing` answers are added to each cell of each annotator's table of right and wrong answers; 0 is maximum
    likelihood."""
    records, annotators = len(ticks.records), len(ticks.annotators)
    cell = 2 * ticks.annotator + ticked
    answers = np.bincount(cell, minlength=2 * annotators).astype(np.float64)

    def estimated(posterior: Floats) -> Floats:
        """Of each annotator the chance to tick without and with the label, then how frequent the label is."""
        given = np.bincount(cell, weights=posterior[ticks.record], minlength=2 * annotators)
        counts = np.stack([answers - given, given]).reshape(2, annotators, 2) + smoothing
        totals = counts.sum(axis=2)
        ticks_share = np.divide(counts[:, :, 1], totals, out=np.full(totals.shape, 0.5), where=totals > 0)
        found = np.concatenate([ticks_share.ravel(), [(posterior.sum() + smoothing) / (records + 2 * smoothing)]])
        clipped: Floats = np.clip(found, SMALLEST, 1 - SMALLEST)
        return clipped

    def step(parameters: Floats) -> Round:
        without, with_ = parameters[:-1].reshape(2, annotators)
        frequency = parameters[-1]
        chances = [np.log(np.stack([1 - share, share], axis=1)).ravel()[cell] for share in (without, with_)]
        log_no = np.log1p(-frequency) + np.bincount(ticks.record, weights=chances[0], minlength=records)
        log_yes = np.log(frequency) + np.bincount(ticks.record, weights=chances[1], minlength=records)
        together = np.logaddexp(log_no, log_yes)
        posterior = np.exp(log_yes - together)
        prior = smoothing * float((np.log(parameters) + np.log1p(-parameters)).sum()) if smoothing else 0.0
        return Round(posterior, float(together.sum()) + prior, estimated(posterior))

    share = np.bincount(ticks.record, weights=ticked, minlength=records) / np.maximum(ticks.counts, 1)
    return converge(step, estimated(share), rounds)

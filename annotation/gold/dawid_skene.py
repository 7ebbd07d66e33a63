"""Dawid & Skene 1979 (Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm), one label at a
time: each annotator has one probability of ticking the label where it applies and another where it does not."""

from __future__ import annotations

import numpy as np

from marginalia.annotation.gold.expectation_maximisation import SMALLEST, Fit, Round, converge
from marginalia.annotation.gold.votes import Bools, Floats, Votes


def dawid_skene(votes: Votes, indicator: Bools, rounds: int, smoothing: float = 0.0) -> Fit:
    """The fit for one label, started from each record's share of yes votes. `indicator` (A): whether each answer ticks
    it.

    `smoothing` answers are added to each cell of each annotator's confusion matrix; 0 gives maximum likelihood. At most
    `rounds` EM rounds."""
    records, annotators = len(votes.records), len(votes.annotators)
    cell = 2 * votes.annotator_index + indicator
    answers = np.bincount(cell, minlength=2 * annotators).astype(np.float64)

    def estimated(posterior: Floats) -> Floats:
        """Each annotator's probability of ticking where the label does not apply (W), then where it does (W), then the
        label's frequency."""
        with_label = np.bincount(cell, weights=posterior[votes.record_index], minlength=2 * annotators)
        counts = np.stack([answers - with_label, with_label]).reshape(2, annotators, 2) + smoothing
        totals = counts.sum(axis=2)
        ticking = np.divide(counts[:, :, 1], totals, out=np.full(totals.shape, 0.5), where=totals > 0)
        frequency = (posterior.sum() + smoothing) / (records + 2 * smoothing)
        clipped: Floats = np.clip(np.concatenate([ticking.ravel(), [frequency]]), SMALLEST, 1 - SMALLEST)
        return clipped

    def step(parameters: Floats) -> Round:
        without, with_ = parameters[:-1].reshape(2, annotators)
        frequency = parameters[-1]
        log_without, log_with = (np.log(np.stack([1 - p, p], axis=1)).ravel()[cell] for p in (without, with_))
        log_no = np.log1p(-frequency) + np.bincount(votes.record_index, weights=log_without, minlength=records)
        log_yes = np.log(frequency) + np.bincount(votes.record_index, weights=log_with, minlength=records)
        log_evidence = np.logaddexp(log_no, log_yes)
        posterior = np.exp(log_yes - log_evidence)
        prior = smoothing * float((np.log(parameters) + np.log1p(-parameters)).sum()) if smoothing else 0.0
        return Round(posterior, float(log_evidence.sum()) + prior, estimated(posterior))

    share = np.bincount(votes.record_index, weights=indicator, minlength=records) / np.maximum(
        votes.answers_per_record, 1
    )
    return converge(step, estimated(share), rounds)

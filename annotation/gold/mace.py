"""MACE (Hovy, Berg-Kirkpatrick, Vaswani & Hovy 2013, Learning Whom to Trust with MACE), one label at a time: an
annotator either knows whether the label applies or answers by habit.

Three things differ from the paper, because labels are rare. The label's frequency is estimated; the paper fixes it at
one half, which made most ticks of a label with 8 % prevalence true. The prior mean of an annotator's habit is the share
of all answers that tick the label, with the paper's weight of 20 answers; in the paper it is one half. And knowing has
a prior with a weight of 10 answers: most answers to a rare label agree that it is absent, which says little about who
knows.

Several fits may explain the same answers: of two annotators who always disagree, either may be the one who knows. So
there is one start from the shares of yes votes and one from each annotator's own answers, and the posteriors are
averaged with the fits' likelihoods as weights. Nothing is random."""

from __future__ import annotations

import numpy as np

from marginalia.annotation.gold.expectation_maximisation import SMALLEST, Fit, Round, converge
from marginalia.annotation.gold.votes import Bools, Floats, Votes

KNOWING = (8.0, 2.0)  # prior pseudo-counts per annotator: answers given knowing, and by habit
HABIT = 20.0  # prior weight, in answers, of the overall share of yes votes as an annotator's habit
FREQUENCY = 0.5  # prior pseudo-counts of records with the label, and of records without
MOST_ANNOTATORS, MOST_ANSWERS = 9, 20_000  # with more of either, the only start is from the shares of yes votes


def mace(votes: Votes, indicator: Bools, rounds: int) -> Fit:
    """The averaged fit for one label. `indicator` (A): whether each answer ticks it, neither all nor none of them. At
    most `rounds` EM rounds per fit."""
    records, annotators = len(votes.records), len(votes.annotators)
    overall = float(indicator.mean())
    answers = np.bincount(votes.annotator_index, minlength=annotators).astype(np.float64)
    habit = np.array([HABIT * (1 - overall), HABIT * overall])

    def per_annotator(values: Floats) -> Floats:
        """Sums over each annotator's answers (A → W)."""
        return np.bincount(votes.annotator_index, weights=values, minlength=annotators).astype(np.float64)

    def step(parameters: Floats) -> Round:
        """`parameters`: each annotator's probability of knowing (W), each one's probability of ticking by habit (W),
        and the label's frequency."""
        knows, habits, frequency = parameters[:annotators], parameters[annotators:-1], parameters[-1]
        by_habit = (1 - knows)[votes.annotator_index] * np.where(
            indicator, habits[votes.annotator_index], 1 - habits[votes.annotator_index]
        )
        if_right = knows[votes.annotator_index] + by_habit  # the likelihood of each answer if it is right
        if_yes, if_no = np.where(indicator, if_right, by_habit), np.where(indicator, by_habit, if_right)
        log_yes = np.log(frequency) + np.bincount(votes.record_index, weights=np.log(if_yes), minlength=records)
        log_no = np.log1p(-frequency) + np.bincount(votes.record_index, weights=np.log(if_no), minlength=records)
        log_evidence = np.logaddexp(log_yes, log_no)
        posterior = np.exp(log_yes - log_evidence)
        right = np.where(indicator, posterior[votes.record_index], 1 - posterior[votes.record_index])
        known = right * knows[votes.annotator_index] / if_right
        guessed = 1 - known
        prior = (
            KNOWING[0] * np.log(knows).sum()
            + KNOWING[1] * np.log1p(-knows).sum()
            + habit[1] * np.log(habits).sum()
            + habit[0] * np.log1p(-habits).sum()
            + FREQUENCY * (np.log(frequency) + np.log1p(-frequency))
        )
        estimated = np.concatenate(
            [
                (per_annotator(known) + KNOWING[0]) / (answers + sum(KNOWING)),
                (per_annotator(guessed * indicator) + habit[1]) / (per_annotator(guessed) + HABIT),
                [(posterior.sum() + FREQUENCY) / (records + 2 * FREQUENCY)],
            ]
        )
        return Round(posterior, float(log_evidence.sum() + prior), np.clip(estimated, SMALLEST, 1 - SMALLEST))

    def start(believed: Floats) -> Floats:
        """Parameters at which the label's posteriors are roughly `believed` (R)."""
        right = np.where(indicator, believed[votes.record_index], 1 - believed[votes.record_index])
        knows = np.clip(per_annotator(right) / np.maximum(answers, 1), 0.05, 0.95)
        return np.concatenate([knows, np.full(annotators, overall), [np.clip(believed.mean(), 0.001, 0.999)]])

    fits = [converge(step, start(believed), rounds) for believed in _starting_beliefs(votes, indicator)]
    objectives = np.array([fit.objective for fit in fits])
    weights = np.exp(objectives - objectives.max())
    posterior = np.average([fit.posterior for fit in fits], axis=0, weights=weights)
    return Fit(posterior, float(objectives.max()), all(fit.converged for fit in fits))


def _starting_beliefs(votes: Votes, indicator: Bools) -> list[Floats]:
    """The label's posteriors (R) to start from: the share of yes votes; then, for each annotator, that annotator's own
    answers and the share elsewhere."""
    yes = np.bincount(votes.record_index, weights=indicator, minlength=len(votes.records))
    share = yes / np.maximum(votes.answers_per_record, 1)
    beliefs = [share]
    if len(votes.annotators) > MOST_ANNOTATORS or votes.n_answers > MOST_ANSWERS:
        return beliefs
    for annotator in range(len(votes.annotators)):
        own = votes.annotator_index == annotator
        believed = share.copy()
        believed[votes.record_index[own]] = indicator[own]
        beliefs.append(believed)
    return beliefs

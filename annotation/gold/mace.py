"""MACE (Hovy, Berg-Kirkpatrick, Vaswani & Hovy 2013, Learning Whom to Trust with MACE), one label at a time: an
annotator either knows whether the label applies or answers by habit.

Three things differ from the paper, because labels are rare. How frequent the label is is estimated; the paper takes
one half, which made most ticks of labels with 8 % prevalence true. Habits are believed to tick as often as all answers
do, with the paper's weight of 20 answers; the paper believes in one half. And annotators are believed to know, with a
weight of 10 answers: agreeing on what is absent, which is most of a rare label's data, says little about who knows.

Several fits may explain the same answers: of two annotators who always disagree, either may be the one who knows. So
the fit starts from the shares of ticks and from each annotator's own answers, and the posteriors are averaged, each
fit weighing as much as it is likely. Nothing is random."""

from __future__ import annotations

import numpy as np

from marginalia.annotation.gold.answer_arrays import AnswerArrays, Bools, Floats
from marginalia.annotation.gold.expectation_maximisation import SMALLEST, Fit, Round, converge

KNOWING = (8.0, 2.0)  # answers that each annotator is believed to have given knowing, and by habit
HABIT = 20.0  # answers' worth of belief in the usual share of ticks
FREQUENCY = 0.5  # records' worth of belief that a record has the label, and that it has not
MOST_TRUSTED, MANY = 9, 20_000  # annotators, and answers, beyond which only the shares of ticks are a start


def mace(ticks: AnswerArrays, ticked: Bools, rounds: int) -> Fit:
    """The averaged fit to `ticked` (A), who ticked one label; some answers tick it and some do not."""
    records, annotators = len(ticks.records), len(ticks.annotators)
    usual = float(ticked.mean())
    answers = np.bincount(ticks.annotator, minlength=annotators).astype(np.float64)
    habit = np.array([HABIT * (1 - usual), HABIT * usual])

    def of_annotators(values: Floats) -> Floats:
        return np.bincount(ticks.annotator, weights=values, minlength=annotators).astype(np.float64)

    def step(parameters: Floats) -> Round:
        """Parameters: of each annotator the chance to know and the share of ticks out of habit; the frequency."""
        knows, habits, frequency = parameters[:annotators], parameters[annotators:-1], parameters[-1]
        by_habit = (1 - knows)[ticks.annotator] * np.where(ticked, habits[ticks.annotator], 1 - habits[ticks.annotator])
        either = knows[ticks.annotator] + by_habit  # the chance of an answer that is right
        chance_yes, chance_no = np.where(ticked, either, by_habit), np.where(ticked, by_habit, either)
        log_yes = np.log(frequency) + np.bincount(ticks.record, weights=np.log(chance_yes), minlength=records)
        log_no = np.log1p(-frequency) + np.bincount(ticks.record, weights=np.log(chance_no), minlength=records)
        together = np.logaddexp(log_yes, log_no)
        posterior = np.exp(log_yes - together)
        right = np.where(ticked, posterior[ticks.record], 1 - posterior[ticks.record])
        known = right * knows[ticks.annotator] / either
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
                (of_annotators(known) + KNOWING[0]) / (answers + sum(KNOWING)),
                (of_annotators(guessed * ticked) + habit[1]) / (of_annotators(guessed) + HABIT),
                [(posterior.sum() + FREQUENCY) / (records + 2 * FREQUENCY)],
            ]
        )
        return Round(posterior, float(together.sum() + prior), np.clip(estimated, SMALLEST, 1 - SMALLEST))

    def start(believed: Floats) -> Floats:
        right = np.where(ticked, believed[ticks.record], 1 - believed[ticks.record])
        knows = np.clip(of_annotators(right) / np.maximum(answers, 1), 0.05, 0.95)
        return np.concatenate([knows, np.full(annotators, usual), [np.clip(believed.mean(), 0.001, 0.999)]])

    fits = [converge(step, start(believed), rounds) for believed in _beliefs(ticks, ticked)]
    objectives = np.array([fit.objective for fit in fits])
    weights = np.exp(objectives - objectives.max())
    posterior = np.average([fit.posterior for fit in fits], axis=0, weights=weights)
    return Fit(posterior, float(objectives.max()), all(fit.converged for fit in fits))


def _beliefs(ticks: AnswerArrays, ticked: Bools) -> list[Floats]:
    """What the label's posteriors (R) may be at the start: the share of ticks, or each annotator's word where given."""
    share = np.bincount(ticks.record, weights=ticked, minlength=len(ticks.records)) / np.maximum(ticks.counts, 1)
    found = [share]
    if len(ticks.annotators) > MOST_TRUSTED or ticks.answers > MANY:
        return found
    for person in range(len(ticks.annotators)):
        mine = ticks.annotator == person
        believed = share.copy()
        believed[ticks.record[mine]] = ticked[mine]
        found.append(believed)
    return found

"""Combines the results of a record's calls, for guards that judge one policy per call (Granite Guardian,
ShieldGemma)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from marginalia.scoring.covered_estimates import of_separate_calls
from marginalia.scoring.guard import Guard
from marginalia.scoring.guard_file import VERDICT
from marginalia.scoring.language.answer_language import AnswerLanguage
from marginalia.scoring.marginal.answer_search import MARGINALS
from marginalia.scoring.marginal.estimators import LabelEstimates
from marginalia.scoring.scored_record import LevelEntry, Result

STOPS = ("tolerance", "exhausted", "node_budget")  # why a search stopped, from the best reason to the worst


def combine(record_id: str, calls: dict[str, Result], guard: Guard) -> Result:
    """One result from those of a record's `calls`, by row. The record fails when one of its calls does.

    Nodes, forward passes and seconds are sums over the calls; off_language and unexplored are the largest."""
    together = of_all_calls(record_id, calls)
    if together.error is not None:
        return together
    names = next(iter(calls.values())).estimates
    return replace(
        together,
        estimates={name: _table({row: calls[row].estimates[name] for row in calls}, name, guard) for name in names},
        predicted=_predicted(calls, guard),
        levels=_levels(calls),
    )


def of_all_calls(record_id: str, calls: Mapping[str, Result]) -> Result:
    """The result of a record's calls without estimates and labels: the error of the first that failed; or else the
    answers in a line each, the sums of the costs, and the largest off_language and unexplored."""
    cost = Result(
        record_id,
        nodes=sum(result.nodes for result in calls.values()),
        forward_passes=sum(result.forward_passes for result in calls.values()),
        seconds=sum(result.seconds for result in calls.values()),
        imitations=max(result.imitations for result in calls.values()),
        passages=_total([result.passages for result in calls.values()]),
        unanswered=_total([result.unanswered for result in calls.values()]),
        passage_tokens=_total([result.passage_tokens for result in calls.values()]),
    )
    for name, result in calls.items():
        if result.error is not None:
            return replace(cost, error=f"{name}: {result.error}", is_temporary=result.is_temporary)
    return replace(
        cost,
        answer="\n".join(f"{name}: {result.answer}" for name, result in calls.items()),
        off_language=max(result.off_language or 0.0 for result in calls.values()),
        unexplored=max(result.unexplored or 0.0 for result in calls.values()),
        stopped=max((result.stopped for result in calls.values()), key=STOPS.index),
    )


def _total(counts: list[int | None]) -> int | None:
    """The sum over the calls; None for guards that do not reason."""
    return None if None in counts else sum(count or 0 for count in counts)


def _levels(calls: Mapping[str, Result]) -> list[LevelEntry] | None:
    """The expected values of all calls, each under LABEL.NAME; None for a guard without levels and integers."""
    entries = [(row, level) for row, result in calls.items() for level in result.levels or ()]
    return [{**level, "name": f"{row}.{level['name']}"} for row, level in entries] or None


def _table(calls: dict[str, LabelEstimates], name: str, guard: Guard) -> LabelEstimates:
    """The estimates of all rows for the estimator `name`. Without a call for the verdict, its bounds follow from the
    labels': at least the largest probability, at most the sum (Fréchet)."""
    asked = [row for row in calls if row != VERDICT]
    probability, lower, upper = (
        np.array([getattr(calls[row], bound)[0] for row in asked]) for bound in ("probability", "lower", "upper")
    )
    if VERDICT in calls:
        verdict = [float(getattr(calls[VERDICT], bound)[0]) for bound in ("probability", "lower", "upper")]
    elif name in MARGINALS:
        verdict = [float(probability.max()), float(lower.max()), min(float(upper.sum()), 1.0)]
    else:
        verdict = [float(probability.max()), float(lower.max()), float(upper.max())]
    columns = probability, lower, upper
    if guard.covered is not None:
        labels = of_separate_calls(calls, guard.covered, certain=name == "greedy")
        columns = labels.probability, labels.lower, labels.upper
    return LabelEstimates(*(np.append(values, value) for values, value in zip(columns, verdict, strict=True)))


def _predicted(calls: dict[str, Result], guard: Guard) -> list[str]:
    """The labels that the greedy answers give. No answer says that a label applies that is part of a category."""
    yes = [row for row in calls if row != VERDICT and _says_yes(calls[row].answer or "", guard.language)]
    if guard.covered is None:
        return yes
    return [label.label for label in guard.covered if set(yes) & set(label.any_of)]


def _says_yes(answer: str, language: AnswerLanguage) -> bool:
    return bool(language.walk(language.symbols(answer))[-1].done >> language.verdict & 1)

"""Combines the results of a record's calls, for guards that judge one policy per call (Granite Guardian,
ShieldGemma)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from marginalia.scoring.guard import VERDICT, Guard
from marginalia.scoring.language.answer_language import AnswerLanguage
from marginalia.scoring.marginal.answer_search import MARGINALS
from marginalia.scoring.marginal.estimators import LabelEstimates
from marginalia.scoring.scored_record import Result

STOPS = ("tolerance", "exhausted", "node_budget")  # why a search stopped, from the best reason to the worst


def combine(record_id: str, calls: dict[str, Result], guard: Guard) -> Result:
    """One result from those of a record's `calls`, by row. The record fails when one of its calls does.

    Nodes, forward passes and seconds are sums over the calls; off_language and unexplored are the largest."""
    cost = Result(
        record_id,
        nodes=sum(result.nodes for result in calls.values()),
        forward_passes=sum(result.forward_passes for result in calls.values()),
        seconds=sum(result.seconds for result in calls.values()),
        imitations=max(result.imitations for result in calls.values()),
    )
    for row, result in calls.items():
        if result.error is not None:
            return replace(cost, error=f"{row}: {result.error}", is_temporary=result.is_temporary)
    names = next(iter(calls.values())).estimates
    return replace(
        cost,
        estimates={name: _table({row: calls[row].estimates[name] for row in calls}, name, guard) for name in names},
        answer="\n".join(f"{row}: {result.answer}" for row, result in calls.items()),
        predicted=[label for label in guard.labels if _says_yes(calls[label].answer or "", guard.language)],
        off_language=max(result.off_language or 0.0 for result in calls.values()),
        unexplored=max(result.unexplored or 0.0 for result in calls.values()),
        stopped=max((result.stopped for result in calls.values()), key=STOPS.index),
    )


def _table(calls: dict[str, LabelEstimates], name: str, guard: Guard) -> LabelEstimates:
    """The estimates of all rows for the estimator `name`. Without a call for the verdict, its bounds follow from the
    labels': at least the largest probability, at most the sum (Fréchet)."""
    probability, lower, upper = (
        np.array([getattr(calls[label], bound)[0] for label in guard.labels])
        for bound in ("probability", "lower", "upper")
    )
    if VERDICT in calls:
        verdict = [float(getattr(calls[VERDICT], bound)[0]) for bound in ("probability", "lower", "upper")]
    elif name in MARGINALS:
        verdict = [float(probability.max()), float(lower.max()), min(float(upper.sum()), 1.0)]
    else:
        verdict = [float(probability.max()), float(lower.max()), float(upper.max())]
    return LabelEstimates(
        *(np.append(values, value) for values, value in zip((probability, lower, upper), verdict, strict=True))
    )


def _says_yes(answer: str, language: AnswerLanguage) -> bool:
    return bool(language.walk(answer.encode())[-1].done >> language.verdict & 1)

"""Combines the results of a record's sampled passages into one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from marginalia.scoring.language.answer_language import Scale
from marginalia.scoring.marginal.answer_search import IN_LANGUAGE, MARGINALS
from marginalia.scoring.marginal.estimators import LabelEstimates
from marginalia.scoring.reasoning.passage_means import Floats, mean_interval
from marginalia.scoring.scored_record import LevelEntry, Result

STOPS = ("tolerance", "exhausted", "node_budget")  # why a search stopped, from the best reason to the worst


@dataclass(frozen=True)
class SampledAnswer:
    """A passage's length in tokens, and the result of the search after it; None if it never reached an answer."""

    tokens: int
    result: Result | None


def averaged(
    record_id: str, answers: Sequence[SampledAnswer], estimators: Sequence[str], rows: int, scales: Sequence[Scale]
) -> Result:
    """One result from those of a record's passages; `rows`: how many rows its scores have; `scales`: the guard's
    levels.

    A passage without an answer counts as an answer outside the format: its rows have 0. The means of `marginal` and of
    the estimators along a greedy answer are over all passages, `marginal_in_language` is weighted by the probability
    of a valid answer, and the constrained estimators by whether there is an answer at all, as their definitions
    require. `lower` and `upper` are 95 % confidence sequences over passages, which include each passage's own bounds.

    The record fails when the search after one of its passages does."""
    results = [answer.result for answer in answers if answer.result is not None]
    cost = Result(
        record_id,
        nodes=sum(result.nodes for result in results),
        forward_passes=sum(result.forward_passes for result in results),
        seconds=sum(result.seconds for result in results),
        imitations=max((result.imitations for result in results), default=0),
        passages=len(answers),
        unanswered=len(answers) - len(results),
        passage_tokens=sum(answer.tokens for answer in answers),
    )
    for result in results:
        if result.error is not None:
            return replace(cost, error=result.error, is_temporary=result.is_temporary)
    outside = np.array([1.0 if answer.result is None else answer.result.off_language or 0.0 for answer in answers])
    unexplored = np.array([0.0 if answer.result is None else answer.result.unexplored or 0.0 for answer in answers])
    reached = np.array([float(answer.result is not None) for answer in answers])
    # the mass of valid answers is at least what is settled, and at most that and all that is unexplored
    valid = np.maximum(1.0 - outside - unexplored, 0.0), np.maximum(1.0 - outside, 0.0)
    estimates, levels = {}, []
    for name in estimators:
        low, high = (_values(answers, name, bound, rows) for bound in ("lower", "upper"))
        weights = (
            valid if name == IN_LANGUAGE else (reached, reached) if "constrained" in name else (reached * 0 + 1,) * 2
        )
        estimates[name] = LabelEstimates(*mean_interval(low, high, *weights))
        for scale in scales if name in MARGINALS else ():
            low, high = (_shares_of_scale(answers, name, bound, scale) for bound in ("lower", "upper"))
            mean, lower, upper = (
                scale.lowest + scale.steps * float(one[0]) for one in mean_interval(low, high, *weights)
            )
            levels.append(LevelEntry(name=scale.name, estimator=name, expected=mean, lower=lower, upper=upper))
    return replace(
        cost,
        estimates=estimates,
        answer=_most_common([result.answer or "" for result in results]),
        predicted=_majority([result.predicted or [] for result in results], len(answers)),
        off_language=float(outside.mean()),
        unexplored=float(unexplored.mean()),
        stopped=max((result.stopped for result in results), key=STOPS.index, default="exhausted"),
        levels=levels or None,
    )


def width(result: Result) -> float:
    """The widest interval of any row and estimator: upper − lower."""
    return max((float((one.upper - one.lower).max()) for one in result.estimates.values()), default=0.0)


def _values(answers: Sequence[SampledAnswer], name: str, bound: str, rows: int) -> Floats:
    """(passages, rows): this bound of each passage's estimates."""
    nothing = np.zeros(rows)
    return np.array([nothing if one.result is None else getattr(one.result.estimates[name], bound) for one in answers])


def _shares_of_scale(answers: Sequence[SampledAnswer], estimator: str, bound: str, scale: Scale) -> Floats:
    """(passages, 1): this bound of each passage's expected value, as a share (0–1) of the way from the lowest to the
    highest value. Without an answer it is the lowest, as in `expected_values`."""
    values = []
    for answer in answers:
        entries: list[dict[str, Any]] = [dict(one) for one in (answer.result.levels if answer.result else None) or []]
        found = (one[bound] for one in entries if (one["name"], one["estimator"]) == (scale.name, estimator))
        values.append([(next(found, scale.lowest) - scale.lowest) / scale.steps])
    return np.array(values)


def _most_common(answers: Sequence[str]) -> str:
    """The greedy answer after most passages; of equally frequent ones the first."""
    return Counter(answers).most_common(1)[0][0] if answers else ""


def _majority(predicted: Sequence[Sequence[str]], passages: int) -> list[str]:
    """The labels that the greedy answers after more than half of all passages name, in the order of the guard."""
    counts = Counter(label for labels in predicted for label in labels)
    return [label for label, count in counts.items() if 2 * count > passages]

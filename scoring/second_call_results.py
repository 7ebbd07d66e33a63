"""Combines the results of a record's two calls, for guards with a second call.

Let A be the row after which the second call is made. A row R of the first call has the first call's estimates. Of a row
R of the second call, whose prompt does not depend on how the first answer was worded:

    marginal, marginal_in_language, marginal_constrained
                             P(A) · P(R), each by the same estimator in its own call: the probability that the first
                             answer completes A and the second one completes R
    greedy                   1 if the first greedy answer completes A and the second one R
    conditional              that of R along the second greedy answer, if the first one completes A, else 0
    joint                    joint of A along the first greedy answer · joint of R along the second one
    …_constrained            the same along the constrained greedy answers
    max_over_steps           the maximum over the steps of the second greedy answer, if the first one completes A, else
                             0: at a step of the first answer R cannot be the next row
    monte_carlo              the share of n pairs of sampled answers of which the first completes A and the second R

Bounds multiply: each factor is certified to lie within its own. Where the second call is not made, because no estimator
could give its rows more than the tolerance, P(R) lies in [0, 1].

A union of categories that belong to both calls has only bounds: at least the larger of its two parts, at most their
sum (Fréchet)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from marginalia.scoring.covered_estimates import labels_in, of_labels
from marginalia.scoring.guard import Guard
from marginalia.scoring.language.token_language import Floats
from marginalia.scoring.marginal.answer_search import MARGINALS
from marginalia.scoring.marginal.baselines import SampledEstimates, share_of
from marginalia.scoring.marginal.estimators import LabelEstimates
from marginalia.scoring.per_label_results import of_all_calls
from marginalia.scoring.scored_record import LevelEntry, Result
from marginalia.scoring.second_call import SecondCallRows

FIRST, SECOND = "first", "second"  # the names of the calls
GREEDY = "greedy"  # is always computed in both calls


def second_call_matters(first: Result, rows: SecondCallRows, tolerance: float) -> bool:
    """Whether an estimator could give a row of the second call more than the tolerance."""
    for name, estimates in first.estimates.items():
        if isinstance(estimates, SampledEstimates):
            if estimates.completed[:, rows.after].any():
                return True
        elif _after(first.estimates, name, rows.after)[2] > tolerance:
            return True
    return False


def combine_two(record_id: str, calls: Mapping[str, Result], guard: Guard, estimators: Sequence[str]) -> Result:
    """One result from those of the first call and, if it was made, the second. The record fails when a call does."""
    together = of_all_calls(record_id, calls)
    if together.error is not None:
        return together
    assert guard.second is not None
    tables = {name: _table(name, calls, guard.second) for name in {*estimators, GREEDY}}
    completed = set(np.flatnonzero(tables[GREEDY].probability).tolist())
    predicted = [label for row, label in enumerate(guard.labels) if row in completed]
    if (covered := guard.covered) is not None:
        predicted = labels_in(completed, covered)
        tables = {name: of_labels(table, covered) for name, table in tables.items()}
    estimates = {name: tables[name] for name in estimators}
    return replace(together, estimates=estimates, predicted=predicted, levels=_levels(calls, guard.second, estimators))


def _levels(calls: Mapping[str, Result], rows: SecondCallRows, estimators: Sequence[str]) -> list[LevelEntry] | None:
    """The expected levels and integers of both calls. Where there is no second answer, its levels have their lowest
    values: the expectation is lowest + P(A) · (expectation in the second call − lowest)."""
    entries = list(calls[FIRST].levels or ())
    second = (
        {(level["name"], level["estimator"]): level for level in (calls[SECOND].levels or ())}
        if SECOND in calls
        else {}
    )
    for scale in rows.second.scales:
        for name in (name for name in MARGINALS if name in estimators):
            after = _after(calls[FIRST].estimates, name, rows.after)
            found = second.get((scale.name, name))
            values = (
                (0.0, 0.0, float(scale.steps))
                if found is None
                else tuple(found[part] - scale.lowest for part in ("expected", "lower", "upper"))
            )
            expected, lower, upper = (
                scale.lowest + factor * value for factor, value in zip(after, values, strict=True)
            )
            entries.append(LevelEntry(name=scale.name, estimator=name, expected=expected, lower=lower, upper=upper))
    return entries or None


def _table(name: str, calls: Mapping[str, Result], rows: SecondCallRows) -> LabelEstimates:
    """The estimates of all rows for the estimator `name`."""
    in_first, in_second = np.array(rows.in_first), np.array(rows.in_second)
    first = calls[FIRST].estimates[name]
    second = calls[SECOND].estimates[name] if SECOND in calls else None
    own = [_of_rows(getattr(first, part), rows) for part in ("probability", "lower", "upper")]
    after = _after(calls[FIRST].estimates, name, rows.after)
    if isinstance(first, SampledEstimates):
        pairs = _pairs(first, second, rows)
        further = [pairs.probability, pairs.lower, pairs.upper]
    elif second is None:
        further = [np.full(len(in_first), value) for value in (0.0, 0.0, after[2])]
    else:
        values = second.probability, second.lower, second.upper
        further = [factor * value[: len(in_first)] for factor, value in zip(after, values, strict=True)]
    probability, lower, upper = (np.where(in_second, *pair) for pair in zip(further, own, strict=True))
    mixed = in_first & in_second
    if mixed.any():
        certain = np.maximum(own[0], further[0]) if name == GREEDY else np.full(len(mixed), np.nan)
        probability = np.where(mixed, certain, probability)
        lower = np.where(mixed, np.maximum(own[1], further[1]), lower)
        most = np.maximum(own[2], further[2]) if name == GREEDY else np.minimum(own[2] + further[2], 1.0)
        upper = np.where(mixed, most, upper)
    return LabelEstimates(probability, lower, upper)


def _of_rows(values: Floats, rows: SecondCallRows) -> Floats:
    """The first call's values of the guard's rows. With `categories` its language has one more row, that of `after`."""
    count = len(rows.in_first)
    if rows.first.verdict == count - 1:
        return values[:count]
    return np.append(values[: count - 1], values[rows.first.verdict])


def _after(estimates: Mapping[str, LabelEstimates], name: str, row: int) -> tuple[float, float, float]:
    """What the rows of the second call are multiplied with, as (probability, lower, upper)."""
    along = GREEDY if name == "max_over_steps" else name
    found = tuple(float(getattr(estimates[along], part)[row]) for part in ("probability", "lower", "upper"))
    if name.startswith("conditional"):  # only whether the greedy answer completes the row
        found = tuple(float(value > 0) for value in found)
    return found[0], found[1], found[2]


def _pairs(first: SampledEstimates, second: LabelEstimates | None, rows: SecondCallRows) -> SampledEstimates:
    """The share of the pairs of samples with each row of the second call."""
    led: npt.NDArray[np.bool_] = first.completed[:, [rows.after]]
    if not isinstance(second, SampledEstimates):
        return share_of(np.zeros((len(led), len(rows.in_first)), dtype=bool))
    return share_of(led & second.completed[:, : len(rows.in_first)])

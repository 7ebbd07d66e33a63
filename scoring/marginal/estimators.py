"""The estimators that are computed from one finished search (docs/numbers.md has the table of all).

The marginals are P(row) with the bounds of `marginalia.scoring.marginal.bounds`. `conditional` and `joint` follow the
greedy answer ŷ = (y₁, y₂, …) only. Let row ℓ be completed there by the k-th decision, whose last token (without its
delimiter) is y_e(k):

    conditional(ℓ) = Π P(y_t | prompt, y₁ … y_{t−1}) over e(k−1) < t ≤ e(k)
    joint(ℓ)       = Π conditional of the decisions 1 … k, which begin with the verdict's

Rows that ŷ does not complete have 0. `greedy` is 1 for the rows that ŷ completes. Names that end in `_constrained`
follow the constrained greedy answer with renormalised probabilities. In arXiv 2511.22312 conditional, joint and
marginal are called token probability, and marginal probability at a fixed place and at any place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from marginalia.scoring.language.answer_language import AnswerLanguage, Scale, State
from marginalia.scoring.language.token_language import Floats, TokenLanguage
from marginalia.scoring.marginal.answer_search import CONSTRAINED, IN_LANGUAGE, RAW, Search, Step
from marginalia.scoring.marginal.bounds import point_in
from marginalia.scoring.marginal.spread_bounds import spread_bounds


@dataclass(frozen=True)
class LabelEstimates:
    """One estimator's values for one record: vectors over rows, 0 ≤ lower ≤ probability ≤ upper ≤ 1."""

    probability: Floats
    lower: Floats
    upper: Floats


@dataclass(frozen=True)
class Decision:
    """A row that a greedy answer completed.

    conditional: the product of the token probabilities from the end of the previous decision through the row's last
    token. joint: the product of all conditionals so far. highest: (conditional, joint) with the steps' highest possible
    probabilities. spread: by how much (nats) the logarithms of (conditional, joint) may be off."""

    row: int
    conditional: float
    joint: float
    highest: tuple[float, float]
    spread: tuple[float, float] = (0.0, 0.0)


def estimate(search: Search, estimators: Sequence[str]) -> dict[str, LabelEstimates]:
    """The requested estimators (names of ESTIMATOR_NAMES) of a finished search."""
    rows = search.language.language.rows
    estimates: dict[str, LabelEstimates] = {}
    bounds = {
        RAW: search.raw.marginal,
        IN_LANGUAGE: search.raw.in_language,
        CONSTRAINED: search.constrained.constrained,
    }
    wider = spread_bounds(search) if search.spread > 0 else {}
    raw = decisions(search.greedy, search.language)
    constrained = decisions(search.greedy_constrained, search.language)
    for name in estimators:
        if name in bounds:
            estimates[name] = _bounded(*bounds[name](), wider[name]() if wider else None)
            continue
        greedy_decisions = constrained if name.endswith("_constrained") else raw
        values, spread = np.zeros(rows), np.zeros(rows)
        # an answer that could not be followed to its end may have any other row
        highest = np.ones(rows) if name.endswith("_constrained") and search.constrained_cut else np.zeros(rows)
        for decision in greedy_decisions:
            values[decision.row] = 1.0 if name == "greedy" else getattr(decision, name.removesuffix("_constrained"))
            highest[decision.row] = 1.0 if name == "greedy" else decision.highest[name.startswith("joint")]
            spread[decision.row] = 0.0 if name == "greedy" else decision.spread[name.startswith("joint")]
        estimates[name] = _bounded(values, highest, (values * np.exp(-spread), highest * np.exp(spread)))
    return estimates


def expected_values(rows: LabelEstimates, language: AnswerLanguage) -> list[tuple[Scale, float, float, float]]:
    """(scale, expected value, lower, upper) of each ordered answer, from a marginal's estimates of all rows.

    The expected value is lowest + Σ_k P(value ≥ lowest + k), over the hidden rows, and its bounds are the sums of
    theirs. For `marginal`, an answer that leaves the language before its value is complete counts with the lowest
    value."""
    values, start = [], language.verdict + 1
    for scale in language.scales:
        steps = slice(start, start + scale.steps)
        start += scale.steps
        lower, upper = (scale.lowest + float(bound[steps].sum()) for bound in (rows.lower, rows.upper))
        expected = scale.lowest + float(rows.probability[steps].sum())
        values.append((scale, min(max(expected, lower), upper), lower, upper))
    return values


def without_hidden_rows(rows: LabelEstimates, language: AnswerLanguage) -> LabelEstimates:
    """The estimates of the labels and the verdict alone."""
    if not language.hidden:
        return rows
    stop = language.verdict + 1
    return LabelEstimates(rows.probability[:stop], rows.lower[:stop], rows.upper[:stop])


def _bounded(lower: Floats, upper: Floats, wider: tuple[Floats, Floats] | None = None) -> LabelEstimates:
    """The point estimate of [lower, upper], with these bounds, or with the `wider` ones if given."""
    lower, upper = np.clip(lower, 0.0, 1.0), np.clip(upper, 0.0, 1.0)
    upper = np.maximum(lower, upper)
    point = point_in(lower, upper)
    if wider is None:
        return LabelEstimates(point, lower, upper)
    return LabelEstimates(point, np.clip(wider[0], 0.0, point), np.clip(wider[1], point, 1.0))


def decisions(steps: Sequence[Step], tokens: TokenLanguage) -> list[Decision]:
    """The rows that a greedy answer completed while it was in the language, in the order of their last symbols.

    A row that is a union of codes is completed by the first of them."""
    text: list[int] = []
    step_of_symbol: list[int] = []  # for each symbol of the text, the step that generated it
    state: State | None = tokens.language.start
    ended = False
    for index, step in enumerate(steps):
        if step.ends:
            ended = state is not None and state.accepted is not None
            break
        piece = tokens.symbols.get(step.token, b"")
        for symbol in piece:
            state = state.step(symbol) if state is not None else None
        if state is None or not piece:
            break  # what a token completes on its way out of the language is not part of the answer
        text += piece
        step_of_symbol += [index] * len(piece)
    by_code = _products(steps, step_of_symbol, tokens.language.decided(text, ended=ended))
    first: dict[int, Decision] = {}
    for decision in by_code:
        for row in tokens.language.rows_of(decision.row):
            first.setdefault(row, replace(decision, row=row))
    return list(first.values())


def _products(steps: Sequence[Step], step_of_symbol: list[int], ends: dict[int, int]) -> list[Decision]:
    """The decision on each code (`row` is its number), from the offset at which its code or word ends."""
    decided: list[Decision] = []
    joint, highest_joint, spread_joint, start = 1.0, 1.0, 0.0, 0
    last_end = -1
    for row, end in sorted(ends.items(), key=lambda item: item[1]):
        if end == last_end:  # two rows that one word completes share its decision
            decided.append(replace(decided[-1], row=row))
            continue
        last_end = end
        stop = step_of_symbol[end - 1] + 1
        own_steps = steps[start:stop]
        conditional = float(np.prod([step.probability for step in own_steps]))
        highest = float(np.prod([step.probability if step.highest is None else step.highest for step in own_steps]))
        spread = sum(step.spread for step in own_steps)
        joint *= conditional
        highest_joint *= highest
        spread_joint += spread
        decided.append(Decision(row, conditional, joint, (highest, highest_joint), (spread, spread_joint)))
        start = max(start, stop)
    return decided

"""Every estimator of SCORING.md's table, read from one finished search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from marginalia.scoring.language.answer_language import State
from marginalia.scoring.language.token_language import Floats, TokenLanguage
from marginalia.scoring.marginal.answer_search import CONSTRAINED, IN_LANGUAGE, RAW, Search, Step
from marginalia.scoring.marginal.bounds import point_in
from marginalia.scoring.marginal.spread_bounds import spread_bounds


@dataclass(frozen=True)
class LabelEstimates:
    """One estimator for one record: vectors over rows, 0 ≤ lower ≤ probability ≤ upper ≤ 1."""

    probability: Floats
    lower: Floats
    upper: Floats


@dataclass(frozen=True)
class Decision:
    """A row that a greedy answer completed. `conditional`: product of the token probabilities since the previous
    decision, through the row's last token; `joint`: product of all conditionals so far. `highest`: both again, at the
    most that the steps' probabilities may be. `spread`: by how much (nats) both may be off."""

    row: int
    conditional: float
    joint: float
    highest: tuple[float, float]
    spread: tuple[float, float] = (0.0, 0.0)


def estimate(search: Search, estimators: Sequence[str]) -> dict[str, LabelEstimates]:
    """The requested estimators of a finished search."""
    rows = search.language.language.rows
    found: dict[str, LabelEstimates] = {}
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
            found[name] = _bounded(*bounds[name](), wider[name]() if wider else None)
            continue
        path = constrained if name.endswith("_constrained") else raw
        values, spread = np.zeros(rows), np.zeros(rows)
        # an answer that could not be followed to its end may hold any other row
        highest = np.ones(rows) if name.endswith("_constrained") and search.constrained_cut else np.zeros(rows)
        for decision in path:
            values[decision.row] = 1.0 if name == "greedy" else getattr(decision, name.removesuffix("_constrained"))
            highest[decision.row] = 1.0 if name == "greedy" else decision.highest[name.startswith("joint")]
            spread[decision.row] = 0.0 if name == "greedy" else decision.spread[name.startswith("joint")]
        found[name] = _bounded(values, highest, (values * np.exp(-spread), highest * np.exp(spread)))
    return found


def _bounded(lower: Floats, upper: Floats, wider: tuple[Floats, Floats] | None = None) -> LabelEstimates:
    """`wider`: the bounds to report; the estimate between them is that of the narrower ones."""
    lower, upper = np.clip(lower, 0.0, 1.0), np.clip(upper, 0.0, 1.0)
    upper = np.maximum(lower, upper)
    point = point_in(lower, upper)
    if wider is None:
        return LabelEstimates(point, lower, upper)
    return LabelEstimates(point, np.clip(wider[0], 0.0, point), np.clip(wider[1], point, 1.0))


def decisions(steps: Sequence[Step], tokens: TokenLanguage) -> list[Decision]:
    """The rows that a greedy answer completed while it was inside the language, in order of their last byte."""
    text = b""
    last_step: list[int] = []  # for each byte of the text, the step that generated it
    state: State | None = tokens.language.start
    ended = False
    for index, step in enumerate(steps):
        if step.ends:
            ended = state is not None and state.accepted is not None
            break
        piece = tokens.token_bytes.get(step.token, b"")
        for byte in piece:
            state = state.step(byte) if state is not None else None
        if state is None or not piece:
            break  # the token left the language: what it completed on the way is not part of the answer
        text += piece
        last_step += [index] * len(piece)
    return _products(steps, last_step, tokens.language.decided(text, ended=ended))


def _products(steps: Sequence[Step], last_step: list[int], ends: dict[int, int]) -> list[Decision]:
    found: list[Decision] = []
    joint, highest_joint, spread_joint, start = 1.0, 1.0, 0.0, 0
    last_end = -1
    for row, end in sorted(ends.items(), key=lambda item: item[1]):
        if end == last_end:  # two rows that one word completes share its decision
            found.append(replace(found[-1], row=row))
            continue
        last_end = end
        stop = last_step[end - 1] + 1
        taken = steps[start:stop]
        conditional = float(np.prod([step.probability for step in taken]))
        highest = float(np.prod([step.probability if step.highest is None else step.highest for step in taken]))
        spread = sum(step.spread for step in taken)
        joint *= conditional
        highest_joint *= highest
        spread_joint += spread
        found.append(Decision(row, conditional, joint, (highest, highest_joint), (spread, spread_joint)))
        start = max(start, stop)
    return found

"""A model without weights that answers a guard's two calls differently, and the enumeration of both calls."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from marginalia.scoring.marginal.answer_search import NextTokens, Node
from marginalia.scoring.marginal.model_protocol import NextMoves
from tests.scoring.enumeration import Enumeration
from tests.scoring.hashed import Floats, HashedModel

SECOND = "Which?"  # in every prompt of the second call
NAMES = ("greedy", "conditional", "joint")


@dataclass
class TwoFaced(HashedModel):
    """Asks `other` where the prompt contains SECOND. `calls`: how many prompts of the first and the second call."""

    other: HashedModel | None = None

    def __post_init__(self) -> None:
        self.calls = [0, 0]

    def source(self) -> Any:
        return _Source(self)


@dataclass
class _Source:
    model: TwoFaced
    shared_tokens = 0
    min_records = 1
    batch_invariant = True

    def add_shared_start(self, ids: Sequence[int]) -> None:
        pass

    def open(self, batch_rows: int, longest: int, tokens: NextMoves) -> _Batch:
        return _Batch(self.model, tokens, {})


@dataclass
class _Batch:
    model: TwoFaced
    tokens: NextMoves
    asked: dict[int, HashedModel]

    def join(self, batch_row: int, prompt: list[int], *, continues: bool = False) -> None:
        is_second = SECOND in self.model.tokenizer.decode(prompt)
        assert continues == is_second
        self.model.calls[is_second] += 1
        other = self.model.other
        self.asked[batch_row] = other if is_second and other is not None else self.model

    def next_tokens(self, nodes: Sequence[tuple[int, Node]]) -> list[NextTokens]:
        result = []
        for row, node in nodes:
            values = self.asked[row].log_probabilities(node.path())
            allowed = values[self.tokens.moves(node.state).ids] if node.state is not None else values[:0]
            top = int(values.argmax())
            result.append(NextTokens(allowed, top, float(values[top])))
        return result


@dataclass
class TwoEnumerations:
    """The estimators of both calls, from the enumeration of the answers to each. `after`: the row of the first that
    leads to the second; `of_second`: the rows of the second call (the enumerations have all rows in the same order)."""

    first: Enumeration
    second: Enumeration
    after: int
    of_second: Sequence[int]

    def marginals(self) -> dict[str, Floats]:
        first, second = self.first.run(), self.second.run()
        return {
            name: self._joined(first[name], second[name], first[name][self.after]) for name in first if name != "off"
        }  # type: ignore[arg-type,index]

    def off(self) -> float:
        return max(float(self.first.run()["off"]), float(self.second.run()["off"]))

    def along(self, *, constrained: bool) -> list[dict[str, Floats]]:
        """greedy, conditional and joint, for each pair of readings that explain the greedy answers."""
        found = []
        for one, other in itertools.product(
            *(call.along(constrained=constrained) for call in (self.first, self.second))
        ):
            led = one["greedy"][self.after]
            factors = {"greedy": led, "conditional": led, "joint": one["joint"][self.after]}
            found.append({name: self._joined(one[name], other[name], factors[name]) for name in NAMES})
        return found

    def over_steps(self) -> Floats:
        led = self.first.along(constrained=False)[0]["greedy"][self.after]
        return self._joined(self.first.over_steps(), self.second.over_steps(), led)

    def _joined(self, first: Floats, second: Floats, factor: float) -> Floats:
        rows = np.array(first, dtype=float)
        rows[list(self.of_second)] = factor * second[list(self.of_second)]
        return rows

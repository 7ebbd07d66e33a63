"""What others do with a guard's answers, beside the marginals: the maximum over label steps, and sampling.

Both run after a record's search is over and on its tree: prefixes that the search has evaluated cost nothing again.
They are driven like the search itself, by `wanted` and `tell`, and change nothing in its bounds."""

from __future__ import annotations

import hashlib
import heapq
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

import numpy as np
import numpy.typing as npt

from marginalia.scoring.language.token_language import Floats
from marginalia.scoring.marginal.answer_search import CRUMB, NextTokens, Node, Search
from marginalia.scoring.marginal.bounds import point_in, row_vector
from marginalia.scoring.marginal.estimators import LabelEstimates

CONFIDENCE = 1.959963984540054  # standard normal quantile: intervals of 95 %


class Baseline(Protocol):
    """Asks for prefixes in rounds, until none is wanted; then `estimate` tells."""

    def wanted(self) -> list[Node]: ...

    def tell(self, node: Node, answer: NextTokens) -> None: ...

    def estimate(self) -> LabelEstimates: ...


@dataclass
class _Step:
    """A place of the greedy answer where the next row is decided. Vectors are over rows, given that place."""

    start: Node
    done: Floats  # 0/1: complete before
    settled: Floats
    open_could: Floats
    queue: list[tuple[float, int, Node, int]] = field(default_factory=list)  # −probability, tie-break, parent, child


class MaxOverSteps:
    """[EMNLP25] (Ma et al., arXiv 2505.17510): a label's largest probability at any label step of the greedy answer.

    A step begins at the root and wherever the greedy answer has completed a row: after the verdict, and after each
    label's separator. A label's probability there is that it is the next row to be completed: its code in full, by any
    tokenisation, and its separator or end after it. The search from each step stops when the bounds of every label are
    within `tolerance`, or at `node_budget` further prefixes for all steps together."""

    def __init__(self, search: Search, *, tolerance: float, node_budget: int = 512) -> None:
        self._search = search
        self._tolerance = tolerance
        self._budget = node_budget
        self._rows = search.language.language.rows
        self._ticket = count()
        self._asked: dict[int, tuple[_Step, float]] = {}  # by id of the node: its step, its probability there
        self.nodes = 0
        self.steps = [self._step(node) for node in greedy_nodes(search) if node.moves is not None]

    def wanted(self) -> list[Node]:
        chosen: list[Node] = []
        for step in self.steps:
            while self._gap(step) > self._tolerance + CRUMB and step.queue and self._budget > 0:
                probability, _, parent, index = heapq.heappop(step.queue)
                node = child(parent, index)
                self._move(step, -probability, node, -1.0)
                if node.moves is not None:  # the search has been here
                    self._expand(step, node, -probability)
                    continue
                self._asked[id(node)] = (step, -probability)
                self._budget -= 1
                chosen.append(node)
        for node in chosen:  # what is asked for is not settled yet
            step, probability = self._asked[id(node)]
            self._move(step, probability, node, 1.0)
        return chosen

    def tell(self, node: Node, answer: NextTokens) -> None:
        step, probability = self._asked.pop(id(node))
        self.nodes += 1
        note(self._search, node, answer)
        self._move(step, probability, node, -1.0)
        self._expand(step, node, probability)

    def estimate(self) -> LabelEstimates:
        """The largest of the steps; lower and upper are certified as the search's bounds are."""
        lower = np.max([step.settled for step in self.steps], axis=0)
        upper = np.max([step.settled + np.maximum(step.open_could, 0.0) for step in self.steps], axis=0)
        lower = np.clip(lower, 0.0, 1.0)
        upper = np.clip(upper, lower, 1.0)
        return LabelEstimates(point_in(lower, upper), lower, upper)

    def _step(self, node: Node) -> _Step:
        assert node.state is not None
        none = np.zeros(self._rows)
        step = _Step(node, row_vector(node.state.done, self._rows), none.copy(), none.copy())
        self._expand(step, node, 1.0)
        return step

    def _gap(self, step: _Step) -> float:
        return float(step.open_could.max())

    def _move(self, step: _Step, probability: float, node: Node, sign: float) -> None:
        assert node.state is not None
        step.open_could += sign * probability * row_vector(node.state.could, self._rows)

    def _expand(self, step: _Step, node: Node, probability: float) -> None:
        moves, shares = node.moves, conditional(node)
        assert moves is not None
        new = moves.done * (1.0 - step.done)
        decided = new.any(axis=1)
        step.settled += probability * (shares[decided] @ new[decided])
        for index in np.flatnonzero(~decided & moves.could.any(axis=1) & (shares > 0)).tolist():
            value = probability * float(shares[index])
            step.open_could += value * moves.could[index]
            heapq.heappush(step.queue, (-value, next(self._ticket), node, index))


class MonteCarlo:
    """The share of `samples` seeded answers that complete a row while inside the language, as `marginal` counts it.

    `lower` and `upper` are a Wilson interval of 95 %: chance, not certainty. An answer is drawn until it ends or leaves
    the language; what comes after that would change no row. Needs a source that tells all probabilities."""

    def __init__(self, search: Search, *, samples: int, rng: np.random.Generator) -> None:
        self._search = search
        self._rng = rng
        self._samples = samples
        rows = search.language.language.rows
        self.held = np.zeros((samples, rows), dtype=bool)
        self.nodes = 0
        self._at: dict[int, Node] = dict.fromkeys(range(samples), search.root)  # samples that are under way
        self._draws: npt.NDArray[np.float64] = np.empty(0)  # one for each sample, for the token under way

    def wanted(self) -> list[Node]:
        """Draws on as far as the tree is known."""
        while self._at:
            unknown = {id(node): node for node in self._at.values() if node.moves is None}
            if unknown:
                return list(unknown.values())
            self._draws = self._rng.random(self._samples)  # also for those that are over: the order changes nothing
            self._at = {sample: node for sample, here in self._at.items() if (node := self._draw(sample, here))}
        return []

    def tell(self, node: Node, answer: NextTokens) -> None:
        self.nodes += 1
        note(self._search, node, answer)

    def estimate(self) -> LabelEstimates:
        counts = self.held.sum(axis=0).astype(float)
        lower, upper = wilson(counts, self._samples)
        return LabelEstimates(counts / self._samples, lower, upper)

    def _draw(self, sample: int, node: Node) -> Node | None:
        moves = node.moves
        assert moves is not None and node.state is not None
        index = int(np.searchsorted(np.cumsum(conditional(node)), self._draws[sample], side="right"))
        if index >= len(moves.ids):  # it left the language
            self.held[sample] = row_vector(node.state.done, self.held.shape[1]) > 0
            return None
        if moves.ends[index]:
            self.held[sample] = moves.done[index] > 0
            return None
        return child(node, index)


def record_rng(seed: int, record_id: str) -> np.random.Generator:
    """The generator of one record's samples: the same whatever else is scored."""
    return np.random.default_rng([seed, int.from_bytes(hashlib.sha256(record_id.encode()).digest()[:8], "big")])


def wilson(counts: Floats, n: int) -> tuple[Floats, Floats]:
    """The Wilson score interval of each count of n, at 95 % (Wilson 1927). It holds the share itself."""
    share, spread = counts / n, CONFIDENCE**2 / n
    middle = (share + spread / 2) / (1 + spread)
    half = CONFIDENCE * np.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    return np.clip(np.minimum(middle - half, share), 0.0, 1.0), np.clip(np.maximum(middle + half, share), 0.0, 1.0)


def greedy_nodes(search: Search) -> list[Node]:
    """The prefixes of the greedy answer, as far as it is inside the language, where a row has just been completed; the
    root first."""
    found = [search.root]
    node = search.root
    for step in search.greedy:
        if step.ends or node.moves is None:
            break
        at = np.flatnonzero(node.moves.ids == step.token)
        if not at.size:
            break
        before, node = node.state, child(node, int(at[0]))
        assert before is not None and node.state is not None
        if node.state.done & ~before.done:
            found.append(node)
    return found


def child(parent: Node, index: int) -> Node:
    """The prefix after `parent`'s move `index`; the one that the search made, where it made one."""
    if index not in parent.children:
        assert parent.moves is not None and parent.masses is not None
        parent.children[index] = Node(
            int(parent.moves.ids[index]),
            parent,
            parent.depth + 1,
            parent.moves.states[index],
            float(parent.masses[index]),
            0.0,
        )
    return parent.children[index]


def note(search: Search, node: Node, answer: NextTokens) -> None:
    """Writes a model's answer into the node; the search's own sums stay as they are."""
    assert node.state is not None
    node.moves = search.language.moves(node.state)
    node.masses = node.mass * np.exp(answer.log_probabilities)


def conditional(node: Node) -> Floats:
    """The probabilities of an evaluated prefix's moves, given the prefix."""
    assert node.masses is not None
    return node.masses / node.mass if node.mass > 0 else np.zeros_like(node.masses)

"""Baselines that need forward passes of their own: the maximum over label steps, and sampling.

Both run after a record's search has finished, and extend its tree: a prefix that the search has evaluated is not
evaluated again. They are driven like the search, by `ask` and `tell`, and do not change its bounds."""

from __future__ import annotations

import hashlib
import heapq
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from marginalia.scoring.language.token_language import Floats, TokenLanguage
from marginalia.scoring.marginal.answer_search import ROUNDING, NextTokens, Node, Search
from marginalia.scoring.marginal.best_first import NARROW, WIDE
from marginalia.scoring.marginal.bounds import point_in, row_vector
from marginalia.scoring.marginal.estimators import LabelEstimates

CONFIDENCE = 1.959963984540054  # standard normal quantile for intervals of 95 %


class Baseline(Protocol):
    """An estimator that needs further prefixes, in rounds. `estimate` is valid once `ask` returns an empty list."""

    def ask(self) -> list[Node]:
        """The prefixes to evaluate next; empty when the baseline is done."""
        ...

    def tell(self, node: Node, answer: NextTokens) -> None:
        """Takes the model's next-token probabilities after `node`."""
        ...

    def estimate(self) -> LabelEstimates:
        """Probability and bounds of each row."""
        ...


class _Waiting(NamedTuple):
    """A child that is not expanded yet. It sorts by falling probability, then by path."""

    negative_probability: float  # −P(child | start of its step)
    parent: Node
    move: int  # index into the parent's moves
    step: int


@dataclass
class _StepBounds:
    """What is known of each label step after some prefixes have been expanded; arrays are (steps, rows).

    completed: (steps, codes and verdict), 1 for those that are complete before the step. settled: P(the row is the next
    one completed), over the expanded prefixes. open: mass of waiting prefixes that can still complete the row. budget:
    how many more prefixes that the search did not count may be expanded."""

    language: TokenLanguage
    completed: Floats
    settled: Floats
    open: Floats
    waiting: list[_Waiting]
    budget: int

    def copy(self) -> _StepBounds:
        return replace(self, settled=self.settled.copy(), open=self.open.copy(), waiting=self.waiting.copy())

    def largest(self) -> tuple[Floats, Floats]:
        """Bounds, over rows, of the maximum over the steps."""
        return self.settled.max(axis=0), (self.settled + np.maximum(self.open, 0.0)).max(axis=0)

    def next(self, tolerance: float) -> _Waiting | None:
        """The most probable waiting prefix that can still change the bounds; None when they are within `tolerance`."""
        lower, upper = self.largest()
        if (upper - lower).max() <= tolerance + ROUNDING:
            return None
        while self.waiting:
            first = self.waiting[0]
            above = self.settled[first.step] + self.open[first.step] > lower + ROUNDING
            if (self._could(first) * above).any():
                return first
            heapq.heappop(self.waiting)  # another step has at least as large probabilities of all its rows
        return None

    def take(self) -> _Waiting:
        """Takes the first waiting prefix, and its mass, out of what is open."""
        first = heapq.heappop(self.waiting)
        self.open[first.step] += first.negative_probability * self._could(first)
        return first

    def expand(self, step: int, node: Node, probability: float) -> None:
        """Adds the moves after an evaluated prefix whose probability, given the start of the step, is known."""
        shares = _next_probabilities(node)
        assert node.state is not None
        done, could = self.language.completed_codes(node.state)
        new_codes = done * (1.0 - self.completed[step])
        new, decided = self.language.language.rows_of_codes(new_codes), new_codes.any(axis=1)
        self.settled[step] += probability * (shares[decided] @ new[decided])
        for index in np.flatnonzero(~decided & could.any(axis=1) & (shares > 0)).tolist():
            mass = probability * float(shares[index])
            self.open[step] += mass * could[index]
            heapq.heappush(self.waiting, _Waiting(-mass, node, index, step))

    def _could(self, waiting: _Waiting) -> Floats:
        """(rows,) as 0/1: those of which an answer through the waiting prefix can still complete a code."""
        assert waiting.parent.state is not None
        could: Floats = self.language.completed_codes(waiting.parent.state)[1][waiting.move]
        return could


@dataclass(frozen=True)
class SampledEstimates(LabelEstimates):
    """Estimates from sampled answers. `completed`: (samples, rows), whether the sample has the row."""

    completed: npt.NDArray[np.bool_]


def share_of(completed: npt.NDArray[np.bool_]) -> SampledEstimates:
    """The share of the samples (samples, rows) that have each row, with its Wilson interval."""
    counts = completed.sum(axis=0).astype(float)
    lower, upper = wilson(counts, len(completed))
    return SampledEstimates(counts / len(completed), lower, upper, completed)


class MaxOverSteps:
    """[EMNLP25] (Ma et al., arXiv 2505.17510): a label's largest probability at any label step of the greedy answer.

    With ŷ the greedy answer, and T the prefixes of ŷ at which a label step begins (the empty one, and each at which ŷ
    has just completed a row: after the verdict, after each label's separator),

        max_over_steps(ℓ) = max over t in T of P(ℓ is the next row completed | prompt, ŷ up to t)

    where a row is completed by its code in full, in any tokenisation, and its separator or the end of the answer. Where
    rows are unions of codes, the steps are those of the codes: P(a code of the row is the next code completed).

    All steps share one order of expansion: the most probable prefix, given the start of its step, among those that can
    still change the bounds. `tolerance` and `node_budget` only decide where this order stops, so a finer tolerance or a
    larger budget never widens the bounds. It stops when the bounds of every row are within `tolerance`, or when
    `node_budget` prefixes count in addition to those that count in the search. As prefixes are evaluated many at a
    time, a few more than these may be evaluated when the budget ends the search."""

    def __init__(self, search: Search, *, tolerance: float, node_budget: int = 512) -> None:
        self._search = search
        self._tolerance = tolerance
        self.nodes = 0  # evaluated here, without those of the search
        self.steps = [node for node in _label_steps(search) if node.moves is not None]
        language = search.language.language
        states = [node.state.of_codes for node in self.steps if node.state is not None]
        completed = [row_vector(state.done, language.code_rows) for state in states]
        shape = (len(self.steps), language.rows)
        self._bounds = _StepBounds(
            search.language, np.array(completed), np.zeros(shape), np.zeros(shape), [], node_budget
        )
        for step, node in enumerate(self.steps):
            self._bounds.expand(step, node, 1.0)

    def ask(self) -> list[Node]:
        """The prefixes to evaluate next: those that the order reaches if each before them settles all its mass."""
        while (node := self._next(self._bounds)) is not None and node.moves is not None:
            self._advance(self._bounds, node)
        ahead = self._bounds.copy()
        chosen: list[Node] = []
        heaviest = 0.0
        while (node := self._next(ahead)) is not None:
            probability = -ahead.waiting[0].negative_probability
            heaviest = max(heaviest, probability)
            # if the budget binds, prefixes much lighter than the heaviest are unlikely to count
            if chosen and WIDE * len(chosen) > self._bounds.budget and probability * NARROW < heaviest:
                break
            if node.moves is None:
                chosen.append(node)
            self._advance(ahead, node)
        return chosen

    def tell(self, node: Node, answer: NextTokens) -> None:
        """Takes the model's next-token probabilities after `node`."""
        self.nodes += 1
        _set_moves(self._search, node, answer)

    def estimate(self) -> LabelEstimates:
        """The maximum over the steps, with bounds that are certified as the search's are."""
        lower, upper = self._bounds.largest()
        lower = np.clip(lower, 0.0, 1.0)
        upper = np.clip(upper, lower, 1.0)
        return LabelEstimates(point_in(lower, upper), lower, upper)

    def _next(self, bounds: _StepBounds) -> Node | None:
        """The prefix that comes next in the order; None when the tolerance or the budget ends it."""
        first = bounds.next(self._tolerance)
        if first is None:
            return None
        node = _child(first.parent, first.move)
        return node if bounds.budget > 0 or self._is_free(node) else None

    def _advance(self, bounds: _StepBounds, node: Node) -> None:
        """Counts the prefix that comes next; one that is not evaluated yet as if it settled all its mass."""
        first = bounds.take()
        bounds.budget -= not self._is_free(node)
        if node.moves is not None:
            bounds.expand(first.step, node, -first.negative_probability)

    def _is_free(self, node: Node) -> bool:
        """Whether the search counts the prefix. Which prefixes it merely evaluated depends on how they were batched."""
        return any(self._search.counts(node, constrained=constrained) for constrained in (False, True))


class MonteCarlo:
    """Monte Carlo estimate of `marginal`: the share of `samples` answers that complete a row while inside the language.

    With k of n samples, probability = k / n; `lower` and `upper` are a Wilson interval of 95 %, which is statistical
    and not certified. An answer is sampled until it ends or leaves the language: later tokens change no row. Needs a
    source that returns the probabilities of all tokens."""

    def __init__(self, search: Search, *, samples: int, rng: np.random.Generator) -> None:
        self._search = search
        self._rng = rng
        self._samples = samples
        rows = search.language.language.rows
        self.completed = np.zeros((samples, rows), dtype=bool)
        self.nodes = 0  # evaluated here, without those of the search
        self._unfinished: dict[int, Node] = dict.fromkeys(range(samples), search.root)  # sample → its prefix so far
        self._draws: npt.NDArray[np.float64] = np.empty(0)  # uniform in [0, 1), one per sample, for the next token

    def ask(self) -> list[Node]:
        """Samples as far as the tree is evaluated; then the prefixes that are needed to continue."""
        while self._unfinished:
            unevaluated = {id(node): node for node in self._unfinished.values() if node.moves is None}
            if unevaluated:
                return list(unevaluated.values())
            # finished samples draw too: so a sample's numbers do not depend on when others finish
            self._draws = self._rng.random(self._samples)
            drawn = {sample: self._draw(sample, node) for sample, node in self._unfinished.items()}
            self._unfinished = {sample: node for sample, node in drawn.items() if node is not None}
        return []

    def tell(self, node: Node, answer: NextTokens) -> None:
        """Takes the model's next-token probabilities after `node`."""
        self.nodes += 1
        _set_moves(self._search, node, answer)

    def estimate(self) -> SampledEstimates:
        """The share of samples with each row, and its Wilson interval."""
        return share_of(self.completed)

    def _draw(self, sample: int, node: Node) -> Node | None:
        """The sample's prefix after one more token; None when the answer has ended or left the language."""
        moves = node.moves
        assert moves is not None and node.state is not None
        index = int(np.searchsorted(np.cumsum(_next_probabilities(node)), self._draws[sample], side="right"))
        if index >= len(moves.ids):  # the token leaves the language
            self.completed[sample] = row_vector(node.state.done, self.completed.shape[1]) > 0
            return None
        if moves.ends[index]:
            self.completed[sample] = moves.done[index] > 0
            return None
        return _child(node, index)


def record_rng(seed: int, record_id: str) -> np.random.Generator:
    """The random generator for one record's samples: it depends on nothing but the seed and the record's id."""
    return np.random.default_rng([seed, int.from_bytes(hashlib.sha256(record_id.encode()).digest()[:8], "big")])


def wilson(counts: Floats, n: int) -> tuple[Floats, Floats]:
    """The 95 % Wilson score interval (Wilson 1927) of each count out of n, in 0–1; the share k/n lies inside it.

    With p = k/n and z = 1.96: (p + z²/2n ± z √(p(1 − p)/n + z²/4n²)) / (1 + z²/n)."""
    share, z2_n = counts / n, CONFIDENCE**2 / n
    middle = (share + z2_n / 2) / (1 + z2_n)
    half = CONFIDENCE * np.sqrt(share * (1 - share) / n + z2_n / (4 * n)) / (1 + z2_n)
    return np.clip(np.minimum(middle - half, share), 0.0, 1.0), np.clip(np.maximum(middle + half, share), 0.0, 1.0)


def _label_steps(search: Search) -> list[Node]:
    """The root, and the prefixes of the greedy answer at which it has just completed a row, inside the language."""
    starts = [search.root]
    node = search.root
    for step in search.greedy:
        if step.ends or node.moves is None:
            break
        matches = np.flatnonzero(node.moves.ids == step.token)
        if not matches.size:
            break
        before, node = node.state, _child(node, int(matches[0]))
        assert before is not None and node.state is not None
        if node.state.of_codes.done & ~before.of_codes.done:
            starts.append(node)
    return starts


def _child(parent: Node, index: int) -> Node:
    """The prefix after `parent`'s move `index`: the search's own node, if it made one."""
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


def _set_moves(search: Search, node: Node, answer: NextTokens) -> None:
    """Marks the node as evaluated; the search's sums stay as they are."""
    assert node.state is not None
    node.moves = search.language.moves(node.state)
    node.masses = node.mass * np.exp(answer.log_probabilities)


def _next_probabilities(node: Node) -> Floats:
    """The probabilities of an evaluated prefix's moves, given the prefix."""
    assert node.masses is not None
    return node.masses / node.mass if node.mass > 0 else np.zeros_like(node.masses)

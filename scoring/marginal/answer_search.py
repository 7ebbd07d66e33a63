"""The marginalisation itself: best-first search over the answers of one record, with bounds.

Every prefix of an answer is closed (it ended inside the language), off-language (it left), or open. The masses of the
three add to 1, so what is still open bounds every probability from above. Each prefix carries its raw mass (the
model's own probability) and its constrained mass (every step renormalised over the tokens that stay in the language).

The search asks for prefixes to be evaluated and is told their next-token log-probabilities; where these come from
(`marginalia.scoring.models`) is not its concern.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from itertools import count

import numpy as np
import numpy.typing as npt

from marginalia.schemas.errors import ModelError
from marginalia.scoring.language.answer_language import State
from marginalia.scoring.language.token_language import Floats, Moves, TokenLanguage
from marginalia.scoring.marginal.bounds import Masses, in_language_bounds, row_vector, without_rounding

RAW, IN_LANGUAGE, CONSTRAINED = "marginal", "marginal_in_language", "marginal_constrained"
MARGINALS = (RAW, IN_LANGUAGE, CONSTRAINED)
STRAYS = 0.1  # a model that has put more mass than this outside the language may not go the way that is forced
CRUMB = 1e-12  # rounding leaves this much where a mass was added and taken out again


@dataclass(frozen=True)
class Limits:
    """When a search stops. `marginals`: those whose bounds must come within `tolerance`. `node_budget`: prefixes
    evaluated at most, greedy answers excepted. `answer_tokens`: how long the greedy answer is followed once it has
    left the language. `constrained_greedy`: whether the constrained greedy answer is followed too."""

    marginals: tuple[str, ...] = MARGINALS
    tolerance: float = 1e-4
    node_budget: int = 256
    answer_tokens: int = 24
    constrained_greedy: bool = True


@dataclass(frozen=True)
class NextTokens:
    """What a model says of one prefix. `log_probabilities` (nats) of the ids in its state's moves, in their order, −inf
    where unknown; `top` and `top_log_probability` of the most probable token of the whole vocabulary, `top` −1 where
    the source does not tell which it is. `unseen`: the most mass that moves whose probability the source did not tell
    may have together, `unseen_top` the most that one of them may have (both 0 for a local model). `spread`: by how much
    (nats) each log-probability may be off, `stray`: by how much the mass outside the moves may be off beyond that."""

    log_probabilities: Floats
    top: int
    top_log_probability: float
    unseen: float = 0.0
    unseen_top: float = 0.0
    spread: float = 0.0
    stray: float = 0.0


@dataclass(eq=False, slots=True)
class Node:
    """A prefix. `state` is None once it has left the language: then it is followed for the greedy answer only."""

    token: int
    parent: Node | None
    depth: int  # tokens after the prompt
    state: State | None
    mass: float
    constrained: float
    slot: int = -1  # where a local model keeps the token's keys and values
    children: dict[int, Node] = field(default_factory=dict)  # those that were asked for, by index into `moves`
    moves: Moves | None = None
    masses: Floats | None = None  # of all children, raw
    constrained_masses: Floats | None = None
    priority: Floats | None = None
    order: npt.NDArray[np.intp] | None = None  # children by falling priority
    unseen: float = 0.0  # these three as the answer said
    spread: float = 0.0
    stray: float = 0.0

    def path(self) -> list[int]:
        """Token ids from the prompt's end to this node."""
        tokens: list[int] = []
        node: Node | None = self
        while node is not None and node.parent is not None:
            tokens.append(node.token)
            node = node.parent
        return tokens[::-1]


@dataclass(frozen=True)
class Step:
    """One step of a greedy answer: the token, its probability, and whether it ends the answer.

    Renormalised over moves of which some were not told, the probability is at least `probability` and at most
    `highest`. `spread`: by how much (nats) both may be off."""

    token: int
    probability: float
    ends: bool
    highest: float | None = None
    spread: float = 0.0


class Search:
    """The search for one record. Call `wanted` for prefixes to evaluate and `tell` for each, until none is wanted.

    After that `stopped` says why: `tolerance`, `node_budget`, or `exhausted` (nothing left whose evaluation could bring
    the bounds closer by the tolerance: the rest is mass that the source does not tell, or there is none).
    `constrained_cut`: the constrained greedy answer ends where its next token was not told."""

    def __init__(self, language: TokenLanguage, limits: Limits) -> None:
        self.language = language
        self.limits = limits
        self.raw = Masses(language.language.rows)
        self.constrained = Masses(language.language.rows)
        # the parts of `open` that no evaluation can settle
        self.raw_untold = Masses(language.language.rows)
        self.constrained_untold = Masses(language.language.rows)
        self.constrained_cut = False
        self.spread = 0.0  # the largest of all answers
        self.nodes = 0
        self.stopped = ""
        self.root = Node(-1, None, 0, language.language.start, 1.0, 1.0)
        self.greedy: list[Step] = []
        self.greedy_constrained: list[Step] = []
        self._greedy_at: Node | None = self.root
        self._constrained_at: Node | None = self.root if limits.constrained_greedy else None
        self._queue: list[tuple[float, int, Node, int]] = []  # −priority, tie-break, parent, rank among its children
        self._ticket = count()

    def wanted(self) -> list[Node]:
        """The prefixes to evaluate next, in one go; empty when the search is over.

        First those of the greedy answers, then, by falling mass, only as many as would be needed if all their mass
        were settled at once: none of these can be spared, so going wide costs no prefix. Where the model keeps to its
        language, each is followed by those after it that the language forces: they would be wanted next."""
        if self.root.moves is None:
            return [self.root]
        return self._with_ahead(self._choose())

    def _choose(self) -> list[Node]:
        chosen = list({id(node): node for node in (self._greedy_at, self._constrained_at) if node is not None}.values())
        rest = _Remainder(self, chosen)
        budget = self.limits.node_budget - self.nodes - len(chosen)
        while not rest.within(self.limits.tolerance):
            if rest.spent(self.limits.tolerance):
                self.stopped = "exhausted"
                return chosen
            if budget <= 0:
                self.stopped = "node_budget"
                return chosen
            node = self._pop()
            if node is None:
                self.stopped = "exhausted"
                return chosen
            chosen.append(node)
            rest.settle(node)
            budget -= 1
        self.stopped = "tolerance"
        return chosen

    def _with_ahead(self, chosen: list[Node]) -> list[Node]:
        if self.raw.off > STRAYS:
            return chosen
        budget = self.limits.node_budget - self.nodes - len(chosen)
        longer: list[Node] = []
        for node in chosen:
            longer.append(node)
            while budget > 0 and node.state is not None and (index := self.language.forced(node.state)) is not None:
                node = self._ahead(node, index)
                longer.append(node)
                budget -= 1
        return longer

    def _ahead(self, parent: Node, index: int) -> Node:
        """A child of a prefix that has not been told: the mass of both comes with the parent's answer."""
        assert parent.state is not None
        moves = self.language.moves(parent.state)
        ahead = Node(int(moves.ids[index]), parent, parent.depth + 1, moves.states[index], 0.0, 0.0)
        parent.children[index] = ahead
        return ahead

    def tell(self, node: Node, answer: NextTokens) -> None:
        """What the model says of `node`, its parent before it. Raises ModelError when these are no probabilities."""
        if np.isnan(answer.log_probabilities).any() or np.isnan(answer.top_log_probability):
            raise ModelError("the model answered NaN", hint="try dtype float32")
        if answer.top_log_probability == -np.inf:
            raise ModelError("the model gave no token any probability", hint="try dtype float32")
        self.nodes += 1
        self.spread = max(self.spread, answer.spread)
        if node.state is not None:
            self._expand(node, node.state, answer)
        if node is self._greedy_at:
            self._greedy_at = self._follow_greedy(node, answer)
        if node is self._constrained_at:
            self._constrained_at = self._follow_constrained(node, answer)

    def _expand(self, node: Node, state: State, answer: NextTokens) -> None:
        moves = self.language.moves(state)
        if node.parent is not None:  # the root was never counted as open
            self.raw.add_open(-node.mass, state)
            self.constrained.add_open(-node.constrained, state)
        masses = node.mass * np.exp(answer.log_probabilities)
        unseen = node.mass * answer.unseen
        self.raw.add_moves(masses, moves)
        self.raw.add_off(max(node.mass - unseen - float(masses.sum()), 0.0), state)
        constrained, unseen_constrained = _renormalised(node.constrained, answer)
        self.constrained.add_moves(constrained, moves)
        for masses_of, untold, mass in (
            (self.raw, self.raw_untold, unseen),
            (self.constrained, self.constrained_untold, unseen_constrained),
        ):
            if mass > 0:  # what a source did not tell could be any move, for ever
                masses_of.add_open(mass, state)
                untold.add_open(mass, state)
        node.moves, node.masses, node.constrained_masses = moves, masses, constrained
        node.unseen, node.spread, node.stray = answer.unseen, answer.spread, answer.stray
        for index, ahead in node.children.items():
            ahead.mass, ahead.constrained = float(masses[index]), float(constrained[index])
        node.priority = np.where(moves.ends, 0.0, self._priority(masses, constrained))
        node.order = np.argsort(-node.priority, kind="stable")
        self._push(node, 0)

    def _priority(self, raw: Floats, constrained: Floats) -> Floats:
        if CONSTRAINED not in self.limits.marginals:
            return raw
        return constrained if self.limits.marginals == (CONSTRAINED,) else np.maximum(raw, constrained)

    def _push(self, parent: Node, rank: int) -> None:
        # only a parent's best waiting child is in the queue: most children are never reached
        assert parent.order is not None and parent.priority is not None
        if rank < len(parent.order) and (priority := float(parent.priority[parent.order[rank]])) > 0:
            heapq.heappush(self._queue, (-priority, next(self._ticket), parent, rank))

    def _pop(self) -> Node | None:
        while self._queue:
            _, _, parent, rank = heapq.heappop(self._queue)
            self._push(parent, rank + 1)
            assert parent.order is not None
            index = int(parent.order[rank])
            if index not in parent.children:
                return self._child(parent, index)
        return None

    def _child(self, parent: Node, index: int) -> Node:
        if index not in parent.children:
            assert parent.moves is not None and parent.masses is not None and parent.constrained_masses is not None
            parent.children[index] = Node(
                int(parent.moves.ids[index]),
                parent,
                parent.depth + 1,
                parent.moves.states[index],
                float(parent.masses[index]),
                float(parent.constrained_masses[index]),
            )
        return parent.children[index]

    def _follow_greedy(self, node: Node, answer: NextTokens) -> Node | None:
        if answer.top < 0:
            if node.state is None:
                return None  # the answer's text ends here; its labels were decided before
            raise ModelError(
                "the most probable token has a text that several tokens have, or none",
                hint="use a server that tells token ids",
            )
        ends = answer.top in self.language.end_ids
        probability = float(np.exp(answer.top_log_probability))
        self.greedy.append(Step(answer.top, probability, ends, spread=answer.spread))
        if ends:
            return None
        if node.moves is not None:
            found = np.flatnonzero(node.moves.ids == answer.top)
            if found.size:
                return self._child(node, int(found[0]))
        if len(self.greedy) >= self.limits.answer_tokens:
            return None
        return Node(answer.top, node, node.depth + 1, None, 0.0, 0.0)

    def _follow_constrained(self, node: Node, answer: NextTokens) -> Node | None:
        assert node.moves is not None and node.constrained_masses is not None
        found = answer.log_probabilities.max() if answer.log_probabilities.size else -np.inf
        if answer.unseen > 0 and not np.exp(found) >= answer.unseen_top:
            self.constrained_cut = True  # an untold token may be the best one
            return None
        if not node.constrained_masses.size or node.constrained_masses.max() <= 0:
            return None  # no token of this vocabulary continues the answer
        best = int(node.constrained_masses.argmax())
        probability = float(node.constrained_masses[best] / node.constrained)
        highest = float(node.constrained_masses[best] / node.constrained_masses.sum())
        ends = bool(node.moves.ends[best])
        self.greedy_constrained.append(
            Step(
                int(node.moves.ids[best]),
                probability,
                ends,
                highest if answer.unseen > 0 else None,
                2 * answer.spread,  # of the token and of those that it is renormalised over
            )
        )
        return None if ends else self._child(node, best)


def _renormalised(mass: float, answer: NextTokens) -> tuple[Floats, float]:
    """`mass` shared among the allowed tokens, and the part of it that may belong to tokens the source did not tell.

    The logarithms are shifted before they are raised: in a model far from its format all raw masses underflow."""
    allowed = answer.log_probabilities
    unseen = float(np.log(answer.unseen)) if answer.unseen > 0 else -np.inf
    highest = max(float(allowed.max()) if allowed.size else -np.inf, unseen)
    if highest == -np.inf:
        return np.zeros_like(allowed), mass
    shares = np.exp(allowed - highest)
    untold = float(np.exp(unseen - highest))
    total = float(shares.sum()) + untold
    return mass * shares / total, mass * untold / total


class _Remainder:
    """How wide the requested bounds would be if the chosen prefixes were settled entirely: the best case."""

    def __init__(self, search: Search, chosen: list[Node]) -> None:
        if IN_LANGUAGE in search.limits.marginals:
            search.raw = without_rounding(search.root, search.raw, search.raw_untold)
        self._search = search
        self._marginals = search.limits.marginals
        self._closed, self._closed_with = search.raw.closed, search.raw.closed_with
        self._rows = search.raw.closed_with.size
        self.could = search.raw.open_could.copy()
        self.done = search.raw.open_done.copy()
        self.without = search.raw.open_without.copy()
        self.undecided = search.constrained.open_undecided.copy()
        for node in chosen:
            self.settle(node)

    def settle(self, node: Node) -> None:
        if node.state is None:
            return
        self.could -= node.mass * row_vector(node.state.could, self._rows)
        self.undecided -= node.constrained * row_vector(node.state.undecided, self._rows)
        if IN_LANGUAGE in self._marginals:
            self.done -= node.mass * row_vector(node.state.done, self._rows)
            self.without -= node.mass * row_vector(node.state.without, self._rows)
            self._closed += node.mass

    def within(self, tolerance: float) -> bool:
        slack = tolerance + CRUMB
        if RAW in self._marginals and self.could.max() > slack:
            return False
        if CONSTRAINED in self._marginals and self.undecided.max() > slack:
            return False
        return IN_LANGUAGE not in self._marginals or self._in_language_gap() <= slack

    def spent(self, tolerance: float) -> bool:
        """Whether, untold mass apart, the bounds are within the tolerance: no prefix can bring them closer than so."""
        raw, constrained = self._search.raw_untold, self._search.constrained_untold
        if raw.open == 0 and constrained.open == 0:
            return False
        slack = tolerance + CRUMB
        if RAW in self._marginals and (self.could - raw.open_could).max() > slack:
            return False
        if CONSTRAINED in self._marginals and (self.undecided - constrained.open_undecided).max() > slack:
            return False
        return IN_LANGUAGE not in self._marginals or self._in_language_gap() - self._least_in_language_gap() <= slack

    def _least_in_language_gap(self) -> float:
        """The gap once all that can be settled is closed."""
        untold = self._search.raw_untold
        closed = self._search.raw.closed + max(self._search.raw.open - untold.open, 0.0)
        could = untold.open_done + untold.open_could
        lower, upper = in_language_bounds(self._closed_with, closed, could, untold.open_without)
        return float((upper - lower).max())

    def _in_language_gap(self) -> float:
        could = np.maximum(self.done + self.could, 0.0)
        lower, upper = in_language_bounds(self._closed_with, self._closed, could, np.maximum(self.without, 0.0))
        return float((upper - lower).max())

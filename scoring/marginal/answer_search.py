"""The marginalisation itself: best-first search over the answers of one record, with bounds.

Every prefix of an answer is closed (it ended inside the language), off-language (it left), or open. The masses of the
three add to 1, so what is still open bounds every probability from above. Each prefix carries its raw mass (the
model's own probability) and its constrained mass (every step renormalised over the tokens that stay in the language).

The search asks for prefixes to be evaluated and is told their next-token log-probabilities; where these come from
(`marginalia.scoring.models`) is not its concern.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from marginalia.schemas.errors import ModelError
from marginalia.scoring.language.answer_language import State
from marginalia.scoring.language.token_language import Floats, TokenLanguage
from marginalia.scoring.marginal.best_first import CONSTRAINED as CONSTRAINED
from marginalia.scoring.marginal.best_first import CRUMB as CRUMB
from marginalia.scoring.marginal.best_first import IN_LANGUAGE as IN_LANGUAGE
from marginalia.scoring.marginal.best_first import RAW as RAW
from marginalia.scoring.marginal.best_first import BestFirst
from marginalia.scoring.marginal.bounds import Masses
from marginalia.scoring.marginal.prefix_node import AnswerTree
from marginalia.scoring.marginal.prefix_node import Node as Node

MARGINALS = (RAW, IN_LANGUAGE, CONSTRAINED)
STRAYS = 0.1  # a model whose first token leaves the language with more mass than this may not go the way that is forced
STOPS = ("", "node_budget", "exhausted", "tolerance")


@dataclass(frozen=True)
class Limits:
    """When a search stops. `marginals`: those whose bounds must come within `tolerance`. `node_budget`: prefixes that
    count at most, the most probable ones and those of the greedy answers, which always count. `answer_tokens`: how long
    the greedy answer is followed once it has left the language. `constrained_greedy`: whether the constrained greedy
    answer is followed too."""

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
        self.constrained_cut = False
        self.spread = 0.0  # the largest of all answers
        self.nodes = 0
        self.greedy: list[Step] = []
        self.greedy_constrained: list[Step] = []
        self._tree = AnswerTree(language)
        self._raw = BestFirst(self._tree, limits.marginals, constrained=False)
        self._constrained = BestFirst(self._tree, limits.marginals, constrained=True)
        self._greedy_at: Node | None = self.root
        self._constrained_at: Node | None = self.root if limits.constrained_greedy else None
        self._on_greedy = 0  # prefixes evaluated for the greedy answers

    @property
    def root(self) -> Node:
        return self._tree.root

    @property
    def raw(self) -> Masses:
        """The model's own masses."""
        return self._raw.masses

    @property
    def constrained(self) -> Masses:
        """The masses when every step is renormalised over the tokens that stay in the language."""
        return self._constrained.masses

    def counts(self, node: Node, *, constrained: bool) -> bool:
        """Whether the constrained (or the raw) masses hold this prefix's moves instead of the prefix."""
        return (self._constrained if constrained else self._raw).counts(node)

    @property
    def stopped(self) -> str:
        return min(self._raw.stopped, self._constrained.stopped, key=STOPS.index)

    def wanted(self) -> list[Node]:
        """The prefixes to evaluate next, in one go; empty when the search is over.

        Those of the greedy answers, and those that each kind of mass wants; where the model keeps to its language, each
        with what the language forces after it."""
        heads = dict.fromkeys(node for node in (self._greedy_at, self._constrained_at) if node is not None)
        runs = [self._tree.run(node) for node in heads]
        self._on_greedy += sum(map(len, runs))
        chosen = dict.fromkeys(node for run in runs for node in run)
        for kind in (self._raw, self._constrained):
            kind.begin_round()
            for run in runs:
                kind.follow(run)
            if self.root.moves is not None:
                chosen |= dict.fromkeys(kind.choose(self.limits.tolerance, self._budget))
        if not chosen:
            for kind in (self._raw, self._constrained):
                kind.finish(self.limits.tolerance, self._budget)
        return list(chosen)

    @property
    def _budget(self) -> int:
        """How many prefixes may count for one kind of mass, besides the greedy answers."""
        budget = self.limits.node_budget - self._on_greedy
        both = self._raw.active and self._constrained.active
        # a model that strays has its own mass elsewhere than its renormalised mass: no prefix serves both
        return budget // 2 if both and not self._tree.runs_pay else budget

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
        if node is self.root:
            self._tree.runs_pay = self.raw.off <= STRAYS
        if node is self._greedy_at:
            self._greedy_at = self._follow_greedy(node, answer)
        if node is self._constrained_at:
            self._constrained_at = self._follow_constrained(node, answer)

    def _expand(self, node: Node, state: State, answer: NextTokens) -> None:
        node.moves = self.language.moves(state)
        node.masses = node.mass * np.exp(answer.log_probabilities)
        node.unseen = node.mass * answer.unseen
        node.constrained_masses, node.constrained_unseen = _renormalised(node.constrained, answer)
        node.spread, node.stray = answer.spread, answer.stray
        for index, ahead in node.children.items():
            ahead.mass, ahead.constrained = float(node.masses[index]), float(node.constrained_masses[index])
        self._raw.include(node)
        self._constrained.include(node)

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
                return self._tree.child(node, int(found[0]))
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
        return None if ends else self._tree.child(node, best)


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

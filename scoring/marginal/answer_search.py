"""Token marginalisation: best-first search over the answers of one record, with certified bounds.

The quantity is the marginal label probability of arXiv 2511.22312, computed by exact search instead of its depth-first
procedure. Every prefix of an answer is closed (it ended inside the language), off-language (it left it), or open (not
evaluated). The masses of the three add up to 1, so the open mass bounds how far each probability can still rise
(`marginalia.scoring.marginal.bounds`). Each prefix has its raw mass (the model's own probability) and its constrained
mass (every step renormalised over the tokens that stay in the language).

The search has an ask-and-tell interface: `ask` returns prefixes to evaluate, `tell` takes the model's next-token
log-probabilities after one of them. These come from `marginalia.scoring.models`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from marginalia.schemas.errors import ModelError
from marginalia.scoring.language.answer_language import State
from marginalia.scoring.language.token_language import Floats, TokenLanguage
from marginalia.scoring.marginal.best_first import CONSTRAINED as CONSTRAINED
from marginalia.scoring.marginal.best_first import IN_LANGUAGE as IN_LANGUAGE
from marginalia.scoring.marginal.best_first import RAW as RAW
from marginalia.scoring.marginal.best_first import ROUNDING as ROUNDING
from marginalia.scoring.marginal.best_first import BestFirst
from marginalia.scoring.marginal.bounds import Masses
from marginalia.scoring.marginal.prefix_node import AnswerTree
from marginalia.scoring.marginal.prefix_node import Node as Node

MARGINALS = (RAW, IN_LANGUAGE, CONSTRAINED)
# a model whose first token leaves the language with more mass than this is not expected to follow forced runs
MOST_OFF_AT_ROOT = 0.1
STOPS = ("", "node_budget", "exhausted", "tolerance")  # the least complete first


@dataclass(frozen=True)
class Limits:
    """When a search stops.

    marginals: the search ends when upper − lower of each of these is at most `tolerance` for every row.
    node_budget: how many prefixes count at most: those of the greedy answers, which always count, and the most probable
    others. answer_tokens: after how many tokens a greedy answer that has left the language is cut off.
    constrained_greedy: whether the constrained greedy answer is followed too."""

    marginals: tuple[str, ...] = MARGINALS
    tolerance: float = 1e-4
    node_budget: int = 256
    answer_tokens: int = 24
    constrained_greedy: bool = True


@dataclass(frozen=True)
class NextTokens:
    """A model's next-token probabilities after one prefix.

    log_probabilities: (n,) in nats, of the ids of the state's moves in their order; −inf where the source did not
    return one. top, top_log_probability: the most probable token of the whole vocabulary; `top` is −1 where its id is
    unknown. unseen: the most probability that the moves without a returned value can have together; unseen_top: the
    most that one of them can have (both 0 for a local model). spread: by how much (nats) each log-probability may be
    off. stray: by how much the probability outside the moves may be off beyond that."""

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

    A probability renormalised over moves of which some are unseen lies between `probability` and `highest`; `highest`
    is None where they are equal. spread: by how much (nats) the logarithms of both may be off."""

    token: int
    probability: float
    ends: bool
    highest: float | None = None
    spread: float = 0.0


class Search:
    """The search for one record. Call `ask` for prefixes to evaluate and `tell` for each, until `ask` returns none.

    `begun`: the first bytes of its answers, where the prompt already contains them.

    After that `stopped` gives the reason: `tolerance`, `node_budget`, or `exhausted` (no evaluation could narrow the
    bounds by more than the tolerance: what is open is unseen mass, or nothing is open). `greedy` and
    `greedy_constrained` are the greedy answers; `constrained_cut`: the constrained one ends at an unseen token.
    `nodes`: prefixes evaluated. `spread` (nats): the largest of all answers."""

    def __init__(self, language: TokenLanguage, limits: Limits, begun: bytes = b"") -> None:
        self.language = language
        self.begun = begun
        self.limits = limits
        self.constrained_cut = False
        self.spread = 0.0
        self.nodes = 0
        self.greedy: list[Step] = []
        self.greedy_constrained: list[Step] = []
        self._tree = AnswerTree(language, language.language.walk(begun)[-1])
        self._raw = BestFirst(self._tree, limits.marginals, constrained=False)
        self._constrained = BestFirst(self._tree, limits.marginals, constrained=True)
        # the ends of the greedy answers so far; None once they are complete
        self._greedy_end: Node | None = self.root
        self._constrained_end: Node | None = self.root if limits.constrained_greedy else None
        self._greedy_nodes = 0  # prefixes evaluated for the greedy answers

    @property
    def root(self) -> Node:
        """The empty prefix."""
        return self._tree.root

    @property
    def raw(self) -> Masses:
        """The model's own masses."""
        return self._raw.masses

    @property
    def constrained(self) -> Masses:
        """The masses with every step renormalised over the tokens that stay in the language."""
        return self._constrained.masses

    def counts(self, node: Node, *, constrained: bool) -> bool:
        """Whether the constrained (or the raw) masses contain this prefix's children instead of the prefix itself."""
        return (self._constrained if constrained else self._raw).counts(node)

    @property
    def stopped(self) -> str:
        """Why the search ended, see the class; of the raw and the constrained search the less complete one's reason."""
        return min(self._raw.stopped, self._constrained.stopped, key=STOPS.index)

    def ask(self) -> list[Node]:
        """The prefixes to evaluate next, together; empty when the search is over.

        These are the ends of the greedy answers and what the raw and the constrained search need next, each with its
        forced run if the model keeps to its language."""
        ends = dict.fromkeys(node for node in (self._greedy_end, self._constrained_end) if node is not None)
        greedy_runs = [self._tree.forced_run(node) for node in ends]
        self._greedy_nodes += sum(map(len, greedy_runs))
        chosen = dict.fromkeys(node for run in greedy_runs for node in run)
        searches = (self._raw, self._constrained)
        for search in searches:
            search.begin_round()
            for run in greedy_runs:
                search.follow(run)
            if self.root.moves is not None:
                chosen |= dict.fromkeys(search.choose(self.limits.tolerance, self._budget))
        if not chosen:
            for search in searches:
                search.finish(self.limits.tolerance, self._budget)
        return list(chosen)

    @property
    def _budget(self) -> int:
        """How many prefixes each of the two searches may count, besides the greedy answers."""
        budget = self.limits.node_budget - self._greedy_nodes
        both = self._raw.active and self._constrained.active
        # a model that leaves its language has raw and constrained mass on different prefixes: none serves both searches
        return budget // 2 if both and not self._tree.follow_forced else budget

    def tell(self, node: Node, answer: NextTokens) -> None:
        """Takes the model's next-token probabilities after `node`; parents come before their children.

        Raises ModelError when they are not probabilities."""
        if np.isnan(answer.log_probabilities).any() or np.isnan(answer.top_log_probability):
            raise ModelError("the model answered NaN", hint="try dtype float32")
        if answer.top_log_probability == -np.inf:
            raise ModelError("the model gave every token probability 0", hint="try dtype float32")
        self.nodes += 1
        self.spread = max(self.spread, answer.spread)
        if node.state is not None:
            self._expand(node, node.state, answer)
        if node is self.root:
            self._tree.follow_forced = self.raw.off <= MOST_OFF_AT_ROOT
        if node is self._greedy_end:
            self._greedy_end = self._follow_greedy(node, answer)
        if node is self._constrained_end:
            self._constrained_end = self._follow_constrained(node, answer)

    def _expand(self, node: Node, state: State, answer: NextTokens) -> None:
        node.moves = self.language.moves(state)
        node.masses = node.mass * np.exp(answer.log_probabilities)
        node.unseen = node.mass * answer.unseen
        node.constrained_masses, node.constrained_unseen = _renormalised(node.constrained, answer)
        node.spread, node.stray = answer.spread, answer.stray
        for index, child in node.children.items():  # made before their parent was evaluated, in a forced run
            child.mass, child.constrained = float(node.masses[index]), float(node.constrained_masses[index])
        self._raw.include(node)
        self._constrained.include(node)

    def _follow_greedy(self, node: Node, answer: NextTokens) -> Node | None:
        """Adds the greedy answer's next step; returns its new end, None when it is complete."""
        if answer.top < 0:
            if node.state is None:
                return None  # outside the language the rest of the text decides no label
            raise ModelError(
                "the most probable token cannot be identified: its text is empty or is the text of several tokens",
                hint="use a server that returns token ids",
            )
        matches = np.flatnonzero(node.moves.ids == answer.top) if node.moves is not None else np.array([], dtype=int)
        ends = answer.top in self.language.end_ids
        ends = ends or (node.moves is not None and bool(node.moves.ends[matches].any()))
        probability = float(np.exp(answer.top_log_probability))
        self.greedy.append(Step(answer.top, probability, ends, spread=answer.spread))
        if ends:
            return None
        if matches.size:
            return self._tree.child(node, int(matches[0]))
        if len(self.greedy) >= self.limits.answer_tokens:
            return None
        return Node(answer.top, node, node.depth + 1, None, 0.0, 0.0)

    def _follow_constrained(self, node: Node, answer: NextTokens) -> Node | None:
        """The same for the constrained greedy answer."""
        assert node.moves is not None and node.constrained_masses is not None
        best_seen = answer.log_probabilities.max() if answer.log_probabilities.size else -np.inf
        if answer.unseen > 0 and not np.exp(best_seen) >= answer.unseen_top:
            self.constrained_cut = True  # an unseen token may be the best one
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
    """(`mass` divided among the allowed tokens in proportion to their probabilities, the part for unseen ones).

    The logarithms are shifted before exp: far from its format a model's raw probabilities all underflow."""
    allowed = answer.log_probabilities
    unseen = float(np.log(answer.unseen)) if answer.unseen > 0 else -np.inf
    highest = max(float(allowed.max()) if allowed.size else -np.inf, unseen)
    if highest == -np.inf:
        return np.zeros_like(allowed), mass
    shares = np.exp(allowed - highest)
    unseen_share = float(np.exp(unseen - highest))
    total = float(shares.sum()) + unseen_share
    return mass * shares / total, mass * unseen_share / total

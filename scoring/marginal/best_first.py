"""Best-first search by one kind of mass: the model's own, or renormalised over the tokens that stay in the language.

The prefixes of a tree have one order: by falling mass, equal masses by path. A search counts the start of this order,
besides the greedy answers, which are followed anyhow. A finer tolerance or a larger budget counts all that a coarser or
smaller one counts, and more, so bounds never get wider by it. Prefixes are evaluated many at a time; when the node
budget is reached, some turn out not to be among the start, and do not count."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from marginalia.scoring.language.answer_language import State
from marginalia.scoring.language.token_language import Floats
from marginalia.scoring.marginal.bounds import Masses, in_language_bounds
from marginalia.scoring.marginal.prefix_node import AnswerTree, Node

RAW, IN_LANGUAGE, CONSTRAINED = "marginal", "marginal_in_language", "marginal_constrained"
CRUMB = 1e-12  # rounding leaves this much where a mass was added and taken out again
# sums that took masses out again keep rounding errors of the largest mass that they ever held, about 1e-16 of it: with
# less than this inside the language or open, they are summed anew
FAINT = 1e-4
# a round of more than a WIDE-th of what is left of the budget keeps to prefixes of at least a NARROW-th of the heaviest
# one's mass: if the budget binds, those much lighter are not likely to count
WIDE = 4
NARROW = 8


class Waiting(NamedTuple):
    """A prefix to be: (−its mass, its parent, its rank among the parent's children). They compare as in the order."""

    negative_mass: float
    parent: Node
    rank: int


class BestFirst:
    """The sums over the prefixes that count, and what waits. `marginals`: those whose bounds must come within the
    tolerance; without any of this kind nothing but the greedy answers counts.

    `stopped`: why nothing more was wanted in the last round, `tolerance`, `node_budget` or `exhausted`, else empty."""

    def __init__(self, tree: AnswerTree, marginals: Iterable[str], *, constrained: bool) -> None:
        self._tree = tree
        self._rows = tree.language.language.rows
        self._constrained = constrained
        self._marginals = [name for name in marginals if (name == CONSTRAINED) == constrained]
        self.masses = Masses(self._rows)
        self._untold = Masses(self._rows)  # the part of `open` that no evaluation can settle
        self._settled = Masses(self._rows)  # the part that is evaluated in this round
        self._waiting: list[Waiting] = []  # a heap; of each parent only the best child
        self._orders: dict[Node, npt.NDArray[np.intp]] = {}  # of each parent: its children by falling mass
        self._held: set[Node] = set()  # every prefix that counts, or will when it is evaluated
        self._left_out: set[Node] = set()  # evaluated, and yet not among the start that the budget allows
        self._taken: list[tuple[Waiting, list[Node]]] = []  # with the runs
        self._last: Waiting | None = None  # in the order, of all that were taken
        self._evaluated = 0  # prefixes in the runs that were taken
        self.stopped = ""

    @property
    def active(self) -> bool:
        """Whether any marginal of this kind is wanted."""
        return bool(self._marginals)

    def begin_round(self) -> None:
        """All that was wanted in the last round has been evaluated."""
        self._settled = Masses(self._rows)
        known = self._tree.root.moves is not None
        if known and IN_LANGUAGE in self._marginals and self.masses.closed + self.masses.open < FAINT:
            self._sum_anew()

    def follow(self, run: list[Node]) -> None:
        """These are evaluated for a greedy answer, and count."""
        self._held.update(run)
        self._settle(run[0])

    def choose(self, tolerance: float, budget: int) -> list[Node]:
        """The prefixes to evaluate next; empty when `stopped` says why. `budget`: how many may count.

        Only as many as would be needed if all their mass were settled at once: without the budget none of these can be
        spared, so going wide costs no prefix."""
        chosen: list[Node] = []
        heaviest = 0.0
        while (waiting := self._next(tolerance, budget)) is not None:
            heaviest = max(heaviest, -waiting.negative_mass)
            narrow = WIDE * len(chosen) > budget - self._evaluated + len(chosen)
            if chosen and narrow and -waiting.negative_mass * NARROW < heaviest:
                break
            run = self._take()
            if run[0].moves is None:
                chosen += run
                self._settle(run[0])
            else:  # the search by the other kind of mass has been here
                for node in run:
                    self.include(node)
        return chosen

    def include(self, node: Node) -> None:
        """Counts an evaluated prefix, if it is one of those that count."""
        if node.state is None or node not in self._held:
            return
        if node.parent is not None:  # the root was never counted as open
            self.masses.add_open(-self._mass(node), node.state)
        self._add(node, node.state, [])
        if self._marginals:
            assert node.moves is not None
            self._orders[node] = np.argsort(np.where(node.moves.ends, 0.0, -self._children(node)), kind="stable")
            self._push(node, 0)

    def finish(self, tolerance: float, budget: int) -> None:
        """Takes out of the sums what is not among the start of the order that the budget allows."""
        best = self._best()
        for taken, run in sorted(self._taken, key=lambda pair: pair[0]):
            budget -= len(run)
            if self._left_out or budget < 0 or (best is not None and best < taken):
                self._left_out.update(run)
        if self._left_out:
            self._sum_anew()
            if self._within(tolerance):
                self.stopped = "tolerance"

    def counts(self, node: Node) -> bool:
        """Whether the sums hold this prefix's moves instead of the prefix."""
        return node.moves is not None and node in self._held and node not in self._left_out

    def _next(self, tolerance: float, budget: int) -> Waiting | None:
        self.stopped = ""
        waiting = self._best()
        # what comes before something that was taken is taken, too: all that counts is the start of the order
        due = waiting is not None and self._last is not None and waiting < self._last
        if not due and self._within(tolerance):
            self.stopped = "tolerance"
        elif waiting is None or (not due and self._spent(tolerance)):
            self.stopped = "exhausted"
        elif self._fits(waiting, budget):
            return waiting
        if not self.stopped or self._evaluated > max(budget, 0):
            self.stopped = "node_budget"
        return None

    def _fits(self, waiting: Waiting, budget: int) -> bool:
        """Whether the prefix is among the start of the order that the budget allows, as far as is known."""
        budget -= self._tree.run_length(waiting.parent, self._move(waiting))
        if self._evaluated <= budget:
            return True
        return sum(len(run) for taken, run in self._taken if taken < waiting) <= budget

    def _best(self) -> Waiting | None:
        while self._waiting:
            child = self._waiting[0].parent.children.get(self._move(self._waiting[0]))
            if child is None or child not in self._held:
                return self._waiting[0]
            self._pop()  # on a greedy answer, or in a run
        return None

    def _take(self) -> list[Node]:
        waiting = self._pop()
        run = self._tree.run(self._tree.child(waiting.parent, self._move(waiting)))
        self._held.update(run)
        self._taken.append((waiting, run))
        self._last = waiting if self._last is None else max(self._last, waiting)
        self._evaluated += len(run)
        return run

    def _pop(self) -> Waiting:
        waiting = heapq.heappop(self._waiting)
        self._push(waiting.parent, waiting.rank + 1)
        return waiting

    def _push(self, parent: Node, rank: int) -> None:
        order = self._orders[parent]
        if rank < len(order) and (mass := float(self._children(parent)[order[rank]])) > 0:
            assert parent.moves is not None
            if not parent.moves.ends[order[rank]]:
                heapq.heappush(self._waiting, Waiting(-mass, parent, rank))

    def _move(self, waiting: Waiting) -> int:
        return int(self._orders[waiting.parent][waiting.rank])

    def _mass(self, node: Node) -> float:
        return node.constrained if self._constrained else node.mass

    def _children(self, node: Node) -> Floats:
        masses = node.constrained_masses if self._constrained else node.masses
        assert masses is not None
        return masses

    def _settle(self, node: Node) -> None:
        if node.state is not None:
            self._settled.add_open(self._mass(node), node.state)

    def _add(self, node: Node, state: State, followed: list[int]) -> None:
        """The moves of an evaluated prefix; those `followed` are counted as prefixes themselves."""
        assert node.moves is not None
        masses, unseen = self._children(node), node.constrained_unseen if self._constrained else node.unseen
        if not self._constrained:  # renormalised mass never leaves
            self.masses.add_off(max(node.mass - unseen - float(masses.sum()), 0.0), state)
        if followed:
            masses = masses.copy()
            masses[followed] = 0.0
        self.masses.add_moves(masses, node.moves)
        if unseen > 0:  # what a source did not tell could be any move, for ever
            self.masses.add_open(unseen, state)
            self._untold.add_open(unseen, state)

    def _sum_anew(self) -> None:
        self.masses, self._untold = Masses(self._rows), Masses(self._rows)
        stack = [self._tree.root]
        while stack:
            node = stack.pop()
            assert node.state is not None
            followed = [index for index, child in node.children.items() if self.counts(child)]
            stack += [node.children[index] for index in followed]
            self._add(node, node.state, followed)

    def _within(self, tolerance: float) -> bool:
        """Whether all bounds would be within the tolerance if what is evaluated in this round were settled entirely."""
        slack, masses, settled = tolerance + CRUMB, self.masses, self._settled
        if RAW in self._marginals and (masses.open_could - settled.open_could).max() > slack:
            return False
        if CONSTRAINED in self._marginals and (masses.open_undecided - settled.open_undecided).max() > slack:
            return False
        return IN_LANGUAGE not in self._marginals or self._in_language_gap() <= slack

    def _spent(self, tolerance: float) -> bool:
        """Whether, untold mass apart, they would be: then no prefix can bring them closer than so."""
        if self._untold.open == 0:
            return False
        slack, masses, settled, untold = tolerance + CRUMB, self.masses, self._settled, self._untold
        if RAW in self._marginals and (masses.open_could - settled.open_could - untold.open_could).max() > slack:
            return False
        undecided = masses.open_undecided - settled.open_undecided - untold.open_undecided
        if CONSTRAINED in self._marginals and undecided.max() > slack:
            return False
        return IN_LANGUAGE not in self._marginals or self._in_language_gap() - self._least_in_language_gap() <= slack

    def _in_language_gap(self) -> float:
        masses, settled = self.masses, self._settled
        could = masses.open_done - settled.open_done + masses.open_could - settled.open_could
        without = np.maximum(masses.open_without - settled.open_without, 0.0)
        closed = masses.closed + settled.open
        lower, upper = in_language_bounds(masses.closed_with, closed, np.maximum(could, 0.0), without)
        return float((upper - lower).max())

    def _least_in_language_gap(self) -> float:
        """The gap once all that can be settled is closed."""
        masses, untold = self.masses, self._untold
        closed = masses.closed + max(masses.open - untold.open, 0.0)
        could = untold.open_done + untold.open_could
        lower, upper = in_language_bounds(masses.closed_with, closed, could, untold.open_without)
        return float((upper - lower).max())

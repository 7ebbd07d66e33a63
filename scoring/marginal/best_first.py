"""Best-first search over one kind of mass: the model's own, or renormalised over the tokens that stay in the language.

The prefixes of a tree have one order: by falling mass, equal masses by path. The prefixes that count are a start of
this order, and those of the greedy answers, which are evaluated anyway. A finer tolerance or a larger budget counts all
prefixes that a coarser tolerance or a smaller budget counts, and more, so it never widens the bounds. Prefixes are
evaluated many at a time; when the node budget is reached, some of them may turn out not to be in the start of the
order, and do not count."""

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
ROUNDING = 1e-12  # what rounding leaves where a mass was added and subtracted again
# Sums from which masses were subtracted keep rounding errors of about 1e-16 of the largest mass that they ever had.
# With less mass than this in the language or open, these errors matter, and the sums are recomputed.
LITTLE_MASS = 1e-4
# A round that takes more than a WIDE-th of the remaining budget keeps to prefixes of at least a NARROW-th of the
# heaviest one's mass: if the budget binds, much lighter ones are unlikely to count.
WIDE = 4
NARROW = 8


class Waiting(NamedTuple):
    """A prefix that is not evaluated: (−mass, parent, rank among the parent's children by mass). Sorts by the order."""

    negative_mass: float
    parent: Node
    rank: int


class BestFirst:
    """The sums over the prefixes that count, and the heap of those that wait.

    marginals: those whose bounds must come within the tolerance; without any of this kind of mass only the greedy
    answers count. stopped: why the last round chose nothing more: `tolerance`, `node_budget` or `exhausted`; empty
    before that."""

    def __init__(self, tree: AnswerTree, marginals: Iterable[str], *, constrained: bool) -> None:
        self._tree = tree
        self._rows = tree.language.language.rows
        self._constrained = constrained
        self._marginals = [name for name in marginals if (name == CONSTRAINED) == constrained]
        self.masses = Masses(self._rows)
        self._unseen = Masses(self._rows)  # the part of the open mass that no evaluation can close
        self._pending = Masses(self._rows)  # the part of the open mass that is evaluated in this round
        self._waiting: list[Waiting] = []  # a heap; of each parent only the heaviest child
        self._orders: dict[Node, npt.NDArray[np.intp]] = {}  # of each parent: its children by falling mass
        self._counted: set[Node] = set()  # every prefix that counts, or will once it is evaluated
        self._over_budget: set[Node] = set()  # evaluated, but not in the start of the order that the budget allows
        self._taken: list[tuple[Waiting, list[Node]]] = []  # from the heap, each with its forced run
        self._last: Waiting | None = None  # of all taken, the last in the order
        self._evaluated = 0  # prefixes in the runs of all taken
        self.stopped = ""

    @property
    def active(self) -> bool:
        """Whether any marginal of this kind of mass is requested."""
        return bool(self._marginals)

    def begin_round(self) -> None:
        """To be called when all prefixes of the last round have been evaluated."""
        self._pending = Masses(self._rows)
        root_evaluated = self._tree.root.moves is not None
        if root_evaluated and IN_LANGUAGE in self._marginals and self.masses.closed + self.masses.open < LITTLE_MASS:
            self._recompute()

    def follow(self, run: list[Node]) -> None:
        """Counts a run that is evaluated for a greedy answer."""
        self._counted.update(run)
        self._mark_pending(run[0])

    def choose(self, tolerance: float, budget: int) -> list[Node]:
        """The prefixes to evaluate next, none when the search has `stopped`. `budget`: how many may count.

        They are those that one evaluation at a time would take too if each closed all its mass. So unless the budget
        binds, evaluating them together evaluates no prefix in vain."""
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
                self._mark_pending(run[0])
            else:  # the search over the other kind of mass has evaluated it
                for node in run:
                    self.include(node)
        return chosen

    def include(self, node: Node) -> None:
        """Replaces an evaluated prefix by its children in the sums, if it counts."""
        if node.state is None or node not in self._counted:
            return
        if node.parent is not None:  # the root was never added as open
            self.masses.add_open(-self._mass(node), node.state)
        self._add(node, node.state, [])
        if self._marginals:
            assert node.moves is not None
            self._orders[node] = np.argsort(np.where(node.moves.ends, 0.0, -self._children(node)), kind="stable")
            self._push(node, 0)

    def finish(self, tolerance: float, budget: int) -> None:
        """Removes from the sums what is not in the start of the order that the budget allows."""
        best = self._best()
        for taken, run in sorted(self._taken, key=lambda pair: pair[0]):
            budget -= len(run)
            if self._over_budget or budget < 0 or (best is not None and best < taken):
                self._over_budget.update(run)
        if self._over_budget:
            self._recompute()
            if self._within(tolerance):
                self.stopped = "tolerance"

    def counts(self, node: Node) -> bool:
        """Whether the sums contain this prefix's children instead of the prefix itself."""
        return node.moves is not None and node in self._counted and node not in self._over_budget

    def _next(self, tolerance: float, budget: int) -> Waiting | None:
        """The next prefix in the order; None, with `stopped` set, when the search stops before it."""
        self.stopped = ""
        waiting = self._best()
        # what precedes a taken prefix must be taken too: the prefixes that count are a start of the order
        due = waiting is not None and self._last is not None and waiting < self._last
        if not due and self._within(tolerance):
            self.stopped = "tolerance"
        elif waiting is None or (not due and self._rest_is_unseen(tolerance)):
            self.stopped = "exhausted"
        elif self._fits(waiting, budget):
            return waiting
        if not self.stopped or self._evaluated > max(budget, 0):
            self.stopped = "node_budget"
        return None

    def _fits(self, waiting: Waiting, budget: int) -> bool:
        """Whether the prefix is in the start of the order that the budget allows, as far as is known so far."""
        budget -= self._tree.forced_run_length(waiting.parent, self._move(waiting))
        if self._evaluated <= budget:
            return True
        return sum(len(run) for taken, run in self._taken if taken < waiting) <= budget

    def _best(self) -> Waiting | None:
        """The first waiting prefix that is not counted already."""
        while self._waiting:
            child = self._waiting[0].parent.children.get(self._move(self._waiting[0]))
            if child is None or child not in self._counted:
                return self._waiting[0]
            self._pop()  # counted as part of a greedy answer or of a forced run
        return None

    def _take(self) -> list[Node]:
        """Counts the first waiting prefix with its forced run, and returns both."""
        waiting = self._pop()
        run = self._tree.forced_run(self._tree.child(waiting.parent, self._move(waiting)))
        self._counted.update(run)
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

    def _mark_pending(self, node: Node) -> None:
        if node.state is not None:
            self._pending.add_open(self._mass(node), node.state)

    def _add(self, node: Node, state: State, followed: list[int]) -> None:
        """Adds the children of an evaluated prefix, except those `followed`: their own children are added instead."""
        assert node.moves is not None
        masses, unseen = self._children(node), node.constrained_unseen if self._constrained else node.unseen
        if not self._constrained:  # renormalised mass never leaves
            self.masses.add_off(max(node.mass - unseen - float(masses.sum()), 0.0), state)
        if followed:
            masses = masses.copy()
            masses[followed] = 0.0
        self.masses.add_moves(masses, node.moves)
        if unseen > 0:  # may belong to any child, and no evaluation will tell to which
            self.masses.add_open(unseen, state)
            self._unseen.add_open(unseen, state)

    def _recompute(self) -> None:
        """The sums from the tree, without the rounding errors of subtractions."""
        self.masses, self._unseen = Masses(self._rows), Masses(self._rows)
        stack = [self._tree.root]
        while stack:
            node = stack.pop()
            assert node.state is not None
            followed = [index for index, child in node.children.items() if self.counts(child)]
            stack += [node.children[index] for index in followed]
            self._add(node, node.state, followed)

    def _within(self, tolerance: float) -> bool:
        """Whether all bounds would be within the tolerance if all mass that is evaluated in this round were closed."""
        slack, masses, pending = tolerance + ROUNDING, self.masses, self._pending
        if RAW in self._marginals and (masses.open_could - pending.open_could).max() > slack:
            return False
        if CONSTRAINED in self._marginals and (masses.open_undecided - pending.open_undecided).max() > slack:
            return False
        return IN_LANGUAGE not in self._marginals or self._in_language_gap() <= slack

    def _rest_is_unseen(self, tolerance: float) -> bool:
        """Whether they would be, apart from unseen mass: then no evaluation can narrow them further."""
        if self._unseen.open == 0:
            return False
        slack, masses, pending, unseen = tolerance + ROUNDING, self.masses, self._pending, self._unseen
        if RAW in self._marginals and (masses.open_could - pending.open_could - unseen.open_could).max() > slack:
            return False
        undecided = masses.open_undecided - pending.open_undecided - unseen.open_undecided
        if CONSTRAINED in self._marginals and undecided.max() > slack:
            return False
        return IN_LANGUAGE not in self._marginals or self._in_language_gap() - self._least_in_language_gap() <= slack

    def _in_language_gap(self) -> float:
        """The largest upper − lower of `marginal_in_language` if all pending mass were closed."""
        masses, pending = self.masses, self._pending
        could = masses.open_done - pending.open_done + masses.open_could - pending.open_could
        without = np.maximum(masses.open_without - pending.open_without, 0.0)
        closed = masses.closed + pending.open
        lower, upper = in_language_bounds(masses.closed_with, closed, np.maximum(could, 0.0), without)
        return float((upper - lower).max())

    def _least_in_language_gap(self) -> float:
        """The gap once all mass is closed except the unseen."""
        masses, unseen = self.masses, self._unseen
        closed = masses.closed + max(masses.open - unseen.open, 0.0)
        could = unseen.open_done + unseen.open_could
        lower, upper = in_language_bounds(masses.closed_with, closed, could, unseen.open_without)
        return float((upper - lower).max())

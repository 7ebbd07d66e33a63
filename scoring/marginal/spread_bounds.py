"""Bounds of a search whose log-probabilities vary: a served model answers a little differently with each batch.

Each answer comes with `spread` (nats): every token's log-probability may be that much higher or lower than it was
told. A path's mass is then off by at most a factor e^±(sum over its steps), and so are sums of masses. A row's
probability and its complement are both such sums, which bounds the row from both sides: the wider of the two is never
needed. Renormalised steps vary by twice as much, in the numerator and in the denominator."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from marginalia.scoring.language.token_language import Floats
from marginalia.scoring.marginal.answer_search import CONSTRAINED, IN_LANGUAGE, RAW, Node, Search
from marginalia.scoring.marginal.bounds import Masses, in_language_bounds

Bounds = tuple[Floats, Floats]


@dataclass(frozen=True)
class _Weighed:
    """The masses of one tree at the least and at the most that they may be."""

    least: Masses
    most: Masses


def spread_bounds(search: Search) -> dict[str, Callable[[], Bounds]]:
    """Bounds of each marginal, over rows, that hold whatever the spread has done."""
    return {
        RAW: lambda: _of_row(_raw(search), Masses.marginal),
        IN_LANGUAGE: lambda: _in_language(_raw(search)),
        CONSTRAINED: lambda: _of_row(_constrained(search), Masses.constrained),
    }


def _of_row(masses: _Weighed, bounds: Callable[[Masses], Bounds]) -> Bounds:
    """From the row's own masses and from those of its complement, whichever is closer."""
    least, most = bounds(masses.least), bounds(masses.most)
    lower = np.maximum(least[0], 1.0 - (_total(masses.most) - most[0]))
    upper = np.minimum(most[1], 1.0 - (_total(masses.least) - least[1]))
    return lower, upper


def _in_language(masses: _Weighed) -> Bounds:
    least, most = masses.least, masses.most
    without = most.closed - most.closed_with
    lower = in_language_bounds(least.closed_with, least.closed_with + without, least.open_could, most.open_without)[0]
    could = most.open_done + most.open_could
    without = least.closed - least.closed_with
    upper = in_language_bounds(most.closed_with, most.closed_with + without, could, least.open_without)[1]
    return lower, upper


def _total(masses: Masses) -> float:
    return masses.closed + masses.off + masses.open


def _raw(search: Search) -> _Weighed:
    found = _Weighed(Masses(search.language.language.rows), Masses(search.language.language.rows))
    for node, path in _counted(search, constrained=False):
        assert node.moves is not None and node.masses is not None and node.state is not None
        waiting = _waiting(search, node, node.masses, constrained=False)
        off, stray = max(node.mass - node.unseen - float(node.masses.sum()), 0.0), node.mass * node.stray
        for masses, sign in ((found.least, -1), (found.most, 1)):
            weight = math.exp(sign * (path + node.spread))
            masses.add_moves(waiting * weight, node.moves)
            masses.add_off(max(off * weight + sign * stray * math.exp(sign * path), 0.0), node.state)
            if node.unseen > 0:
                masses.add_open(node.unseen * weight, node.state)
    return found


def _constrained(search: Search) -> _Weighed:
    found = _Weighed(Masses(search.language.language.rows), Masses(search.language.language.rows))
    for node, path in _counted(search, constrained=True):
        assert node.moves is not None and node.constrained_masses is not None and node.state is not None
        waiting = _waiting(search, node, node.constrained_masses, constrained=True)
        for masses, sign in ((found.least, -1), (found.most, 1)):
            weight = math.exp(sign * 2 * (path + node.spread))
            masses.add_moves(waiting * weight, node.moves)
            if node.constrained_unseen > 0:
                masses.add_open(node.constrained_unseen * weight, node.state)
    return found


def _counted(search: Search, *, constrained: bool) -> list[tuple[Node, float]]:
    """Every prefix that counts, with the spreads of the steps that lead to it added up."""
    found: list[tuple[Node, float]] = []
    stack = [(search.root, 0.0)]
    while stack:
        node, path = stack.pop()
        found.append((node, path))
        followed = [child for child in node.children.values() if search.counts(child, constrained=constrained)]
        stack += [(child, path + node.spread) for child in followed]
    return found


def _waiting(search: Search, node: Node, masses: Floats, *, constrained: bool) -> Floats:
    """The masses of a prefix's moves without those that count in turn."""
    waiting = masses.copy()
    waiting[[i for i, child in node.children.items() if search.counts(child, constrained=constrained)]] = 0.0
    return waiting

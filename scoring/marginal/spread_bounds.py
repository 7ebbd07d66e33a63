"""Bounds that hold although a served model's log-probabilities vary a little from batch to batch.

Each answer of the model has a `spread` s (nats): every true log-probability lies within ± s of the returned one. The
mass of a prefix is then off by a factor of at most e^±Σs, summed over its steps, and so is every sum of masses. A row's
probability p and its complement q are both such sums, so with least and most the sums at both extremes

    max(p_least, 1 − q_most) ≤ p ≤ min(p_most, 1 − q_least)

A renormalised step varies by 2s, because its numerator and its denominator both vary by s."""

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
class _Extremes:
    """The sums of one tree's masses at their least and at their most."""

    least: Masses
    most: Masses


def spread_bounds(search: Search) -> dict[str, Callable[[], Bounds]]:
    """Estimator → a function for its (lower, upper), over rows, that hold for any probabilities within the spread."""
    return {
        RAW: lambda: _of_row(_raw(search), Masses.marginal),
        IN_LANGUAGE: lambda: _in_language(_raw(search)),
        CONSTRAINED: lambda: _of_row(_constrained(search), Masses.constrained),
    }


def _of_row(masses: _Extremes, bounds: Callable[[Masses], Bounds]) -> Bounds:
    """The tighter of the bounds from the row's own masses and from those of its complement."""
    least, most = bounds(masses.least), bounds(masses.most)
    lower = np.maximum(least[0], 1.0 - (_total(masses.most) - most[0]))
    upper = np.minimum(most[1], 1.0 - (_total(masses.least) - least[1]))
    return lower, upper


def _in_language(masses: _Extremes) -> Bounds:
    """The ratio is least with the least mass that has the row and the most that has not, and the reverse."""
    least, most = masses.least, masses.most
    without = most.closed - most.closed_with
    lower = in_language_bounds(least.closed_with, least.closed_with + without, least.open_could, most.open_without)[0]
    could = most.open_done + most.open_could
    without = least.closed - least.closed_with
    upper = in_language_bounds(most.closed_with, most.closed_with + without, could, least.open_without)[1]
    return lower, upper


def _total(masses: Masses) -> float:
    return masses.closed + masses.off + masses.open


def _raw(search: Search) -> _Extremes:
    """The sums of raw masses over the prefixes that count."""
    sums = _Extremes(Masses(search.language.language.rows), Masses(search.language.language.rows))
    for node, path_spread in _counted(search, constrained=False):
        assert node.moves is not None and node.masses is not None and node.state is not None
        waiting = _waiting(search, node, node.masses, constrained=False)
        off = max(node.mass - node.unseen - float(node.masses.sum()), 0.0)
        stray = node.mass * node.stray
        for masses, sign in ((sums.least, -1), (sums.most, 1)):
            weight = math.exp(sign * (path_spread + node.spread))
            masses.add_moves(waiting * weight, node.moves)
            masses.add_off(max(off * weight + sign * stray * math.exp(sign * path_spread), 0.0), node.state)
            if node.unseen > 0:
                masses.add_open(node.unseen * weight, node.state)
    return sums


def _constrained(search: Search) -> _Extremes:
    """The sums of constrained masses over the prefixes that count."""
    sums = _Extremes(Masses(search.language.language.rows), Masses(search.language.language.rows))
    for node, path_spread in _counted(search, constrained=True):
        assert node.moves is not None and node.constrained_masses is not None and node.state is not None
        waiting = _waiting(search, node, node.constrained_masses, constrained=True)
        for masses, sign in ((sums.least, -1), (sums.most, 1)):
            weight = math.exp(sign * 2 * (path_spread + node.spread))
            masses.add_moves(waiting * weight, node.moves)
            if node.constrained_unseen > 0:
                masses.add_open(node.constrained_unseen * weight, node.state)
    return sums


def _counted(search: Search, *, constrained: bool) -> list[tuple[Node, float]]:
    """Every prefix that counts, with the sum of the spreads of the steps that lead to it."""
    counted: list[tuple[Node, float]] = []
    stack = [(search.root, 0.0)]
    while stack:
        node, path_spread = stack.pop()
        counted.append((node, path_spread))
        followed = [child for child in node.children.values() if search.counts(child, constrained=constrained)]
        stack += [(child, path_spread + node.spread) for child in followed]
    return counted


def _waiting(search: Search, node: Node, masses: Floats, *, constrained: bool) -> Floats:
    """The masses of a prefix's children, 0 for those that count in turn."""
    waiting = masses.copy()
    waiting[[i for i, child in node.children.items() if search.counts(child, constrained=constrained)]] = 0.0
    return waiting

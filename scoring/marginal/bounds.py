"""Sums of masses over prefixes, and the certified bounds that they give (SCORING.md, *Certified bounds*)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Protocol, Self

import numpy as np

from marginalia.scoring.language.answer_language import State
from marginalia.scoring.language.token_language import Floats, Moves

FAINT = 1e-4


class Masses:
    """Masses of one kind (raw or constrained), in float64; vectors have one entry per row.

    closed: answers that ended inside the language. off: prefixes that left it. open: prefixes not evaluated; of these
    `open_could` sums those that can still complete the row, `open_without` those that can end without it, and
    `open_undecided` those that can end with or without it."""

    def __init__(self, rows: int) -> None:
        self.closed = 0.0
        self.closed_with = np.zeros(rows)
        self.off = 0.0
        self.off_with = np.zeros(rows)
        self.open = 0.0
        self.open_done = np.zeros(rows)
        self.open_could = np.zeros(rows)
        self.open_without = np.zeros(rows)
        self.open_undecided = np.zeros(rows)

    def add_moves(self, masses: Floats, moves: Moves) -> None:
        """Counts the children of an evaluated prefix: those that ended as closed, the others as open."""
        ended = np.where(moves.ends, masses, 0.0)
        going = masses - ended
        self.closed += float(ended.sum())
        self.closed_with += ended @ moves.done
        self.open += float(going.sum())
        self.open_done += going @ moves.done
        self.open_could += going @ moves.could
        self.open_without += going @ moves.without
        self.open_undecided += going @ moves.undecided

    def add_open(self, mass: float, state: State) -> None:
        """Counts one open prefix of this mass; a negative mass takes it out again."""
        rows = self.closed_with.size
        self.open += mass
        self.open_done += mass * row_vector(state.done, rows)
        self.open_could += mass * row_vector(state.could, rows)
        self.open_without += mass * row_vector(state.without, rows)
        self.open_undecided += mass * row_vector(state.undecided, rows)

    def add_off(self, mass: float, state: State) -> None:
        """Counts mass that left the language at a prefix with this state."""
        self.off += mass
        self.off_with += mass * row_vector(state.done, self.off_with.size)

    def marginal(self) -> tuple[Floats, Floats]:
        """Bounds of the probability that the answer completes the row while still inside the language."""
        lower = self.closed_with + self.off_with + self.open_done
        return lower, lower + self.open_could

    def in_language(self) -> tuple[Floats, Floats]:
        """Bounds of the share of answers inside the language that hold the row."""
        could = self.open_done + self.open_could
        return in_language_bounds(self.closed_with, self.closed, could, self.open_without)

    def constrained(self) -> tuple[Floats, Floats]:
        """Bounds under constrained decoding. Nothing leaves the language there, so an open prefix that cannot end
        without the row counts as holding it."""
        lower = self.closed_with + np.maximum(self.open - self.open_without, 0.0)
        return lower, lower + self.open_undecided


class PrefixMasses(Protocol):
    """A prefix as the sums see it: `masses` of its moves once it has been evaluated, and the prefixes among them that
    were asked for."""

    moves: Moves | None
    masses: Floats | None

    @property
    def children(self) -> Mapping[int, Self]: ...


def without_rounding(root: PrefixMasses, told: Masses, untold: Masses) -> Masses:
    """The raw masses `told`, summed anew over the tree where little mass is inside the language or open.

    Sums that took masses out again keep rounding errors of the largest mass they ever held, about 1e-16 of it: of a
    model far from its format they would be all that is left."""
    if told.closed + told.open >= FAINT:
        return told
    fresh = Masses(told.closed_with.size)
    fresh.off, fresh.off_with = told.off, told.off_with
    stack = [root]
    while stack:
        node = stack.pop()
        if node.moves is None or node.masses is None:
            continue
        waiting = node.masses.copy()
        for index, child in node.children.items():
            if child.moves is not None:
                waiting[index] = 0.0
                stack.append(child)
        fresh.add_moves(waiting, node.moves)
    for name in ("open", "open_done", "open_could", "open_without", "open_undecided"):
        setattr(fresh, name, getattr(fresh, name) + getattr(untold, name))
    return fresh


def in_language_bounds(
    closed_with: Floats, closed: float | Floats, could: Floats, without: Floats
) -> tuple[Floats, Floats]:
    """[A / (A+B+O⁻), (A+O⁺) / (A+B+O⁺)] with A + B = `closed`, O⁺ = `could`, O⁻ = `without`; 0/0 gives [0, 1]."""
    return _ratio(closed_with, closed + without, 0.0), _ratio(closed_with + could, closed + could, 1.0)


def _ratio(top: Floats, bottom: Floats, otherwise: float) -> Floats:
    return np.divide(top, bottom, out=np.full_like(top, otherwise), where=bottom > 0)


def point_in(lower: Floats, upper: Floats) -> Floats:
    """The estimate inside the bounds: lower / (1 − (upper − lower)), 0/0 giving ½."""
    certain = 1.0 - (upper - lower)
    point = np.divide(lower, certain, out=np.full_like(lower, 0.5), where=certain > 1e-12)
    return np.clip(point, lower, upper)


@lru_cache(maxsize=65536)
def row_vector(mask: int, rows: int) -> Floats:
    """The 0/1 vector of a mask over rows."""
    vector = np.array([mask >> row & 1 for row in range(rows)], dtype=float)
    vector.setflags(write=False)
    return vector

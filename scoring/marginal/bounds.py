"""Sums of masses over prefixes, and the certified bounds that they give (SCORING.md, *Certified bounds*)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from marginalia.scoring.language.answer_language import State
from marginalia.scoring.language.token_language import Floats, Moves


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
        self._open_rows = np.zeros((4, rows))  # in the order of Moves.open_rows
        self.open_done, self.open_could, self.open_without, self.open_undecided = self._open_rows

    def add_moves(self, masses: Floats, moves: Moves) -> None:
        """Counts the children of an evaluated prefix: those that ended as closed, the others as open."""
        ended = np.where(moves.ends, masses, 0.0)
        going = masses - ended
        self.closed += float(ended.sum())
        self.closed_with += ended @ moves.done
        self.open += float(going.sum())
        self._open_rows += going @ moves.open_rows

    def add_open(self, mass: float, state: State) -> None:
        """Counts one open prefix of this mass; a negative mass takes it out again."""
        rows = self.closed_with.size
        self.open += mass
        self._open_rows += mass * _open_rows(state.done, state.could, state.without, state.undecided, rows)

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
def _open_rows(done: int, could: int, without: int, undecided: int, rows: int) -> Floats:
    """(4, rows), as in Moves.open_rows."""
    vectors = np.stack([row_vector(mask, rows) for mask in (done, could, without, undecided)])
    vectors.setflags(write=False)
    return vectors


@lru_cache(maxsize=65536)
def row_vector(mask: int, rows: int) -> Floats:
    """The 0/1 vector of a mask over rows."""
    vector = np.array([mask >> row & 1 for row in range(rows)], dtype=float)
    vector.setflags(write=False)
    return vector

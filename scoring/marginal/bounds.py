"""Sums of masses over prefixes, and the certified bounds that follow from them.

For a row ℓ (a label, or the verdict) write C for the mass of closed prefixes (answers in the language), F for
off-language ones and O for open ones; C(ℓ), F(ℓ) and O_done(ℓ) for the parts in which ℓ is already complete, O_could(ℓ)
for the open mass that can still complete ℓ, and O_without(ℓ) for the open mass that can end without it. As open
prefixes can end in any way that the language allows, the true value lies in

    marginal              [C(ℓ) + F(ℓ) + O_done(ℓ), the same + O_could(ℓ)]
    marginal_in_language  [C(ℓ) / (C + O_without(ℓ)), (C(ℓ) + O⁺) / (C + O⁺)],  O⁺ = O_done(ℓ) + O_could(ℓ)
    marginal_constrained  [C(ℓ) + O − O_without(ℓ), the same + the open mass that can end with or without ℓ]

The marginal is that of arXiv 2511.22312. Certified means: up to the numerics of the model's forward passes."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from marginalia.scoring.language.answer_language import State
from marginalia.scoring.language.token_language import Floats, Moves


class Masses:
    """Sums of one kind of mass (raw or constrained), in float64. Vectors have one entry per row.

    closed, closed_with: answers that ended in the language; those with the row. off, off_with: prefixes that left the
    language; those that had completed the row. open: prefixes that are not evaluated; of these, open_done: those that
    have completed the row; open_could: those that have not but still can; open_without: those that can end without it;
    open_undecided: those that can end with it and without it."""

    def __init__(self, rows: int) -> None:
        self.closed = 0.0
        self.closed_with = np.zeros(rows)
        self.off = 0.0
        self.off_with = np.zeros(rows)
        self.open = 0.0
        self._open_rows = np.zeros((4, rows))  # in the order of Moves.open_rows
        self.open_done, self.open_could, self.open_without, self.open_undecided = self._open_rows

    def add_moves(self, masses: Floats, moves: Moves) -> None:
        """Adds the children of an evaluated prefix: ended ones as closed, the others as open. `masses` is (n,)."""
        ended = np.where(moves.ends, masses, 0.0)
        unfinished = masses - ended
        self.closed += float(ended.sum())
        self.closed_with += ended @ moves.done
        self.open += float(unfinished.sum())
        self._open_rows += unfinished @ moves.open_rows

    def add_open(self, mass: float, state: State) -> None:
        """Adds one open prefix of this mass; a negative mass removes it again."""
        rows = self.closed_with.size
        self.open += mass
        self._open_rows += mass * _open_rows(state.done, state.could, state.without, state.undecided, rows)

    def add_off(self, mass: float, state: State) -> None:
        """Adds mass that left the language at a prefix with this state."""
        self.off += mass
        self.off_with += mass * row_vector(state.done, self.off_with.size)

    def marginal(self) -> tuple[Floats, Floats]:
        """(lower, upper) of P(the answer completes the row while still in the language), over rows."""
        lower = self.closed_with + self.off_with + self.open_done
        return lower, lower + self.open_could

    def in_language(self) -> tuple[Floats, Floats]:
        """(lower, upper) of P(the answer has the row | it is in the language), over rows."""
        could = self.open_done + self.open_could
        return in_language_bounds(self.closed_with, self.closed, could, self.open_without)

    def constrained(self) -> tuple[Floats, Floats]:
        """(lower, upper) of P(the answer has the row) under constrained decoding, over rows; for constrained masses.

        Nothing leaves the language there, so an open prefix that cannot end without the row counts as having it."""
        lower = self.closed_with + np.maximum(self.open - self.open_without, 0.0)
        return lower, lower + self.open_undecided


def in_language_bounds(
    closed_with: Floats, closed: float | Floats, could: Floats, without: Floats
) -> tuple[Floats, Floats]:
    """[A / (A+B+O⁻), (A+O⁺) / (A+B+O⁺)]; 0/0 gives [0, 1].

    `closed_with` is A and `closed` A + B, where B is the closed mass without the row; `could` is O⁺, the open mass that
    can end with the row, and `without` O⁻, the open mass that can end without it."""
    return _ratio(closed_with, closed + without, 0.0), _ratio(closed_with + could, closed + could, 1.0)


def _ratio(numerator: Floats, denominator: Floats, if_zero: float) -> Floats:
    return np.divide(numerator, denominator, out=np.full_like(numerator, if_zero), where=denominator > 0)


def point_in(lower: Floats, upper: Floats) -> Floats:
    """The point estimate lower / (1 − (upper − lower)), which lies within the bounds; ½ where nothing is known.

    It is the row's share of the mass that is decided, `lower` with it and 1 − `upper` without it."""
    decided = 1.0 - (upper - lower)
    point = np.divide(lower, decided, out=np.full_like(lower, 0.5), where=decided > 1e-12)
    return np.clip(point, lower, upper)


@lru_cache(maxsize=65536)
def _open_rows(done: int, could: int, without: int, undecided: int, rows: int) -> Floats:
    """(4, rows): the masks as 0/1 vectors, in the order of Moves.open_rows."""
    vectors = np.stack([row_vector(mask, rows) for mask in (done, could, without, undecided)])
    vectors.setflags(write=False)
    return vectors


@lru_cache(maxsize=65536)
def row_vector(mask: int, rows: int) -> Floats:
    """(rows,): the bit mask as a 0/1 vector, read-only."""
    vector = np.array([mask >> row & 1 for row in range(rows)], dtype=float)
    vector.setflags(write=False)
    return vector

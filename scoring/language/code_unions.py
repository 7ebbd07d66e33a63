"""An answer language whose rows are unions of codes, verdict and hidden rows: a row is complete when any of them is.

The masks of a union do not follow from those of its codes. Where a prefix can end without A and can end without B, it
may still be unable to end without both; and a prefix that one reading understands as A and another as B has completed
the union, but neither code. So the masks are computed from the readings of the prefix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np

from marginalia.scoring.language.answer_language import (
    AnswerLanguage,
    Floats,
    Piece,
    State,
    _Codes,
    _optional,
    _Reading,
    _texts,
)


class UnionState(State):
    """A state whose masks have one bit per union."""

    _language: UnionLanguage

    @cached_property
    def of_codes(self) -> State:
        """The same state with one row per code."""
        return self._language.of_codes._state(self._readings)

    @cached_property
    def done(self) -> int:
        """Rows that are complete: every reading has completed a code of theirs."""
        return self._mask(all(reading.used & union for reading in self._readings) for union in self._language.unions)

    @cached_property
    def could(self) -> int:
        """Rows that are not done and that an answer in the language can still complete."""
        codes = 0
        for reading in self._readings:
            codes |= reading.used | self._language._could(reading)
        return self._mask(bool(codes & union) for union in self._language.unions) & ~self.done

    @cached_property
    def without(self) -> int:
        """Rows that an answer in the language can still end without: without any of their codes."""
        return self._mask(
            any(self._language.can_end_without(reading, union) for reading in self._readings)
            for union in self._language.unions
        )

    @cached_property
    def accepted(self) -> int | None:
        """The rows of the answer that ends here; None where no answer may end."""
        codes = self.of_codes.accepted
        return None if codes is None else self._mask(bool(codes & union) for union in self._language.unions)

    def _mask(self, bits: Iterable[bool]) -> int:
        return sum(1 << row for row, bit in enumerate(bits) if bit)


class UnionLanguage(AnswerLanguage):
    """The answers of `language`, which has one row per code, with one row per mask of `unions`: the labels, the
    verdict, and the hidden rows of `language`.

    A mask has the bits of code numbers, that of the verdict after them, and those of the hidden rows. The union of no
    codes is never complete."""

    def __init__(self, language: AnswerLanguage, unions: Sequence[int]) -> None:
        super().__init__(language.codes, language.alternatives, scales=language.scales, specials=language.specials)
        self._of_codes = language
        self._unions = tuple(unions)
        self.rows = len(self._unions)
        members = [[union >> code & 1 for union in self._unions] for code in range(self.code_rows)]
        self._members = np.array(members, dtype=float)  # (codes, verdict and hidden rows; rows)

    @property
    def of_codes(self) -> AnswerLanguage:
        """The same answers with one row per code."""
        return self._of_codes

    @property
    def unions(self) -> tuple[int, ...]:
        """Of each row, the mask of what completes it."""
        return self._unions

    def rows_of(self, code: int) -> tuple[int, ...]:
        """The rows that the code (or, after the last one, the verdict or hidden row) with this number completes."""
        return tuple(row for row, union in enumerate(self._unions) if union >> code & 1)

    def rows_of_codes(self, codes: Floats) -> Floats:
        """(…, rows) as 0/1, from (…, codes, verdict and hidden rows) as 0/1."""
        rows: Floats = np.minimum(codes @ self._members, 1.0)
        return rows

    def decided(self, symbols: Sequence[int], *, ended: bool) -> dict[int, int]:
        """Code → the offset in `symbols` where it ends, see AnswerLanguage; `rows_of` gives the rows of a code."""
        return self._of_codes.decided(symbols, ended=ended)

    def _new_state(self, readings: frozenset[_Reading]) -> State:
        return UnionState(self, readings)

    def can_end_without(self, at: _Reading, union: int) -> bool:
        """Whether an answer can still end without any code of the union from this reading on."""
        if at.used & union:
            return False
        pieces = self.alternatives[at.alternative][at.piece :]
        lists = self._lists[at.alternative][at.piece :]
        return all(
            self._avoids(piece, codes, at, union, begun=index == 0)
            for index, (piece, codes) in enumerate(zip(pieces, lists, strict=True))
        )

    def _avoids(self, piece: Piece, codes: _Codes | None, at: _Reading, union: int, *, begun: bool) -> bool:
        """Whether the piece can be written without a code of the union. `codes`: those of a list; `begun`: it is the
        piece that is being read."""
        if codes is None:
            if begun and at.option >= 0:
                return not _texts(piece)[at.option].completes & union
            return _optional(piece) or any(not text.completes & union for text in _texts(piece))
        unused = codes.labels & ~at.used
        if not begun:
            return bool(unused & ~union)
        if at.separator >= 0:  # completes the pending label, and another one must follow
            pending = 1 << at.pending
            return not pending & union and bool(unused & ~pending & ~union)
        return bool(codes.under[at.position] & unused & ~union)

"""The estimators of unions of codes by enumeration of every answer, as tests/scoring/enumeration.py does for codes."""

from __future__ import annotations

from collections.abc import Sequence

from tests.scoring.enumeration import Enumeration, Reading
from tests.scoring.hashed import HashedModel

Union = frozenset[int]  # of code numbers; that of the verdict follows the codes


class UnionEnumeration(Enumeration):
    """The rows are `unions`: a row is complete when any of its codes is."""

    def __init__(self, model: HashedModel, readings: Sequence[Reading], rows: int, unions: Sequence[Union]) -> None:
        super().__init__(model, readings, rows)
        self.codes = Enumeration(model, readings, rows)
        self.unions, self.rows = unions, len(unions)
        self.final = {text: self._hit(codes) for text, codes in self.codes.final.items()}
        self.done = {}
        for reading in readings:
            for stop in range(len(reading.text) + 1):
                rows_of_prefix = self._hit({row for row, at in reading.complete.items() if at <= stop})
                prefix = reading.text[:stop]
                self.done[prefix] = self.done.get(prefix, rows_of_prefix) & rows_of_prefix

    def _hit(self, codes: set[int] | frozenset[int]) -> frozenset[int]:
        return frozenset(row for row, union in enumerate(self.unions) if union & codes)

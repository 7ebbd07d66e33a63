"""The estimators of unions of codes by enumeration of every answer, as tests/scoring/enumeration.py does for codes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from tests.scoring.enumeration import Enumeration, Reading
from tests.scoring.hashed import Floats, HashedModel

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

    def along(self, *, constrained: bool) -> list[dict[str, Floats]]:
        """greedy, conditional and joint: of the first code of a union in the greedy answer, for each reading of it."""
        steps, text, ended, reach = self.codes.greedy(constrained=constrained)
        completed = self.codes.final[text] if ended else self.codes.done[text]
        result = []
        for reading in self.readings:
            fits = reading.text == text if ended else reading.text.startswith(text)
            if not fits or not completed <= reading.complete.keys():
                continue
            tables = {name: np.zeros(self.rows) for name in ("greedy", "conditional", "joint")}
            start, product = 0, 1.0
            for end, codes in itertools.groupby(
                sorted(completed, key=reading.ends.__getitem__), key=reading.ends.__getitem__
            ):
                stop = next(number for number, at in enumerate(reach) if at >= end) + 1
                conditional = math.prod(steps[start:stop])
                start, product = max(start, stop), product * conditional
                for row in self._hit(set(codes)):
                    if not tables["greedy"][row]:
                        tables["greedy"][row] = 1.0
                        tables["conditional"][row], tables["joint"][row] = conditional, product
            result.append(tables)
        return result

    def over_steps(self) -> Floats:
        """max_over_steps: the largest probability, at the start and wherever the greedy answer has completed a code,
        that the next code to be completed is one of the union's."""
        path: tuple[int, ...] = ()
        text = b""
        largest = self._next_row(path, text)
        while True:
            best = int(self.model.log_probabilities(path).argmax())
            moves = self.moves(text)
            if best not in moves:
                return largest
            before, path, text = self.codes.done[text], (*path, best), moves[best]
            if self.codes.done[text] - before:
                largest = np.maximum(largest, self._next_row(path, text))

    def _next_row(self, start: tuple[int, ...], begun: bytes) -> Floats:
        result = np.zeros(self.rows)
        waiting = [(start, begun, 1.0)]
        before = self.codes.done[begun]
        while waiting:
            path, text, probability = waiting.pop()
            probabilities = np.exp(self.model.log_probabilities(path))
            if text in self.codes.final:
                ended = sum(float(probabilities[end]) for end in self.model.end_ids)
                result[list(self._hit(self.codes.final[text] - before))] += probability * ended
            for token, after in self.moves(text).items():
                share = probability * float(probabilities[token])
                if new := self.codes.done[after] - before:
                    result[list(self._hit(new))] += share
                elif self.codes.possible(after) - before:
                    waiting.append(((*path, token), after, share))
        return result

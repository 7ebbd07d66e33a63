"""The estimators by enumeration of every reading of every answer, and of every token sequence that spells one.

It is written from their definitions and the format of guard files, and shares no code with the automaton or the
search."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.scoring.hashed import Floats, HashedModel


@dataclass(frozen=True)
class Reading:
    """One way to write one answer. `complete`: row → how many bytes must have been written for it to be complete
    (infinity: only the end completes it). `ends`: row → where its code or word ends."""

    text: bytes
    complete: dict[int, float]
    ends: dict[int, int]


def readings(answer: list[list[Any]], codes: Sequence[str]) -> Iterator[Reading]:
    """Of the `answer` of a guard file whose labels l0, l1 … have these codes; the verdict's row is the last."""
    for pieces in answer:
        for chosen in itertools.product(*(_ways(piece, codes) for piece in pieces)):
            text, complete, ends = b"", {}, {}
            parts = [part for way in chosen for part in way if part[0]]
            for number, (written, rows, is_code) in enumerate(parts):
                text += written.encode()
                for row in rows:
                    ends.setdefault(row, len(text))
                    complete.setdefault(row, len(text) + _after(parts[number + 1 :]) if is_code else len(text))
            yield Reading(text, complete, ends)


Part = tuple[str, list[int], bool]  # text, the rows it completes, whether it is a label's code in a list


def _ways(piece: Any, codes: Sequence[str]) -> list[list[Part]]:
    if isinstance(piece, str):
        return [[(piece, [], False)]]
    if "space" in piece:
        return [[(text, [], False)] for text in ["", *piece["space"]]]
    if "any" in piece:
        return [way for option in piece["any"] for way in _ways(option, codes)]
    if "verdict" in piece:
        return [[(piece["verdict"], [len(codes)], False)]]
    if "word" in piece:
        rows = [len(codes) if row == "unsafe" else int(row[1:]) for row in piece["rows"]]
        return [[(piece["word"], rows, False)]]
    result = []
    for size in range(1, len(codes) + 1 if piece["labels"] else 2):
        for chosen in itertools.permutations(range(len(codes)), size):
            for between in itertools.product(piece["labels"], repeat=size - 1):
                listed: list[Part] = [(codes[chosen[0]], [chosen[0]], True)]
                for separator, label in zip(between, chosen[1:], strict=True):
                    listed += [(separator, [-1], False), (codes[label], [label], True)]
                result.append(listed)
    return result


def _after(parts: list[Part]) -> float:
    """What must follow a code before it is complete: its whole separator, the next piece's first byte, or the end."""
    if not parts:
        return math.inf
    separator = parts[0][1] == [-1]
    return len(parts[0][0].encode()) if separator else 1


class Enumeration:
    """The estimators of `model` by enumeration of all answers. Of several readings of an answer the one with the fewest
    codes counts."""

    def __init__(self, model: HashedModel, all_readings: Sequence[Reading], rows: int) -> None:
        self.model, self.rows, self.readings = model, rows, all_readings
        self.codes: Enumeration = self  # the same with one row per code
        self.final: dict[bytes, frozenset[int]] = {}
        for reading in all_readings:
            rows = frozenset(reading.complete) - {-1}
            before = self.final.get(reading.text)
            self.final[reading.text] = rows if before is None else min(before, rows, key=lambda s: (len(s), _mask(s)))
        self.done: dict[bytes, frozenset[int]] = {}
        for reading in all_readings:
            for stop in range(len(reading.text) + 1):
                rows = frozenset(row for row, at in reading.complete.items() if at <= stop) - {-1}
                prefix = reading.text[:stop]
                self.done[prefix] = self.done.get(prefix, rows) & rows

    def moves(self, text: bytes) -> dict[int, bytes]:
        """Token → the text after it, for the tokens that keep this text inside the language."""
        texts = self.model.vocabulary.texts
        return {
            token: text + more
            for token, more in texts.items()
            if token not in self.model.end_ids and text + more in self.done
        }

    def possible(self, text: bytes) -> frozenset[int]:
        """The rows of all answers that start with this text."""
        return frozenset().union(*(rows for answer, rows in self.final.items() if answer.startswith(text)))

    def run(self) -> dict[str, Floats | float]:
        """The three marginals, and `off`, the mass off the language."""
        raw, inside, constrained = np.zeros(self.rows), np.zeros(self.rows), np.zeros(self.rows)
        closed = off = 0.0
        waiting: list[tuple[tuple[int, ...], bytes, float, float]] = [((), b"", 1.0, 1.0)]
        while waiting:
            path, text, mass, share = waiting.pop()
            probabilities = np.exp(self.model.log_probabilities(path))
            moves = self.moves(text)
            ends = [float(probabilities[end]) for end in self.model.end_ids] if text in self.final else []
            total = math.fsum([*(float(probabilities[token]) for token in moves), *ends])
            off += mass * (1 - total)
            raw[list(self.done[text])] += mass * (1 - total)
            for ended in ends:
                rows = list(self.final[text])
                closed += mass * ended
                raw[rows] += mass * ended
                inside[rows] += mass * ended
                constrained[rows] += share * ended / total
            for token, after in moves.items():
                step = float(probabilities[token])
                waiting.append(((*path, token), after, mass * step, share * step / total))
        result = {"marginal": raw, "marginal_in_language": inside / closed, "marginal_constrained": constrained}
        return {**result, "off": off}

    def greedy(self, *, constrained: bool) -> tuple[list[float], bytes, bool, list[int]]:
        """(probability of each step, text inside the language, whether it ended, how far each token reaches)."""
        path: list[int] = []
        text, steps, reach = b"", [], []
        while True:
            probabilities = np.exp(self.model.log_probabilities(path))
            moves, ends = self.moves(text), list(self.model.end_ids) if text in self.final else []
            if constrained:
                allowed = np.zeros_like(probabilities)
                allowed[[*moves, *ends]] = probabilities[[*moves, *ends]]
                probabilities = allowed / allowed.sum()
            best = int(probabilities.argmax())
            steps.append(float(probabilities[best]))
            if best not in moves:
                return steps, text, best in ends, reach
            path.append(best)
            text = moves[best]
            reach.append(len(text))

    def _hit(self, codes: set[int] | frozenset[int]) -> frozenset[int]:
        """The rows that these codes complete."""
        return frozenset(codes)

    def over_steps(self) -> Floats:
        """max_over_steps: of each row, the largest probability that the next code to be completed is one of the row's,
        at the start and wherever the greedy answer has completed a code."""
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
        """Of each row, the probability that one of its codes is the next to be completed after this prefix."""
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

    def along(self, *, constrained: bool) -> list[dict[str, Floats]]:
        """greedy, conditional and joint, of the first code of each row in the greedy answer, for each reading that
        explains it."""
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


def _mask(rows: frozenset[int]) -> int:
    return sum(1 << row for row in rows)

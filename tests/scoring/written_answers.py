"""Every answer that a guard file describes, written out from its YAML, and the estimators of a model by summing over
all token sequences that spell one.

It is written from the table of pieces in scoring/guards/README.md and shares no code with the compiler, the automaton
or the search. A text is a tuple of bytes (numbers) and special tokens (their texts)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Text = tuple[int | str, ...]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """A stretch of an answer. `rows`: what it completes; `counts`: the codes, rows of words and steps that these are;
    `value`: (name, value) of an ordered answer; `kind`: a word completes its rows at its end, a code when more follows
    or the answer ends, and a separator is part of what must follow."""

    text: Text
    rows: frozenset[str] = frozenset()
    value: tuple[str, int] | None = None
    kind: str = "word"
    counts: frozenset[tuple[Any, ...]] = frozenset()


@dataclass(frozen=True)
class Answer:
    """One way to write one answer. `complete`: [(from how many symbols on, rows, value)]."""

    text: Text
    complete: tuple[tuple[float, frozenset[str], tuple[str, int] | None], ...]
    counts: int


class Model(Protocol):
    """What the sums need of a model: next-token log-probabilities, the symbols of its tokens, and its end tokens."""

    end_ids: tuple[int, ...]

    def log_probabilities(self, path: Sequence[int]) -> Floats: ...


def answers(guard: Mapping[str, Any]) -> Iterator[Answer]:
    """Of the content of a guard file with `labels`."""
    lists = [piece for piece in _pieces(guard["answer"]) if "labels" in piece]
    by_words = {row for piece in _pieces(guard["answer"]) if "labels" not in piece for row in piece.get("rows", ())}
    by_lists = {row for piece in lists for row in piece.get("rows", ())}
    rest = [label for label in guard["labels"] if label not in by_words | by_lists]
    for alternative in guard["answer"]:
        for parts in _sequence(alternative, guard["labels"], rest):
            yield _joined([part for part in parts if part.text])


def _pieces(answer: Any) -> Iterator[dict[str, Any]]:
    """Every piece with keys, at any depth."""
    if isinstance(answer, dict):
        yield answer
        answer = [*answer.get("any", ()), *answer.get("optional", ())]
    for part in answer if isinstance(answer, list) else ():
        yield from _pieces(part)


def _sequence(pieces: list[Any], labels: Mapping[str, str], rest: list[str]) -> Iterator[list[Part]]:
    for ways in itertools.product(*(_ways(piece, labels, rest) for piece in pieces)):
        yield [part for way in ways for part in way]


def _ways(piece: Any, labels: Mapping[str, str], rest: list[str]) -> list[list[Part]]:
    if isinstance(piece, str):
        return [[Part(_plain(piece))]]
    if "space" in piece:
        return [[], *([Part(_plain(text))] for text in piece["space"])]
    if "optional" in piece:
        return [[], *_sequence(piece["optional"], labels, rest)]
    if "any" in piece:
        options = [option if isinstance(option, list) else [option] for option in piece["any"]]
        return [way for option in options for way in _sequence(option, labels, rest)]
    if "verdict" in piece:
        return [[Part(_plain(piece["verdict"]), frozenset({"unsafe"}), counts=frozenset({("unsafe",)}))]]
    if "word" in piece or "token" in piece:
        text = _plain(piece["word"]) if "word" in piece else (piece["token"],)
        rows = frozenset(piece.get("rows", ()))
        return [[Part(text, rows, counts=frozenset((row,) for row in rows))]]
    if "levels" in piece or "integers" in piece:
        return [[part] for part in _values(piece)]
    return list(_listed(piece, labels, rest))


def _values(piece: Mapping[str, Any]) -> Iterator[Part]:
    if "levels" in piece:
        texts = [(text["token"],) if isinstance(text, dict) else _plain(text) for text in piece["levels"]]
        numbered = list(enumerate(texts))
    else:
        numbered = [(number, _plain(str(number))) for number in range(piece["integers"][0], piece["integers"][1] + 1)]
    for value, text in numbered:
        rows = frozenset(row for row, threshold in piece.get("rows", {}).items() if value >= threshold)
        steps = {(piece["name"], step) for step in range(numbered[0][0], value)}
        yield Part(text, rows, (piece["name"], value), counts=frozenset(steps | {(row,) for row in rows}))


def _listed(piece: Mapping[str, Any], labels: Mapping[str, str], rest: list[str]) -> Iterator[list[Part]]:
    members = piece.get("rows", rest)
    implied = frozenset(piece.get("implies", ()))
    for size in range(1, len(members) + 1 if piece["labels"] else 2):
        for chosen in itertools.permutations(members, size):
            for between in itertools.product(piece["labels"], repeat=size - 1):
                parts = []
                for label, separator in itertools.zip_longest(chosen, between):
                    counts = frozenset({("code", id(piece), label)})
                    parts.append(Part(_plain(labels[label]), implied | {label}, kind="code", counts=counts))
                    parts += [] if separator is None else [Part(_plain(separator), kind="separator")]
                yield parts


def _plain(text: str) -> Text:
    return tuple(text.encode())


def _joined(parts: list[Part]) -> Answer:
    text: Text = ()
    complete: list[tuple[float, frozenset[str], tuple[str, int] | None]] = []
    for number, part in enumerate(parts):
        text += part.text
        at: float = len(text)
        if part.kind == "code":
            after = parts[number + 1] if number + 1 < len(parts) else None
            at = math.inf if after is None else at + (len(after.text) if after.kind == "separator" else 1)
        complete.append((at, part.rows, part.value))
    return Answer(text, tuple(complete), len(frozenset().union(*(part.counts for part in parts))))


class Sums:
    """The exact estimates. `rows`: of the results, in their order; `unions`: row → the guard's own rows of which any
    completes it, default itself. `lowest`: name → lowest value of each ordered answer."""

    def __init__(
        self,
        guard: Mapping[str, Any],
        symbols: Mapping[int, Text],
        unions: Mapping[str, frozenset[str]],
    ) -> None:
        self.symbols, self.unions = symbols, unions
        self.lowest = {
            piece["name"]: 0 if "levels" in piece else piece["integers"][0]
            for piece in _pieces(guard["answer"])
            if "name" in piece
        }
        self.final: dict[Text, tuple[frozenset[str], dict[str, int]]] = {}
        self.done: dict[Text, tuple[frozenset[str], dict[str, int]]] = {}
        fewest: dict[Text, int] = {}
        for answer in answers(guard):
            for stop in range(len(answer.text) + 1):
                seen = self._at(answer, stop)
                before = self.done.get(answer.text[:stop], seen)
                values = {name: min(value, before[1][name]) for name, value in seen[1].items()}
                self.done[answer.text[:stop]] = before[0] & seen[0], values
            ended = self._at(answer, math.inf)
            if answer.text not in fewest or answer.counts < fewest[answer.text]:
                fewest[answer.text], self.final[answer.text] = answer.counts, ended
            elif answer.counts == fewest[answer.text]:
                assert self.final[answer.text] == ended, "two readings of an answer: write another example"

    def _at(self, answer: Answer, stop: float) -> tuple[frozenset[str], dict[str, int]]:
        completed = [(rows, value) for at, rows, value in answer.complete if at <= stop]
        own = frozenset().union(*(rows for rows, _ in completed))
        values = {**self.lowest, **dict(value for _, value in completed if value is not None)}
        return frozenset(row for row, union in self.unions.items() if union & own), values

    def run(self, model: Model) -> dict[str, Any]:
        """Estimator → row → probability, and ("levels", estimator) → name → expected value; `off`: what left."""
        rows = list(self.unions)
        exits: list[tuple[float, float, float, frozenset[str], dict[str, int]]] = []  # raw, closed, constrained
        off = 0.0
        waiting: list[tuple[tuple[int, ...], Text, float, float]] = [((), (), 1.0, 1.0)]
        while waiting:
            path, text, mass, share = waiting.pop()
            probabilities = np.exp(model.log_probabilities(path))
            moves = {
                token: text + more
                for token, more in self.symbols.items()
                if token not in model.end_ids and text + more in self.done
            }
            ended = sum(float(probabilities[end]) for end in model.end_ids) if text in self.final else 0.0
            total = math.fsum([*(float(probabilities[token]) for token in moves), ended])
            off += mass * (1 - total)
            exits.append((mass * (1 - total), 0.0, 0.0, *self.done[text]))
            if text in self.final:
                exits.append((mass * ended, mass * ended, share * ended / total, *self.final[text]))
            for token, after in moves.items():
                step = float(probabilities[token])
                waiting.append(((*path, token), after, mass * step, share * step / total))
        closed = math.fsum(inside for _, inside, _, _, _ in exits)
        weights = {
            "marginal": [raw for raw, _, _, _, _ in exits],
            "marginal_in_language": [inside / closed for _, inside, _, _, _ in exits],
            "marginal_constrained": [constrained for _, _, constrained, _, _ in exits],
        }
        found: dict[str, Any] = {"off": off}
        for estimator, shares in weights.items():
            kept = list(zip(shares, exits, strict=True))
            found[estimator] = np.array([math.fsum(share for share, at in kept if row in at[3]) for row in rows])
            found["levels", estimator] = {
                name: math.fsum(share * at[4][name] for share, at in kept) for name in self.lowest
            }
        return found

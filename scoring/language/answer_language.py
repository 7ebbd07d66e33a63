"""The answer language: the set of texts that a guard may answer, as an automaton over bytes.

An answer is one of a few alternatives, each a sequence of pieces: fixed text (words that complete rows among them: a
verdict, or a yes after a label's name), one of several texts or none of them, and at most one list of label codes, at
least one, each at most once, in any order. Where texts are ambiguous (a code that holds the separator), all readings
are followed side by side; a row counts as complete when every surviving reading has completed it, and an answer that
ends in two readings means the one with fewer codes (the longest match).

Rows are numbered: one bit for each label in order, then the verdict's. Masks over rows are Python ints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from marginalia.schemas.errors import InputError

MOST_PIECES = 200  # of one alternative: they are read by recursion
MOST_READINGS = 1_000  # of one text; twenty choices between equal texts for different rows would have a million
MOST_STATES = 200_000  # in memory, about 200 MB; further ones replace them


@dataclass(frozen=True)
class Text:
    """Fixed text; `row` and the rows `also` are completed by its last byte."""

    text: bytes
    row: int | None = None
    also: tuple[int, ...] = ()

    @cached_property
    def completes(self) -> int:
        """The mask of the rows that the text completes."""
        mask = 0 if self.row is None else 1 << self.row
        for row in self.also:
            mask |= 1 << row
        return mask


@dataclass(frozen=True)
class OneOf:
    """One of several texts; nothing at all where it is `optional`."""

    texts: tuple[Text, ...]
    optional: bool


@dataclass(frozen=True)
class LabelList:
    """Codes with one of `separators` between them. Without separators just one code may stand there."""

    separators: tuple[bytes, ...]


Piece = Text | OneOf | LabelList


class _Reading(NamedTuple):
    """One way to read a prefix. `place` is the offset in the text or separator under way; in a label list otherwise a
    trie node."""

    alternative: int
    piece: int
    place: int
    used: int  # rows completed so far
    separator: int = -1  # index of the separator under way
    pending: int = -1  # label that the separator under way will complete
    option: int = -1  # index of the one under way of several texts


class State:
    """A prefix of answers, up to what can still follow. States of equal meaning are the same object.

    `done`: rows that are complete. `could`: rows not done that an answer in the language can still complete.
    `without`: rows that an answer in the language can still end without. `accepted`: the rows of the answer if it ended
    here, None where it may not."""

    def __init__(self, language: AnswerLanguage, readings: frozenset[_Reading]) -> None:
        self._language = language
        self._readings = readings
        self._next: dict[int, State | None] = {}

    def step(self, byte: int) -> State | None:
        """The state after one more byte, None when no answer continues so."""
        if byte not in self._next:
            after = frozenset(new for old in self._readings for new in self._language._read(old, byte))
            self._next[byte] = self._language._state(after) if after else None
        return self._next[byte]

    @cached_property
    def done(self) -> int:
        done = -1
        for reading in self._readings:
            done &= reading.used
        return done

    @cached_property
    def could(self) -> int:
        could = 0
        for reading in self._readings:
            # what one reading has completed and another has not is still open
            could |= reading.used | self._language._could(reading)
        return could & ~self.done

    @cached_property
    def without(self) -> int:
        without = 0
        for reading in self._readings:
            without |= self._language._without(reading)
        return without

    @cached_property
    def undecided(self) -> int:
        """Rows that an answer in the language can still end with or without."""
        return (self.done | self.could) & self.without

    @cached_property
    def accepted(self) -> int | None:
        masks = [mask for reading in self._readings if (mask := self._language._accepts(reading)) is not None]
        return min(masks, key=_fewest) if masks else None


class AnswerLanguage:
    """The language of `alternatives` over `codes`. `rows` is len(codes) + 1; the last row is the verdict's.

    A label that a Text completes does not stand in the list of labels; its code is that text, and may be another's too.
    Raises ValueError when a listed code is empty or repeated, or a list of labels is followed by another."""

    def __init__(self, codes: Sequence[str], alternatives: Sequence[Sequence[Piece]]) -> None:
        self.codes = tuple(codes)
        self.rows = len(codes) + 1
        self.alternatives = tuple(tuple(pieces) for pieces in alternatives)
        worded = 0
        for text in (text for pieces in self.alternatives for piece in pieces for text in _texts(piece)):
            worded |= text.completes
        self._all_labels = ((1 << len(codes)) - 1) & ~worded  # those that stand in the list
        self._check()
        self._build_trie()
        self._states: dict[frozenset[_Reading], State] = {}
        self.start = self._state(frozenset(_Reading(index, 0, 0, 0) for index in range(len(self.alternatives))))

    @property
    def verdict(self) -> int:
        """The number of the verdict's row."""
        return len(self.codes)

    def bytes_used(self) -> set[int]:
        """Every byte that an answer can hold."""
        used = set("".join(self._listed().values()).encode())
        for pieces in self.alternatives:
            for piece in pieces:
                used.update(*(text.text for text in _texts(piece)))
                used.update(*(piece.separators if isinstance(piece, LabelList) else ()))
        return used

    def walk(self, text: bytes) -> list[State]:
        """The states after 0, 1, … bytes of `text`, as far as it stays inside the language."""
        states = [self.start]
        for byte in text:
            after = states[-1].step(byte)
            if after is None:
                break
            states.append(after)
        return states

    def decided(self, text: bytes, *, ended: bool) -> dict[int, int]:
        """Row → the offset in `text` where its code or word ends, for the rows that are complete there, or that the
        answer has when it has `ended`. A label's end stands before the separator that completed it."""
        histories: dict[_Reading, dict[int, int]] = {
            _Reading(index, 0, 0, 0): {} for index in range(len(self.alternatives))
        }
        for offset, byte in enumerate(text):
            after: dict[_Reading, dict[int, int]] = {}
            for old, ends in histories.items():
                for new in self._read(old, byte):
                    after.setdefault(new, {**ends, **self._ends_of(old, new, offset)})
            histories = after
        state = self._state(frozenset(histories))
        if not ended:
            ends = histories[min(histories)]
            return {row: end for row, end in ends.items() if state.done >> row & 1}
        accepting = [reading for reading in histories if self._accepts(reading) == state.accepted]
        last = min(accepting)
        label = self._finished(last) if last.piece < len(self.alternatives[last.alternative]) else -1
        return {**histories[last], **({label: len(text)} if label >= 0 else {})}

    def _ends_of(self, old: _Reading, new: _Reading, offset: int) -> dict[int, int]:
        """Rows whose end the byte at `offset` shows: labels end before it, words with it."""
        if new.separator >= 0:
            return {} if old.separator >= 0 else {new.pending: offset}
        fresh = new.used & ~old.used & ~(1 << old.pending if old.separator >= 0 else 0)
        rows = [row for row in range(self.rows) if fresh >> row & 1]
        return {row: offset if self._all_labels >> row & 1 else offset + 1 for row in rows}

    def _listed(self) -> dict[int, str]:
        return {label: code for label, code in enumerate(self.codes) if self._all_labels >> label & 1}

    def _check(self) -> None:
        listed = list(self._listed().values())
        if len(set(listed)) < len(listed) or not all(self.codes):
            raise ValueError("label codes must be non-empty and differ")
        for pieces in self.alternatives:
            if all(map(_optional, pieces)) or sum(isinstance(piece, LabelList) for piece in pieces) > 1:
                raise ValueError("an alternative needs at least one piece and at most one list of labels")
            if len(pieces) > MOST_PIECES:
                raise ValueError(f"an alternative has {len(pieces)} pieces, and may have {MOST_PIECES}")
            if any(not text.text for piece in pieces for text in _texts(piece)):
                raise ValueError("a piece of text must not be empty")
            if any(isinstance(piece, LabelList) and not all(piece.separators) for piece in pieces):
                raise ValueError("a separator between label codes must not be empty")

    def _build_trie(self) -> None:
        self._children: list[dict[int, int]] = [{}]
        self._under: list[int] = [0]  # labels whose code passes through the node
        self._ends: list[int] = [-1]  # the label whose code ends at the node
        for label, code in self._listed().items():
            node = 0
            self._under[0] |= 1 << label
            for byte in code.encode():
                if byte not in self._children[node]:
                    self._children[node][byte] = len(self._children)
                    self._children.append({})
                    self._under.append(0)
                    self._ends.append(-1)
                node = self._children[node][byte]
                self._under[node] |= 1 << label
            self._ends[node] = label

    def _state(self, readings: frozenset[_Reading]) -> State:
        if readings not in self._states:
            if len(readings) > MOST_READINGS:
                raise InputError(
                    f"the guard file's 'answer' is ambiguous: the same text can be read in more than {MOST_READINGS:,} "
                    "ways",
                    hint="do not use the same text for different rows; scoring/guards/README.md explains the keys",
                )
            if len(self._states) >= MOST_STATES:
                self._states = {self.start._readings: self.start}
                self.start._next.clear()  # the start leads to all others
            self._states[readings] = State(self, readings)
        return self._states[readings]

    def _read(self, at: _Reading, byte: int) -> list[_Reading]:
        pieces = self.alternatives[at.alternative]
        if at.piece == len(pieces):
            return []
        piece = pieces[at.piece]
        if isinstance(piece, Text):
            return self._read_text(at, piece, byte)
        if isinstance(piece, OneOf):
            return self._read_one(at, piece, byte)
        if at.separator >= 0:
            return self._read_separator(at, piece.separators[at.separator], byte)
        return self._read_label(at, piece, byte)

    def _read_text(self, at: _Reading, piece: Text, byte: int) -> list[_Reading]:
        if piece.text[at.place] != byte:
            return []
        if at.place + 1 < len(piece.text):
            return [at._replace(place=at.place + 1)]
        return [_Reading(at.alternative, at.piece + 1, 0, at.used | piece.completes)]

    def _read_one(self, at: _Reading, piece: OneOf, byte: int) -> list[_Reading]:
        if at.option >= 0:
            return self._read_text(at, piece.texts[at.option], byte)
        after = [
            new
            for option, text in enumerate(piece.texts)
            for new in self._read_text(at._replace(option=option), text, byte)
        ]
        return after + (self._read(at._replace(piece=at.piece + 1), byte) if piece.optional else [])

    def _read_separator(self, at: _Reading, separator: bytes, byte: int) -> list[_Reading]:
        if separator[at.place] != byte:
            return []
        if at.place + 1 < len(separator):
            return [at._replace(place=at.place + 1)]
        return [_Reading(at.alternative, at.piece, 0, at.used | 1 << at.pending)]

    def _read_label(self, at: _Reading, piece: LabelList, byte: int) -> list[_Reading]:
        after = []
        child = self._children[at.place].get(byte)
        # a used code must be blocked on the way too: after S1, the prefix S1 lives on only while S10 is unused
        if child is not None and self._under[child] & ~at.used:
            after.append(at._replace(place=child))
        label = self._finished(at)
        if label < 0:
            return after
        used = at.used | 1 << label
        if self._all_labels & ~used:  # a separator promises one more code
            for index, separator in enumerate(piece.separators):
                if separator[0] == byte and len(separator) == 1:
                    after.append(at._replace(place=0, used=used))
                elif separator[0] == byte:
                    after.append(at._replace(place=1, separator=index, pending=label))
        if at.piece + 1 < len(self.alternatives[at.alternative]):
            after += self._read(_Reading(at.alternative, at.piece + 1, 0, used), byte)
        return after

    def _finished(self, at: _Reading) -> int:
        """The unused label whose whole code has just been read, else -1."""
        label = self._ends[at.place] if at.separator < 0 else -1
        return label if label >= 0 and not at.used >> label & 1 else -1

    def _accepts(self, at: _Reading) -> int | None:
        pieces = self.alternatives[at.alternative]
        here = at.piece
        used = at.used
        if here < len(pieces) and isinstance(pieces[here], LabelList):
            label = self._finished(at)
            if label < 0:
                return None
            here, used = here + 1, used | 1 << label
        return used if at.option < 0 and all(map(_optional, pieces[here:])) else None

    def _could(self, at: _Reading) -> int:
        could = 0
        for index, piece in enumerate(self.alternatives[at.alternative][at.piece :]):
            if not isinstance(piece, LabelList):
                for text in _texts(piece) if index or at.option < 0 else (_texts(piece)[at.option],):
                    could |= text.completes
            elif piece.separators or index:
                could |= self._all_labels & ~at.used
            else:
                could |= self._under[at.place] & ~at.used
        return could

    def _without(self, at: _Reading) -> int:
        without = ((1 << self.rows) - 1) & ~at.used
        for index, piece in enumerate(self.alternatives[at.alternative][at.piece :]):
            if not isinstance(piece, LabelList):
                without &= ~_certain(piece, -1 if index else at.option)
                continue
            unused = self._all_labels & ~at.used
            if index:
                here = unused
            elif at.separator >= 0:
                without &= ~(1 << at.pending)
                here = unused & ~(1 << at.pending)
            else:
                here = self._under[at.place] & unused
            if here.bit_count() == 1:  # the only code that can come next
                without &= ~here
        return without


def _texts(piece: Piece) -> tuple[Text, ...]:
    """The texts that may stand for a piece, label codes excepted."""
    return (piece,) if isinstance(piece, Text) else piece.texts if isinstance(piece, OneOf) else ()


def _optional(piece: Piece) -> bool:
    return isinstance(piece, OneOf) and piece.optional


def _certain(piece: Text | OneOf, option: int) -> int:
    """The rows that any text for this piece completes; `option` is the one under way, if any."""
    if option >= 0:
        return _texts(piece)[option].completes
    if _optional(piece):
        return 0
    certain = -1
    for text in _texts(piece):
        certain &= text.completes
    return certain


def _fewest(mask: int) -> tuple[int, int]:
    return mask.bit_count(), mask

"""The answer language: the set of texts that a guard may answer, as an automaton over bytes.

An answer is one of a few alternatives, each a sequence of pieces: fixed text (which may complete rows: a verdict, or a
yes after a label's name), one of several texts or none of them, and at most one list of label codes, with at least one
code, each at most once, in any order. Where a text is ambiguous (a code that contains the separator), all readings are
followed in parallel. A row is complete when every remaining reading has completed it, and an answer with two complete
readings means the one with fewer codes (the longest match).

A row is a label or the verdict. Rows are numbered: the labels in their order, then the verdict. Sets of rows are bit
masks in Python ints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from marginalia.schemas.errors import InputError

Floats = npt.NDArray[np.float64]
MOST_PIECES = 200  # of one alternative: they are read recursively
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
    """Codes with one of `separators` between them; a single code if there are no separators."""

    separators: tuple[bytes, ...]


Piece = Text | OneOf | LabelList


class _Reading(NamedTuple):
    """One way to read a prefix: a position in an alternative, and the rows completed on the way there."""

    alternative: int
    piece: int
    position: int  # bytes read of the current text or separator; in a label's code, a node of the codes' trie
    used: int  # rows completed so far
    separator: int = -1  # index of the separator that is being read
    pending: int = -1  # label that this separator will complete
    option: int = -1  # of several texts, the index of the one that is being read


class State:
    """A state of the automaton: what can follow a prefix of answers. Equal states are the same object."""

    def __init__(self, language: AnswerLanguage, readings: frozenset[_Reading]) -> None:
        self._language = language
        self._readings = readings
        self._next: dict[int, State | None] = {}

    @property
    def language(self) -> AnswerLanguage:
        """The language that it is a state of."""
        return self._language

    @property
    def of_codes(self) -> State:
        """The same state with one row per code, where rows are unions of codes (scoring/language/code_unions.py)."""
        return self

    def step(self, byte: int) -> State | None:
        """The state after one more byte; None when no answer continues with it."""
        if byte not in self._next:
            after = frozenset(new for old in self._readings for new in self._language._read(old, byte))
            self._next[byte] = self._language._state(after) if after else None
        return self._next[byte]

    @cached_property
    def done(self) -> int:
        """Rows that are complete."""
        done = -1
        for reading in self._readings:
            done &= reading.used
        return done

    @cached_property
    def could(self) -> int:
        """Rows that are not done and that an answer in the language can still complete."""
        could = 0
        for reading in self._readings:
            # a row that one reading has completed and another has not is still open
            could |= reading.used | self._language._could(reading)
        return could & ~self.done

    @cached_property
    def without(self) -> int:
        """Rows that an answer in the language can still end without."""
        without = 0
        for reading in self._readings:
            without |= self._language._without(reading)
        return without

    @cached_property
    def undecided(self) -> int:
        """Rows that an answer in the language can still end with, and can still end without."""
        return (self.done | self.could) & self.without

    @cached_property
    def accepted(self) -> int | None:
        """The rows of the answer that ends here; None where no answer may end."""
        masks = [mask for reading in self._readings if (mask := self._language._accepts(reading)) is not None]
        return min(masks, key=_rows_then_mask) if masks else None


class AnswerLanguage:
    """The language of `alternatives` over `codes`. `rows` is len(codes) + 1; the last row is the verdict's.

    A label that a Text completes is not part of a LabelList; its code may be the same as another label's. Raises
    ValueError for codes, alternatives or pieces that no answer language may have: the message says which."""

    def __init__(self, codes: Sequence[str], alternatives: Sequence[Sequence[Piece]]) -> None:
        self.codes = tuple(codes)
        self.code_rows = len(codes) + 1  # one per code, and the verdict's
        self.rows = self.code_rows
        self.alternatives = tuple(tuple(pieces) for pieces in alternatives)
        in_texts = 0
        for text in (text for pieces in self.alternatives for piece in pieces for text in _texts(piece)):
            in_texts |= text.completes
        self._all_labels = ((1 << len(codes)) - 1) & ~in_texts  # those of label lists
        self._check()
        self._build_trie()
        self._states: dict[frozenset[_Reading], State] = {}
        self.start = self._state(frozenset(_Reading(index, 0, 0, 0) for index in range(len(self.alternatives))))

    @property
    def verdict(self) -> int:
        """The number of the verdict's row."""
        return len(self.codes)

    def rows_of(self, code: int) -> tuple[int, ...]:
        """The rows that the code (or, after the last one, the verdict) with this number completes."""
        return (code,)

    def rows_of_codes(self, codes: Floats) -> Floats:
        """(…, rows) as 0/1, from (…, codes and verdict) as 0/1."""
        return codes

    def bytes_used(self) -> set[int]:
        """Every byte that an answer can contain."""
        used = set("".join(self._listed().values()).encode())
        for pieces in self.alternatives:
            for piece in pieces:
                used.update(*(text.text for text in _texts(piece)))
                used.update(*(piece.separators if isinstance(piece, LabelList) else ()))
        return used

    def walk(self, text: bytes) -> list[State]:
        """The states after 0, 1, … bytes of `text`, as far as it stays in the language."""
        states = [self.start]
        for byte in text:
            after = states[-1].step(byte)
            if after is None:
                break
            states.append(after)
        return states

    def decided(self, text: bytes, *, ended: bool) -> dict[int, int]:
        """Row → the byte offset in `text` where its code or word ends; a label's end is before its separator.

        The rows are those that are complete after `text`, or, if the answer has `ended` there, those of the answer."""
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
        """Row → end, of the rows whose end the byte at `offset` shows: labels end before it, words with it."""
        if new.separator >= 0:
            return {} if old.separator >= 0 else {new.pending: offset}
        fresh = new.used & ~old.used & ~(1 << old.pending if old.separator >= 0 else 0)
        rows = [row for row in range(self.code_rows) if fresh >> row & 1]
        return {row: offset if self._all_labels >> row & 1 else offset + 1 for row in rows}

    def _listed(self) -> dict[int, str]:
        """Label → code, of the labels in label lists."""
        return {label: code for label, code in enumerate(self.codes) if self._all_labels >> label & 1}

    def _check(self) -> None:
        listed = list(self._listed().values())
        if len(set(listed)) < len(listed) or not all(self.codes):
            raise ValueError("label codes must be non-empty and differ")
        for pieces in self.alternatives:
            if all(map(_optional, pieces)) or sum(isinstance(piece, LabelList) for piece in pieces) > 1:
                raise ValueError("an alternative needs at least one piece and at most one list of labels")
            if len(pieces) > MOST_PIECES:
                raise ValueError(f"an alternative has {len(pieces)} pieces; at most {MOST_PIECES} are allowed")
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
            self._states[readings] = self._new_state(readings)
        return self._states[readings]

    def _new_state(self, readings: frozenset[_Reading]) -> State:
        return State(self, readings)

    def _read(self, at: _Reading, byte: int) -> list[_Reading]:
        """The readings that one more byte leads to; none when the reading ends."""
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
        if piece.text[at.position] != byte:
            return []
        if at.position + 1 < len(piece.text):
            return [at._replace(position=at.position + 1)]
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
        if separator[at.position] != byte:
            return []
        if at.position + 1 < len(separator):
            return [at._replace(position=at.position + 1)]
        return [_Reading(at.alternative, at.piece, 0, at.used | 1 << at.pending)]

    def _read_label(self, at: _Reading, piece: LabelList, byte: int) -> list[_Reading]:
        after = []
        child = self._children[at.position].get(byte)
        # a used code must be excluded while it is being read, too: S1 may be begun again only while S10 is unused
        if child is not None and self._under[child] & ~at.used:
            after.append(at._replace(position=child))
        label = self._finished(at)
        if label < 0:
            return after
        used = at.used | 1 << label
        if self._all_labels & ~used:  # a separator must be followed by another code
            for index, separator in enumerate(piece.separators):
                if separator[0] == byte and len(separator) == 1:
                    after.append(at._replace(position=0, used=used))
                elif separator[0] == byte:
                    after.append(at._replace(position=1, separator=index, pending=label))
        if at.piece + 1 < len(self.alternatives[at.alternative]):
            after += self._read(_Reading(at.alternative, at.piece + 1, 0, used), byte)
        return after

    def _finished(self, at: _Reading) -> int:
        """The unused label whose whole code has just been read; −1 if there is none."""
        label = self._ends[at.position] if at.separator < 0 else -1
        return label if label >= 0 and not at.used >> label & 1 else -1

    def _accepts(self, at: _Reading) -> int | None:
        """The rows of the answer if it ended at this reading; None where it may not."""
        pieces = self.alternatives[at.alternative]
        index = at.piece
        used = at.used
        if index < len(pieces) and isinstance(pieces[index], LabelList):
            label = self._finished(at)
            if label < 0:
                return None
            index, used = index + 1, used | 1 << label
        return used if at.option < 0 and all(map(_optional, pieces[index:])) else None

    def _could(self, at: _Reading) -> int:
        """Rows that an answer can still complete from this reading on."""
        could = 0
        for index, piece in enumerate(self.alternatives[at.alternative][at.piece :]):
            if not isinstance(piece, LabelList):
                for text in _texts(piece) if index or at.option < 0 else (_texts(piece)[at.option],):
                    could |= text.completes
            elif piece.separators or index:
                could |= self._all_labels & ~at.used
            else:
                could |= self._under[at.position] & ~at.used
        return could

    def _without(self, at: _Reading) -> int:
        """Rows that an answer can still end without from this reading on."""
        without = ((1 << self.code_rows) - 1) & ~at.used
        for index, piece in enumerate(self.alternatives[at.alternative][at.piece :]):
            if not isinstance(piece, LabelList):
                without &= ~_certain(piece, -1 if index else at.option)
                continue
            unused = self._all_labels & ~at.used
            if index:
                next_labels = unused
            elif at.separator >= 0:
                without &= ~(1 << at.pending)
                next_labels = unused & ~(1 << at.pending)
            else:
                next_labels = self._under[at.position] & unused
            if next_labels.bit_count() == 1:  # the only code that can come next
                without &= ~next_labels
        return without


def _texts(piece: Piece) -> tuple[Text, ...]:
    """The texts that a piece may consist of; none for label codes."""
    return (piece,) if isinstance(piece, Text) else piece.texts if isinstance(piece, OneOf) else ()


def _optional(piece: Piece) -> bool:
    return isinstance(piece, OneOf) and piece.optional


def _certain(piece: Text | OneOf, option: int) -> int:
    """The rows that every text of this piece completes; `option`: the index of the text being read, −1 if none is."""
    if option >= 0:
        return _texts(piece)[option].completes
    if _optional(piece):
        return 0
    certain = -1
    for text in _texts(piece):
        certain &= text.completes
    return certain


def _rows_then_mask(mask: int) -> tuple[int, int]:
    return mask.bit_count(), mask

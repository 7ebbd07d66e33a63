"""The answer language: the set of texts that a guard may answer, as an automaton over symbols.

A symbol is a byte (0–255) or, from FIRST_TOKEN on, one of the special tokens that the language names: these have no
bytes that a model could also write in other tokens. An answer is one of a few alternatives, each a sequence of pieces:
fixed text (which may complete rows: a verdict, or a yes after a label's name), one of several texts or none of them,
and lists of label codes, with at least one code, each at most once, in any order. Where a text is ambiguous (a code
that contains the separator), all readings are followed in parallel. A row is complete when every remaining reading has
completed it, and an answer with two complete readings means the one with fewer rows (the longest match).

A row is a label, the verdict, or a hidden row (a step of an ordered answer). Rows are numbered: the labels in their
order, then the verdict, then the hidden ones. Sets of rows are bit masks in Python ints.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from marginalia.schemas.errors import InputError

Floats = npt.NDArray[np.float64]
MOST_PIECES = 200  # of one alternative: they are read recursively
MOST_READINGS = 1_000  # of one text; twenty choices between equal texts for different rows would have a million
MOST_CHECKED = 1_000  # states that are looked at when the language is made
MOST_STATES = 200_000  # in memory, about 200 MB; further ones replace them
FIRST_TOKEN = 256  # the symbol of the first special token

Symbols = bytes | tuple[int, ...]  # bytes where there are no special tokens


@dataclass(frozen=True)
class Text:
    """Fixed text; `row` and the rows `also` are completed by its last symbol."""

    text: Symbols
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
    """Codes with one of `separators` between them; a single code if there are no separators.

    labels: whose codes it can contain; None for all that no Text completes."""

    separators: tuple[bytes, ...]
    labels: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Anything:
    """Whatever the model writes on: the answer is complete before it. It is the last piece of an alternative."""


Piece = Text | OneOf | LabelList | Anything


class Scale(NamedTuple):
    """An ordered answer: one of the values `lowest` … `highest`. It has a hidden row per step: that for step k is
    completed by all values from lowest + k on."""

    name: str
    lowest: int
    highest: int

    @property
    def steps(self) -> int:
        """How many hidden rows it has."""
        return self.highest - self.lowest


class _Reading(NamedTuple):
    """One way to read a prefix: a position in an alternative, and the rows completed on the way there."""

    alternative: int
    piece: int
    position: int  # symbols read of the current text or separator; in a label's code, a node of its list's trie
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

    @cached_property
    def final(self) -> bool:
        """Whether an answer is complete here, whatever follows."""
        return any(self._language._is_complete(reading) for reading in self._readings)

    @property
    def of_codes(self) -> State:
        """The same state with one row per code, where rows are unions of codes (scoring/language/code_unions.py)."""
        return self

    def step(self, symbol: int) -> State | None:
        """The state after one more symbol; None when no answer continues with it."""
        if symbol not in self._next:
            after = frozenset(new for old in self._readings for new in self._language._read(old, symbol))
            self._next[symbol] = self._language._state(after) if after else None
        return self._next[symbol]

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


class _Codes:
    """The codes of one list as a trie. `children`: of each node, symbol → node; `under`: the mask of the labels whose
    code passes through the node; `ends`: the label whose code ends at the node, or −1."""

    def __init__(self, codes: Mapping[int, str]) -> None:
        self.labels = 0
        self.children: list[dict[int, int]] = [{}]
        self.under: list[int] = [0]
        self.ends: list[int] = [-1]
        for label, code in codes.items():
            node = 0
            self.labels |= 1 << label
            self.under[0] |= 1 << label
            for byte in code.encode():
                if byte not in self.children[node]:
                    self.children[node][byte] = len(self.children)
                    self.children.append({})
                    self.under.append(0)
                    self.ends.append(-1)
                node = self.children[node][byte]
                self.under[node] |= 1 << label
            self.ends[node] = label


class AnswerLanguage:
    """The language of `alternatives` over `codes`. The rows are those of the codes, that of the verdict, and the hidden
    ones of the `scales`, in this order.

    A label that a Text completes is not part of a LabelList that does not name it. Codes must differ within a list.
    `specials`: the texts of the special tokens in the alternatives; the symbol of the n-th is FIRST_TOKEN + n. Raises
    ValueError for codes, alternatives or pieces that no answer language may have: the message says which."""

    def __init__(
        self,
        codes: Sequence[str],
        alternatives: Sequence[Sequence[Piece]],
        *,
        scales: Sequence[Scale] = (),
        specials: Sequence[str] = (),
    ) -> None:
        self.codes = tuple(codes)
        self.scales = tuple(scales)
        self.hidden = sum(scale.steps for scale in scales)
        self.specials = tuple(specials)
        self.code_rows = len(codes) + 1 + self.hidden  # one per code, the verdict's and the hidden ones
        self.rows = self.code_rows
        self.alternatives = tuple(tuple(pieces) for pieces in alternatives)
        self._lists = self._tries()
        self._listed = 0  # labels of any list
        for trie in (trie for tries in self._lists for trie in tries if trie is not None):
            self._listed |= trie.labels
        self._check()
        self._states: dict[frozenset[_Reading], State] = {}
        self.start = self._state(frozenset(_Reading(index, 0, 0, 0) for index in range(len(self.alternatives))))
        if any(isinstance(pieces[-1], Anything) for pieces in self.alternatives):
            self._check_first_states()

    @property
    def of_codes(self) -> AnswerLanguage:
        """The same answers with one row per code."""
        return self

    @property
    def unions(self) -> tuple[int, ...]:
        """Of each row, the mask of the codes (and, after the last one, the verdict and the hidden rows) that complete
        it."""
        return tuple(1 << row for row in range(self.rows))

    @property
    def verdict(self) -> int:
        """The number of the verdict's row."""
        return self.rows - 1 - self.hidden

    def rows_of(self, code: int) -> tuple[int, ...]:
        """The rows that the code (or, after the last one, the verdict or hidden row) with this number completes."""
        return (code,)

    def rows_of_codes(self, codes: Floats) -> Floats:
        """(…, rows) as 0/1, from (…, codes, verdict and hidden rows) as 0/1."""
        return codes

    def symbols_used(self) -> set[int]:
        """Every symbol that an answer can contain."""
        used = set[int]()
        for pieces, tries in zip(self.alternatives, self._lists, strict=True):
            for piece, trie in zip(pieces, tries, strict=True):
                used.update(*(text.text for text in _texts(piece)))
                used.update(*(piece.separators if isinstance(piece, LabelList) else ()))
                used.update(*(trie.children if trie is not None else ()))
        return used

    def symbols(self, answer: str) -> Symbols:
        """The symbols of an answer as people see it, in which a special token is its text."""
        if self._special_text is None or self._special_text.search(answer) is None:
            return answer.encode()
        symbols: list[int] = []
        end = 0
        for match in self._special_text.finditer(answer):
            symbols += answer[end : match.start()].encode()
            written_out = match[0].startswith("\\")
            symbols += match[0].encode() if written_out else [FIRST_TOKEN + self.specials.index(match[1])]
            end = match.end()
        return (*symbols, *answer[end:].encode())

    @cached_property
    def _special_text(self) -> re.Pattern[str] | None:
        """A special token's text, perhaps after the backslash that says that it is written in ordinary characters."""
        longest_first = sorted(self.specials, key=len, reverse=True)
        return re.compile(rf"\\?({'|'.join(map(re.escape, longest_first))})") if self.specials else None

    def text(self, symbols: Sequence[int]) -> bytes:
        """The text of symbols as people see it."""
        parts = (
            self.specials[symbol - FIRST_TOKEN].encode() if symbol >= FIRST_TOKEN else bytes([symbol])
            for symbol in symbols
        )
        return b"".join(parts)

    def walk(self, symbols: Sequence[int]) -> list[State]:
        """The states after 0, 1, … of the symbols, as far as they stay in the language."""
        states = [self.start]
        for symbol in symbols:
            after = states[-1].step(symbol)
            if after is None:
                break
            states.append(after)
        return states

    def decided(self, symbols: Sequence[int], *, ended: bool) -> dict[int, int]:
        """Row → the offset in `symbols` where its code or word ends; a label's end is before its separator.

        The rows are those that are complete after the symbols, or, if the answer has `ended` there, those of the
        answer."""
        histories: dict[_Reading, dict[int, int]] = {
            _Reading(index, 0, 0, 0): {} for index in range(len(self.alternatives))
        }
        for offset, symbol in enumerate(symbols):
            after: dict[_Reading, dict[int, int]] = {}
            for old, ends in histories.items():
                for new in self._read(old, symbol):
                    after.setdefault(new, {**ends, **self._ends_of(old, new, offset)})
            histories = after
        state = self._state(frozenset(histories))
        if not ended:
            ends = histories[min(histories)]
            return {row: end for row, end in ends.items() if state.done >> row & 1}
        accepting = [reading for reading in histories if self._accepts(reading) == state.accepted]
        last = min(accepting)
        label = self._finished(last)
        return {**histories[last], **({label: len(symbols)} if label >= 0 else {})}

    def _ends_of(self, old: _Reading, new: _Reading, offset: int) -> dict[int, int]:
        """Row → end, of the rows whose end the symbol at `offset` shows: labels end before it, words with it."""
        if new.separator >= 0:
            return {} if old.separator >= 0 else {new.pending: offset}
        fresh = new.used & ~old.used & ~(1 << old.pending if old.separator >= 0 else 0)
        rows = [row for row in range(self.code_rows) if fresh >> row & 1]
        # a code that anything may follow is complete with its own last symbol
        with_next = 0 if new.piece == old.piece + 1 and self._is_complete(new) else self._listed
        return {row: offset if with_next >> row & 1 else offset + 1 for row in rows}

    def _tries(self) -> list[list[_Codes | None]]:
        """For each piece of each alternative, the codes of its list; None where it is no list."""
        in_texts = 0
        for text in (text for pieces in self.alternatives for piece in pieces for text in _texts(piece)):
            in_texts |= text.completes
        others = tuple(label for label in range(len(self.codes)) if not in_texts >> label & 1)
        made: dict[tuple[int, ...], _Codes] = {}

        def codes_of(piece: Piece) -> _Codes | None:
            if not isinstance(piece, LabelList):
                return None
            labels = others if piece.labels is None else piece.labels
            if labels not in made:
                codes = {label: self.codes[label] for label in labels}
                if len(set(codes.values())) < len(codes) or not all(codes.values()):
                    raise ValueError("label codes must be non-empty and differ")
                made[labels] = _Codes(codes)
            return made[labels]

        return [[codes_of(piece) for piece in pieces] for pieces in self.alternatives]

    def _check(self) -> None:
        if not all(self.codes):
            raise ValueError("label codes must be non-empty and differ")
        for pieces in self.alternatives:
            unnamed = sum(isinstance(piece, LabelList) and piece.labels is None for piece in pieces)
            if all(map(_optional, pieces)):
                raise ValueError("an alternative needs at least one piece that is not optional")
            if unnamed > 1:
                raise ValueError("an alternative may have at most one list of labels without 'rows'")
            if len(pieces) > MOST_PIECES:
                raise ValueError(f"an alternative has {len(pieces)} pieces; at most {MOST_PIECES} are allowed")
            if any(not text.text for piece in pieces for text in _texts(piece)):
                raise ValueError("a piece of text must not be empty")
            if any(isinstance(piece, LabelList) and not all(piece.separators) for piece in pieces):
                raise ValueError("a separator between label codes must not be empty")
        for pieces, tries in zip(self.alternatives, self._lists, strict=True):
            if isinstance(pieces[-1], Anything):
                _check_before_anything(pieces[-2], tries[-2])

    def _check_first_states(self) -> None:
        """Raises ValueError where `_decisive` would raise InputError, as far as the first states show it."""
        seen, waiting = {self.start}, deque([self.start])
        symbols = sorted(self.symbols_used())
        try:
            while waiting and len(seen) < MOST_CHECKED:
                state = waiting.popleft()
                after = {new for symbol in symbols if not state.final and (new := state.step(symbol)) is not None}
                waiting.extend(after - seen)
                seen |= after
        except InputError as error:
            raise ValueError(error.message) from error

    def _is_complete(self, at: _Reading) -> bool:
        """Whether the reading has read an answer that anything may follow."""
        pieces = self.alternatives[at.alternative]
        return at.piece < len(pieces) and isinstance(pieces[at.piece], Anything)

    def _decisive(self, readings: frozenset[_Reading]) -> frozenset[_Reading]:
        """The readings of an answer that anything may follow; all readings where there are none.

        Raises InputError where another reading goes on: the answer would be complete and not complete."""
        complete = frozenset(reading for reading in readings if self._is_complete(reading))
        if complete and any(at.piece < len(self.alternatives[at.alternative]) for at in readings - complete):
            raise InputError(
                "the guard file's 'answer' is ambiguous: anything may follow a text with which another answer begins",
                hint="write {rest: any} only where all answers that begin with the text are complete",
            )
        return complete or readings

    def _state(self, readings: frozenset[_Reading]) -> State:
        readings = self._decisive(readings)
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

    def _read(self, at: _Reading, symbol: int) -> list[_Reading]:
        """The readings that one more symbol leads to; none when the reading ends."""
        pieces = self.alternatives[at.alternative]
        if at.piece == len(pieces):
            return []
        piece = pieces[at.piece]
        if isinstance(piece, Text):
            return self._read_text(at, piece, symbol)
        if isinstance(piece, OneOf):
            return self._read_one(at, piece, symbol)
        if isinstance(piece, Anything):
            return [at]
        if at.separator >= 0:
            return self._read_separator(at, piece.separators[at.separator], symbol)
        return self._read_label(at, piece, symbol)

    def _read_text(self, at: _Reading, piece: Text, symbol: int) -> list[_Reading]:
        if piece.text[at.position] != symbol:
            return []
        if at.position + 1 < len(piece.text):
            return [at._replace(position=at.position + 1)]
        return [_Reading(at.alternative, at.piece + 1, 0, at.used | piece.completes)]

    def _read_one(self, at: _Reading, piece: OneOf, symbol: int) -> list[_Reading]:
        if at.option >= 0:
            return self._read_text(at, piece.texts[at.option], symbol)
        after = [
            new
            for option, text in enumerate(piece.texts)
            for new in self._read_text(at._replace(option=option), text, symbol)
        ]
        return after + (self._read(at._replace(piece=at.piece + 1), symbol) if piece.optional else [])

    def _read_separator(self, at: _Reading, separator: bytes, symbol: int) -> list[_Reading]:
        if separator[at.position] != symbol:
            return []
        if at.position + 1 < len(separator):
            return [at._replace(position=at.position + 1)]
        return [_Reading(at.alternative, at.piece, 0, at.used | 1 << at.pending)]

    def _read_label(self, at: _Reading, piece: LabelList, symbol: int) -> list[_Reading]:
        after = []
        codes = self._lists[at.alternative][at.piece]
        assert codes is not None
        child = codes.children[at.position].get(symbol)
        # a used code must be excluded while it is being read, too: S1 may be begun again only while S10 is unused
        if child is not None and codes.under[child] & ~at.used:
            after.append(self._past_code(at._replace(position=child)))
        label = codes.ends[at.position]
        if label < 0 or at.used >> label & 1:
            return after
        used = at.used | 1 << label
        if codes.labels & ~used:  # a separator must be followed by another code
            for index, separator in enumerate(piece.separators):
                if separator[0] == symbol and len(separator) == 1:
                    after.append(at._replace(position=0, used=used))
                elif separator[0] == symbol:
                    after.append(at._replace(position=1, separator=index, pending=label))
        if at.piece + 1 < len(self.alternatives[at.alternative]):
            after += self._read(_Reading(at.alternative, at.piece + 1, 0, used), symbol)
        return after

    def _past_code(self, at: _Reading) -> _Reading:
        """The reading, past its list where a code ends that anything may follow."""
        past = _Reading(at.alternative, at.piece + 1, 0, at.used)
        label = self._finished(at)
        return past._replace(used=at.used | 1 << label) if label >= 0 and self._is_complete(past) else at

    def _finished(self, at: _Reading) -> int:
        """The unused label whose whole code has just been read; −1 if there is none."""
        lists = self._lists[at.alternative]
        codes = lists[at.piece] if at.piece < len(lists) else None
        label = codes.ends[at.position] if codes is not None and at.separator < 0 else -1
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
        lists = self._lists[at.alternative][at.piece :]
        for index, piece in enumerate(self.alternatives[at.alternative][at.piece :]):
            codes = lists[index]
            if not isinstance(piece, LabelList) or codes is None:
                for text in _texts(piece) if index or at.option < 0 else (_texts(piece)[at.option],):
                    could |= text.completes
            elif piece.separators or index:
                could |= codes.labels & ~at.used
            else:
                could |= codes.under[at.position] & ~at.used
        return could

    def _without(self, at: _Reading) -> int:
        """Rows that an answer can still end without from this reading on."""
        without = ((1 << self.code_rows) - 1) & ~at.used
        lists = self._lists[at.alternative][at.piece :]
        for index, piece in enumerate(self.alternatives[at.alternative][at.piece :]):
            codes = lists[index]
            if not isinstance(piece, LabelList) or codes is None:
                without &= ~_certain(piece, -1 if index else at.option)
                continue
            unused = codes.labels & ~at.used
            if index:
                next_labels = unused
            elif at.separator >= 0:
                without &= ~(1 << at.pending)
                next_labels = unused & ~(1 << at.pending)
            else:
                next_labels = codes.under[at.position] & unused
            if next_labels.bit_count() == 1:  # the only code that can come next
                without &= ~next_labels
        return without


def _texts(piece: Piece) -> tuple[Text, ...]:
    """The texts that a piece may consist of; none for label codes."""
    return (piece,) if isinstance(piece, Text) else piece.texts if isinstance(piece, OneOf) else ()


def _optional(piece: Piece) -> bool:
    return isinstance(piece, Anything) or (isinstance(piece, OneOf) and piece.optional)


def _check_before_anything(piece: Piece, codes: _Codes | None) -> None:
    """Raises ValueError where the piece may go on after it could be complete."""
    if _optional(piece):
        raise ValueError("the piece before {rest: any} must not be optional: anything may follow in any case")
    if isinstance(piece, LabelList) and piece.separators:
        raise ValueError("a list of labels right before {rest: any} has one code, so no separators")
    begins_code = codes is not None and any(end >= 0 and codes.children[node] for node, end in enumerate(codes.ends))
    texts = [text.text for text in _texts(piece)]
    if begins_code or any(text != other and other[: len(text)] == text for text in texts for other in texts):
        raise ValueError("right before {rest: any}, no code or text may begin another one")


def _certain(piece: Piece, option: int) -> int:
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

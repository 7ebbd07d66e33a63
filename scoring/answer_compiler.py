"""Makes the answer language of a guard file's `answer`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import prod

from marginalia.scoring.answer_pieces import (
    Choice,
    CodeList,
    Integers,
    Levels,
    Optional,
    PieceSpec,
    Space,
    SpecialToken,
    VerdictWord,
    Word,
    list_labels,
    located_pieces,
)
from marginalia.scoring.guard_file import VERDICT, GuardFile
from marginalia.scoring.language.answer_language import (
    FIRST_TOKEN,
    AnswerLanguage,
    LabelList,
    OneOf,
    Piece,
    Scale,
    Text,
)
from marginalia.scoring.language.code_unions import UnionLanguage

MOST_ALTERNATIVES = 256  # after optional sequences are written out

Pieces = Sequence[PieceSpec]
ListRow = tuple[str, tuple[str, ...], int]  # label, what the list implies, which of the alternative's lists of the kind


def answer_language(file: GuardFile, codes: Mapping[str, str]) -> AnswerLanguage:
    """The language of a guard file's `answer`, with `codes` by taxonomy id. Its rows are those ids, `unsafe`, and the
    hidden rows of levels and integers. Raises ValueError when the pieces and codes do not form a valid language."""
    return _Compiler(file.answer, {} if file.calls == "per_label" else codes).language()


def written_out(pieces: Pieces) -> list[list[PieceSpec]]:
    """The alternatives that a sequence stands for, without optional sequences and choices between sequences."""
    ways: list[list[list[PieceSpec]]] = []
    for piece in pieces:
        if isinstance(piece, Optional):
            ways.append([[], *written_out(piece.optional)])
        elif isinstance(piece, Choice) and piece.has_sequences:
            options = [option if isinstance(option, list) else [option] for option in piece.any]
            ways.append([way for option in options for way in written_out(option)])
        else:
            ways.append([[piece]])
    return [[piece for way in chosen for piece in way if piece] for chosen in product(*ways)]


def number_written_out(pieces: Pieces) -> int:
    """How many alternatives `written_out` makes."""

    def ways(piece: PieceSpec) -> int:
        if isinstance(piece, Optional):
            return 1 + number_written_out(piece.optional)
        if isinstance(piece, Choice) and piece.has_sequences:
            return sum(number_written_out(option if isinstance(option, list) else [option]) for option in piece.any)
        return 1

    return prod(map(ways, pieces))


class _Compiler:
    """Numbers the rows of the search. A label has a code row of its own for its words, and one for each list that can
    contain it: then its row is the union of these."""

    def __init__(self, answer: Sequence[Pieces], codes: Mapping[str, str]) -> None:
        if (number := sum(map(number_written_out, answer))) > max(MOST_ALTERNATIVES, len(answer)):
            raise ValueError(
                f"with its optional sequences written out, 'answer' has {number:,} alternatives; at most "
                f"{MOST_ALTERNATIVES} are allowed"
            )
        self._alternatives = [pieces for alternative in answer for pieces in written_out(alternative)]
        self._codes = codes
        simple = [piece for _, piece in located_pieces(answer)]
        self._words = dict(_words(simple))
        self._lists = [piece for piece in simple if isinstance(piece, CodeList)]
        self._specials = list(dict.fromkeys(_special_texts(simple)))
        self._scales = list(dict.fromkeys(_scale(piece) for piece in simple if isinstance(piece, Levels | Integers)))
        if len({scale.name for scale in self._scales}) < len(self._scales):
            raise ValueError("levels or integers with the same name must have the same number of values")
        self._rows = {label: number for number, label in enumerate(codes)}  # of words, or of the label's first list
        self._list_rows: dict[ListRow, int] = {}
        self._texts = [self._words.get(label, code) for label, code in codes.items()]

    def language(self) -> AnswerLanguage:
        numbered = [self._numbered(pieces) for pieces in self._alternatives]
        verdict = self._rows[VERDICT] = len(self._texts)
        alternatives = [[self._piece(piece, labels) for piece, labels in pieces] for pieces in numbered]
        language = AnswerLanguage(self._texts, alternatives, scales=self._scales, specials=self._specials)
        unions = [1 << row for row in range(len(self._codes))] + [1 << verdict]
        labels = [*self._codes, VERDICT]
        for (label, implied, _), number in self._list_rows.items():
            for row in (label, *implied):
                unions[labels.index(row)] |= 1 << number
        unions += [1 << row for row in range(verdict + 1, language.rows)]
        return language if language.unions == tuple(unions) else UnionLanguage(language, unions)

    def _numbered(self, pieces: Pieces) -> list[tuple[PieceSpec, tuple[int, ...] | None]]:
        """The pieces, each list with the numbers of its code rows; None where it is the only kind of list."""
        for scale in (piece.name for piece in pieces if isinstance(piece, Levels | Integers)):
            if sum(isinstance(piece, Levels | Integers) and piece.name == scale for piece in pieces) > 1:
                raise ValueError(f"an answer has two pieces with the name '{scale}'")
        if all(piece.rows is None and not piece.implies for piece in self._lists):
            return [(piece, None) for piece in pieces]
        if sum(isinstance(piece, CodeList) and piece.rows is None for piece in pieces) > 1:
            raise ValueError("an answer may have at most one list of labels without 'rows'")
        seen: dict[tuple[str, tuple[str, ...]], int] = {}
        numbered: list[tuple[PieceSpec, tuple[int, ...] | None]] = []
        for piece in pieces:
            if not isinstance(piece, CodeList):
                numbered.append((piece, None))
                continue
            implied = tuple(dict.fromkeys(piece.implies))
            numbers = []
            for label in list_labels(piece, self._lists, self._codes, self._words):
                occurrence = seen[label, implied] = seen.get((label, implied), -1) + 1
                numbers.append(self._list_row((label, implied, occurrence)))
            numbered.append((piece, tuple(numbers)))
        return numbered

    def _list_row(self, row: ListRow) -> int:
        if row not in self._list_rows:
            number = self._rows[row[0]]
            if row[0] in self._words or number in self._list_rows.values():
                number = len(self._texts)
                self._texts.append(self._codes[row[0]])
            self._list_rows[row] = number
        return self._list_rows[row]

    def _piece(self, piece: PieceSpec, labels: tuple[int, ...] | None) -> Piece:
        if isinstance(piece, CodeList):
            return LabelList(tuple(separator.encode() for separator in piece.labels), labels)
        if isinstance(piece, Space):
            return OneOf(tuple(Text(text.encode()) for text in piece.space), optional=True)
        if isinstance(piece, Choice):
            options = tuple(self._text(option) for option in piece.any if option)
            return OneOf(options, optional="" in piece.any)
        if isinstance(piece, Levels | Integers):
            return OneOf(tuple(self._step(piece, value) for value in range(piece.lowest, piece.highest + 1)), False)
        return self._text(piece)

    def _text(self, piece: PieceSpec | list[PieceSpec]) -> Text:
        if isinstance(piece, str):
            return Text(piece.encode())
        if isinstance(piece, VerdictWord):
            return Text(piece.verdict.encode(), self._rows[VERDICT])
        assert isinstance(piece, SpecialToken | Word)  # the alternatives are written out
        symbols = self._symbol(piece.token) if isinstance(piece, SpecialToken) else piece.word.encode()
        return _completing(symbols, [self._rows[row] for row in piece.rows])

    def _step(self, piece: Levels | Integers, value: int) -> Text:
        """The text of one value: it completes the rows of all values up to it."""
        hidden = len(self._texts) + 1
        for scale in self._scales[: self._scales.index(_scale(piece))]:
            hidden += scale.steps
        steps = [hidden + step for step in range(value - piece.lowest)]
        text = piece.texts[value - piece.lowest]
        is_token = isinstance(piece, Levels) and not isinstance(piece.levels[value], str)
        symbols = self._symbol(text) if is_token else text.encode()
        return _completing(symbols, [*(self._rows[row] for row, at in piece.rows.items() if at <= value), *steps])

    def _symbol(self, token: str) -> tuple[int, ...]:
        return (FIRST_TOKEN + self._specials.index(token),)


def _completing(symbols: bytes | tuple[int, ...], rows: Sequence[int]) -> Text:
    return Text(symbols, rows[0], tuple(rows[1:])) if rows else Text(symbols)


def _scale(piece: Levels | Integers) -> Scale:
    return Scale(piece.name, piece.lowest, piece.highest)


def _words(pieces: Sequence[PieceSpec]) -> Iterator[tuple[str, str]]:
    """Label → the text that completes it, which takes the place of its code."""
    for piece in pieces:
        if isinstance(piece, Word | SpecialToken):
            yield from ((row, piece.word if isinstance(piece, Word) else piece.token) for row in piece.rows)
        elif isinstance(piece, Levels | Integers):
            yield from ((row, piece.texts[at - piece.lowest]) for row, at in piece.rows.items())


def _special_texts(pieces: Sequence[PieceSpec]) -> Iterator[str]:
    for piece in pieces:
        if isinstance(piece, SpecialToken):
            yield piece.token
        elif isinstance(piece, Levels):
            yield from (text.token for text in piece.levels if not isinstance(text, str))

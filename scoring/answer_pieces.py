"""The pieces of a guard file's `answer`, as they are written in the file.

scoring/guards/README.md has the table of all; scoring/answer_compiler.py makes the answer language of them."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from marginalia.schemas.base_model import StrictModel, located_error
from marginalia.schemas.errors import did_you_mean

EXPLAIN = "scoring/guards/README.md explains the keys"
WHITE_SPACE = " \t\r\n"
MOST_STEPS = 1_000  # from the lowest to the highest value: each is a row of the search
DEEPEST = 20  # levels of pieces in pieces

Location = tuple[int | str, ...]
Integer = Annotated[int, Field(strict=True)]


class VerdictWord(StrictModel):
    """The word for the verdict that at least one category applies. It completes the row `unsafe`."""

    verdict: str = Field(min_length=1)


class Word(StrictModel):
    """A word that completes the rows of certain labels, such as the "yes" after a label's name."""

    word: str = Field(min_length=1)
    rows: list[str] = Field(min_length=1, description="taxonomy ids, and 'unsafe' for the verdict")


class SpecialToken(StrictModel):
    """Exactly this special (control) token of the tokenizer. It completes the rows of certain labels, if any."""

    token: str = Field(min_length=1)
    rows: list[str] = Field(default=[], description="taxonomy ids, and 'unsafe' for the verdict")


class TokenText(StrictModel):
    """A special token as the text of a level."""

    token: str = Field(min_length=1)


class CodeList(StrictModel):
    """A list of label codes, with the separators that are allowed between them."""

    labels: list[str] = Field(description="separators, such as [','] or [',', ', ']")
    rows: list[str] | None = Field(
        default=None,
        min_length=1,
        exclude_if=lambda rows: rows is None,
        description="the labels that it can contain; default: all that no word and no other list completes",
    )
    implies: list[str] = Field(
        default=[],
        exclude_if=lambda rows: not rows,
        description="rows that any of its codes completes, such as ['unsafe'] where no word says the verdict",
    )


class Levels(StrictModel):
    """One of several ordered texts, the lowest first."""

    levels: list[str | TokenText] = Field(min_length=2)
    rows: dict[str, Integer] = Field(
        default={}, description="row → the lowest level that completes it; the first level is 0"
    )
    name: str = Field(min_length=1, description="the name of the expected level in the results")

    @property
    def lowest(self) -> int:
        """The value of the lowest level."""
        return 0

    @property
    def highest(self) -> int:
        """The value of the highest level."""
        return len(self.levels) - 1

    @property
    def texts(self) -> list[str]:
        """The texts, the lowest level's first."""
        return [text if isinstance(text, str) else text.token for text in self.levels]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not all(self.texts) or len(set(self.texts)) < len(self.texts):
            raise ValueError("the texts of levels must be non-empty and differ")
        _check_thresholds(self)
        return self


class Integers(StrictModel):
    """A decimal integer without leading zeros, from the first number through the second."""

    integers: list[Integer] = Field(min_length=2, max_length=2, description="the lowest and the highest")
    rows: dict[str, Integer] = Field(default={}, description="row → the lowest integer that completes it")
    name: str = Field(min_length=1, description="the name of the expected value in the results")

    @property
    def lowest(self) -> int:
        """The lowest integer."""
        return self.integers[0]

    @property
    def highest(self) -> int:
        """The highest integer."""
        return self.integers[1]

    @property
    def texts(self) -> list[str]:
        """All integers as text, in ascending order."""
        return [str(number) for number in range(self.lowest, self.highest + 1)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not 0 <= self.lowest < self.highest:
            raise ValueError("integers are the lowest and the highest number, such as [0, 100], and not negative")
        if self.highest - self.lowest > MOST_STEPS:
            raise ValueError(f"integers have at most {MOST_STEPS:,} steps, saw {self.highest - self.lowest:,}")
        _check_thresholds(self)
        return self


def _check_thresholds(scale: Levels | Integers) -> None:
    for row, threshold in scale.rows.items():
        if not scale.lowest < threshold <= scale.highest:
            values = f"from {scale.lowest + 1} to {scale.highest}"
            raise ValueError(f"the row '{row}' needs a value {values}, saw {threshold}")


class Choice(StrictModel):
    """One of several texts, or of several pieces and sequences of them. The empty text makes the piece optional."""

    any: list[PieceSpec | list[PieceSpec]] = Field(min_length=2)

    @property
    def has_sequences(self) -> bool:
        """Whether an option is more than one text."""
        return not all(isinstance(option, str | VerdictWord | Word | SpecialToken) for option in self.any)


class Optional(StrictModel):
    """A sequence of pieces, or nothing."""

    optional: list[PieceSpec] = Field(min_length=1)


class Space(StrictModel):
    """Optional white space: nothing, or one of these texts."""

    space: list[str] = Field(description="such as [' ', '\\n']")


PieceSpec = str | VerdictWord | Word | SpecialToken | CodeList | Levels | Integers | Choice | Optional | Space
Choice.model_rebuild()
Optional.model_rebuild()

_KINDS: dict[str, type[BaseModel]] = {
    "verdict": VerdictWord,
    "word": Word,
    "token": SpecialToken,
    "labels": CodeList,
    "levels": Levels,
    "integers": Integers,
    "any": Choice,
    "optional": Optional,
    "space": Space,
}
_KEYS = tuple(dict.fromkeys([*_KINDS, *(key for kind in _KINDS.values() for key in kind.model_fields)]))


def check_pieces(answer: Any) -> None:
    """Raises a located error for the first wrong piece of `answer`, as read from YAML. pydantic would try every kind of
    piece and report an error for each."""
    for number, pieces in enumerate(answer if isinstance(answer, list) else []):
        for index, piece in enumerate(pieces if isinstance(pieces, list) else []):
            _check_piece(piece, (number, index), 1)


def _check_piece(piece: Any, at: Location, depth: int) -> None:
    if depth > DEEPEST:
        raise located_error(f"pieces inside pieces, more than {DEEPEST} deep", *at, hint=EXPLAIN)
    if isinstance(piece, str):
        return
    if not isinstance(piece, dict):
        seen = "nothing" if piece is None else f"{str(piece)[:40]}: put it in quotes"
        seen = "a list: {any: …} and {optional: …} contain lists" if isinstance(piece, list) else seen
        raise located_error(f"a piece of an answer is text or {{key: …}}, saw {seen}", *at, hint=EXPLAIN)
    for key in piece.keys() - _KEYS:
        suggestion = did_you_mean(str(key), _KEYS) or f"; known: {', '.join(_KEYS)}"
        raise located_error(
            f"a piece of an answer has the unknown key '{key}'{suggestion}", *at, str(key), hint=EXPLAIN
        )
    kinds = [key for key in _KINDS if key in piece]
    if len(kinds) != 1:
        seen = " and ".join(map(repr, kinds)) if kinds else "none"
        raise located_error(f"a piece of an answer has one of {', '.join(_KINDS)}, saw {seen}", *at, hint=EXPLAIN)
    (kind,) = kinds
    for index, part in enumerate(piece[kind] if kind in ("any", "optional") and isinstance(piece[kind], list) else []):
        inner = (*at, kind, index)
        if isinstance(part, list) and kind == "any":
            for position, one in enumerate(part):
                _check_piece(one, (*inner, position), depth + 1)
        else:
            _check_piece(part, inner, depth + 1)
    if kind == "space" and not _is_white_space(piece["space"]):
        problem = f"{{space: …}} is a list of spaces, tabs and line breaks, saw {piece['space']!r}"
        raise located_error(problem, *at, "space", hint=EXPLAIN)
    try:
        _KINDS[kind].model_validate(piece)
    except ValidationError as error:
        raise _explained(error, kind, at, piece) from None


def _explained(error: ValidationError, kind: str, at: Location, piece: dict[str, Any]) -> Exception:
    """A located error for the first error in the piece. Options of `any` and parts of `optional` that are pieces were
    checked before: what remains is a value of the wrong type."""
    first = error.errors(include_url=False)[0]
    place = [part for part in first["loc"] if isinstance(part, int) or part in _KEYS]
    if first["type"] == "extra_forbidden":
        key = str(first["loc"][-1])
        known = tuple(_KINDS[kind].model_fields)
        problem = (
            f"{{{kind}: …}} has the unknown key '{key}'{did_you_mean(key, known) or '; known: ' + ', '.join(known)}"
        )
        return located_error(problem, *at, key, hint=EXPLAIN)
    if first["type"] == "missing":
        return located_error(f"{{{kind}: …}} needs the key '{first['loc'][-1]}'", *at, hint=EXPLAIN)
    message = first["msg"].removeprefix("Value error, ")
    if isinstance(first["input"], str | int | float | None) and first["type"] != "value_error":
        message += f", saw {str(first['input'])[:40]!r}" if first["input"] is not None else ", saw nothing"
    where = f"{'.'.join(map(str, place))}: " if place else ""
    return located_error(f"{{{kind}: …}}: {where}{message}", *at, *place, hint=EXPLAIN)


def _is_white_space(texts: Any) -> bool:
    return (
        isinstance(texts, list)
        and bool(texts)
        and all(isinstance(text, str) and text and not text.strip(WHITE_SPACE) for text in texts)
    )


def located_pieces(answer: Sequence[Sequence[PieceSpec]]) -> Iterator[tuple[Location, PieceSpec]]:
    """Every piece with its keys and indices below `answer`, also those inside `any` and `optional`; the options of
    `any` count as pieces."""
    for number, pieces in enumerate(answer):
        yield from _located((number,), pieces)


def _located(at: Location, pieces: Sequence[PieceSpec]) -> Iterator[tuple[Location, PieceSpec]]:
    for index, piece in enumerate(pieces):
        yield (*at, index), piece
        if isinstance(piece, Optional):
            yield from _located((*at, index, "optional"), piece.optional)
        for number, option in enumerate(piece.any if isinstance(piece, Choice) else ()):
            if isinstance(option, list):
                yield from _located((*at, index, "any", number), option)
            else:
                for inner, part in _located((), [option]):
                    yield (*at, index, "any", number, *inner[1:]), part


def rows_of(piece: PieceSpec) -> list[str]:
    """The rows that one of the piece's texts completes, without the codes of a list."""
    if isinstance(piece, CodeList):
        return piece.implies
    return list(piece.rows) if isinstance(piece, Word | SpecialToken | Levels | Integers) else []


def list_labels(
    piece: CodeList, lists: Sequence[CodeList], labels: Iterable[str], in_words: Container[str]
) -> list[str]:
    """The labels that a list can contain, in their order: its `rows`, or all that neither a word nor the `rows` of
    another list completes. `lists`: all lists of the answer; `in_words`: the labels that words complete."""
    if piece.rows is not None:
        return [label for label in labels if label in piece.rows]
    elsewhere = {row for other in lists for row in other.rows or ()}
    return [label for label in labels if label not in in_words and label not in elsewhere]

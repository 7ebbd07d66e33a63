"""What a guard file contains: a guard family's prompt, the language of its answers, and its label codes."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from marginalia.schemas.base_model import ID_PATTERN, StrictModel, located_error
from marginalia.schemas.errors import did_you_mean
from marginalia.scoring.language.answer_language import AnswerLanguage, LabelList, OneOf, Piece, Text

VERDICT = "unsafe"  # the verdict's name among the labels
EXPLAIN = "scoring/guards/README.md explains the keys"
PIECES = ("verdict", "word", "rows", "labels", "any", "space")  # keys of the pieces of an answer
WHITE_SPACE = " \t\r\n"


class VerdictWord(StrictModel):
    """The word for the verdict that at least one category applies. It completes the row `unsafe`."""

    verdict: str = Field(min_length=1)


class Word(StrictModel):
    """A word that completes the rows of certain labels, such as the "yes" after a label's name."""

    word: str = Field(min_length=1)
    rows: list[str] = Field(min_length=1, description="taxonomy ids, and 'unsafe' for the verdict")


class CodeList(StrictModel):
    """The list of label codes, with the separators that are allowed between them."""

    labels: list[str] = Field(description="separators, such as [','] or [',', ', ']")


class Choice(StrictModel):
    """One of several texts. The empty text makes the piece optional."""

    any: list[str | VerdictWord | Word] = Field(min_length=2)


class Space(StrictModel):
    """Optional white space: nothing, or one of these texts."""

    space: list[str] = Field(description="such as [' ', '\\n']")


class Policy(StrictModel):
    """The policy that a guard with one policy per call is asked for the row `unsafe`."""

    name: str
    definition: str


PieceSpec = str | VerdictWord | Word | CodeList | Choice | Space


class PromptSpec(StrictModel):
    """The templates of a guard's prompt."""

    message: str = Field(
        description="Jinja: the guard's whole instruction, as one user message. Variables: categories (code, id, name, "
        "definition, includes, excludes, examples; with calls: per_label only the one that is asked for), "
        "conversation (role, content) and last_role"
    )
    frame: str | None = Field(
        default=None,
        description="Jinja: the text around {{ message }}, including control tokens and the start of the answer; "
        "without it, the tokenizer's chat template is used",
    )
    strip: bool = Field(default=False, description="strip white space around every record's texts")


class GuardFile(StrictModel):
    """A guard file, such as scoring/guards/llama-guard-3.yaml."""

    kind: Literal["generative"] = Field(
        default="generative", exclude=True, description="other kinds: scoring/score_sources/source_file.py"
    )
    guard: str = Field(pattern=ID_PATTERN)
    title: str
    source: str = Field(description="where the prompt and the answer format are documented")
    taxonomy: str | None = Field(default=None, description="the taxonomy of `labels`, used when none is given")
    labels: dict[str, str] | None = Field(default=None, description="taxonomy id → the guard's code for it")
    names: dict[str, str] = Field(
        default={}, description="taxonomy id → the label's name in the guard's own prompt, where the taxonomy differs"
    )
    definitions: dict[str, str] = Field(
        default={},
        description="taxonomy id → the label's definition in the guard's own prompt, where the taxonomy differs",
    )
    codes: str | None = Field(default=None, description="or: codes by position, such as 'S{n}' for S1, S2 …")
    calls: Literal["one", "per_label"] = Field(
        default="one", description="per_label: a prompt for each label, whose answer is the verdict on that label alone"
    )
    overall: Policy | None = Field(
        default=None,
        description="with calls: per_label, what is asked for the row 'unsafe'; see the README",
    )
    prompt: PromptSpec
    answer: list[list[PieceSpec]] = Field(
        min_length=1, description="the alternatives, each a list of pieces; scoring/guards/README.md explains them"
    )

    @field_validator("answer", mode="before")
    @classmethod
    def _known_pieces(cls, answer: Any) -> Any:
        """Refuses unknown keys before pydantic tries every type of piece and reports an error for each."""
        to_check: list[tuple[tuple[int | str, ...], Any]] = [
            ((number, index), piece)
            for number, pieces in enumerate(answer if isinstance(answer, list) else [])
            for index, piece in enumerate(pieces if isinstance(pieces, list) else [])
        ]
        for at, piece in to_check:
            if isinstance(piece, dict):
                for key in piece.keys() - PIECES:
                    suggestion = did_you_mean(str(key), PIECES) or f"; known: {', '.join(PIECES)}"
                    problem = f"a piece of an answer has the unknown key '{key}'{suggestion}"
                    raise located_error(problem, *at, str(key), hint=EXPLAIN)
                options = piece["any"] if isinstance(piece.get("any"), list) else []
                to_check += [((*at, "any", index), option) for index, option in enumerate(options)]
                if "space" in piece and not _is_white_space(piece["space"]):
                    problem = f"{{space: …}} is a list of spaces, tabs and line breaks, saw {piece['space']!r}"
                    raise located_error(problem, *at, "space", hint=EXPLAIN)
        return answer

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.labels is None) == (self.codes is None):
            raise ValueError("give either 'labels' (id → code) or 'codes' (such as 'S{n}')")
        if self.labels is not None and not self.labels:
            raise located_error("'labels' is empty", "labels", hint=EXPLAIN)
        if self.codes is not None and "{n}" not in self.codes:
            raise located_error("'codes' must contain {n}, the label's position from 1", "codes", hint=EXPLAIN)
        seen: dict[str, str] = {}
        for label, code in (self.labels or {}).items():
            if code in seen:
                raise located_error(
                    f"'{label}' has the same code as '{seen[code]}': {code}",
                    "labels",
                    label,
                    hint="give each label a code of its own",
                )
            seen[code] = label
        pieces_and_options = [piece for pieces in self.answer for piece in pieces]
        pieces_and_options += [
            option for piece in pieces_and_options if isinstance(piece, Choice) for option in piece.any
        ]
        has_code_list = any(isinstance(piece, CodeList) for piece in pieces_and_options)
        word_rows = {row for piece in pieces_and_options if isinstance(piece, Word) for row in piece.rows}
        if self.calls == "per_label":
            if has_code_list or word_rows or not any(isinstance(piece, VerdictWord) for piece in pieces_and_options):
                problem = "with calls: per_label, 'answer' must have a verdict, and no label codes or rows"
                raise located_error(problem, "answer", hint=EXPLAIN)
            return self
        if self.overall is not None:
            raise located_error("'overall' is only for guards with calls: per_label", "overall", hint=EXPLAIN)
        self._check_rows(has_code_list, word_rows)
        if VERDICT not in word_rows and not any(isinstance(piece, VerdictWord) for piece in pieces_and_options):
            problem = "no word of 'answer' completes the row 'unsafe': write the word as {verdict: …}"
            raise located_error(problem, "answer", hint=EXPLAIN)
        return self

    def _check_rows(self, has_code_list: bool, word_rows: set[str]) -> None:
        if self.labels is None:
            if word_rows - {VERDICT} or not has_code_list:
                problem = "words with rows need 'labels', and 'codes' needs a piece {labels: …} in 'answer'"
                raise located_error(problem, "answer", hint=EXPLAIN)
            return
        if unknown := sorted(word_rows - {VERDICT, *self.labels}):
            problem = f"a word has the unknown row '{unknown[0]}'{did_you_mean(unknown[0], self.labels)}"
            raise located_error(problem, *self._place_of_row(unknown[0]), hint=EXPLAIN)
        if not has_code_list and (never_completed := [label for label in self.labels if label not in word_rows]):
            problem = f"'answer' has no list of label codes, and no word that completes '{never_completed[0]}'"
            raise located_error(problem, "answer", hint=EXPLAIN)

    def _place_of_row(self, row: str) -> tuple[int | str, ...]:
        """Where in the file the first piece is whose words have this row."""
        for number, pieces in enumerate(self.answer):
            for index, piece in enumerate(pieces):
                words = piece.any if isinstance(piece, Choice) else [piece]
                if any(isinstance(word, Word) and row in word.rows for word in words):
                    return "answer", number, index
        return ("answer",)


def _is_white_space(texts: Any) -> bool:
    return (
        isinstance(texts, list)
        and bool(texts)
        and all(isinstance(text, str) and text and not text.strip(WHITE_SPACE) for text in texts)
    )


def answer_language(file: GuardFile, codes: dict[str, str]) -> AnswerLanguage:
    """The language of a guard file's `answer`, with `codes` by taxonomy id. Raises ValueError when the pieces and codes
    do not form a valid language."""
    if file.calls == "per_label":
        codes = {}
    numbers = {row: number for number, row in enumerate([*codes, VERDICT])}
    words: dict[str, str] = {}  # label → the word that completes it, which takes the place of its code
    for piece in (piece for pieces in file.answer for piece in pieces):
        for word in piece.any if isinstance(piece, Choice) else (piece,):
            if isinstance(word, Word):
                words |= dict.fromkeys(word.rows, word.word)
    texts = [words.get(label, code) for label, code in codes.items()]
    return AnswerLanguage(texts, [[_piece(piece, numbers) for piece in pieces if piece] for pieces in file.answer])


def _piece(piece: PieceSpec, numbers: dict[str, int]) -> Piece:
    if isinstance(piece, CodeList):
        return LabelList(tuple(separator.encode() for separator in piece.labels))
    if isinstance(piece, Space):
        return OneOf(tuple(Text(text.encode()) for text in piece.space), optional=True)
    if isinstance(piece, Choice):
        return OneOf(tuple(_text(option, numbers) for option in piece.any if option), optional="" in piece.any)
    return _text(piece, numbers)


def _text(piece: str | VerdictWord | Word, numbers: dict[str, int]) -> Text:
    if isinstance(piece, str):
        return Text(piece.encode())
    if isinstance(piece, VerdictWord):
        return Text(piece.verdict.encode(), numbers[VERDICT])
    first, *others = (numbers[row] for row in piece.rows)
    return Text(piece.word.encode(), first, tuple(others))

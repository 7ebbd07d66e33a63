"""What a guard file contains: a guard family's prompt, the language of its answers, and its label codes."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from marginalia.schemas.base_model import ID_PATTERN, StrictModel, located_error
from marginalia.schemas.errors import did_you_mean
from marginalia.scoring.answer_pieces import (
    CodeList,
    Location,
    PieceSpec,
    VerdictWord,
    check_pieces,
    list_labels,
    located_pieces,
    rows_of,
)
from marginalia.scoring.prompt_spec import EXPLAIN, PromptSpec

VERDICT = "unsafe"  # the verdict's name among the labels
Side = Literal["user", "assistant"]


class Policy(StrictModel):
    """The policy that a guard with one policy per call is asked for the row `unsafe`."""

    name: str
    definition: str


class TokenSpec(StrictModel):
    """A control token of the model's tokenizer, such as `<|message|>`."""

    token: str = Field(min_length=1)


class ReasoningSpec(StrictModel):
    """The free text that a guard writes before its answer."""

    until: str | TokenSpec | list[str | TokenSpec] = Field(
        description="what ends it, such as '</think>': a text, a control token as {token: '<|message|>'}, or a list of "
        "both that follow each other; `answer` begins right after it"
    )
    tokens: int = Field(
        default=1024, ge=1, description="its greatest length in tokens; a longer one counts as one without an answer"
    )

    @property
    def parts(self) -> list[str | TokenSpec]:
        """The texts and control tokens that end it, in their order."""
        return self.until if isinstance(self.until, list) else [self.until]

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self.parts or "" in self.parts:
            raise located_error("'until' must not be empty", "until", hint=EXPLAIN)
        return self


class Confirmed(StrictModel):
    """What of a guard file was compared with the guard's own publication: where it was seen word for word, or no."""

    prompt: str | Literal[False]
    answer: str | Literal[False]
    note: str | None = None


class GuardFile(StrictModel):
    """A guard file, such as scoring/guards/llama-guard-3.yaml."""

    kind: Literal["generative"] = Field(
        default="generative", exclude=True, description="other kinds: scoring/score_sources/source_file.py"
    )
    guard: str = Field(pattern=ID_PATTERN)
    title: str
    source: str = Field(description="where the prompt and the answer format are documented")
    # facts for people, which no number depends on: a change of theirs must not make a run score its records again
    licence: str | None = Field(default=None, exclude=True, description="the licence of the guard's weights")
    judges: list[Side] | None = Field(
        default=None, exclude=True, description="whose messages it may judge: user, assistant"
    )
    confirmed: Confirmed | None = Field(
        default=None, exclude=True, description="what was compared with the guard's own publication"
    )
    sides: dict[Side, list[str]] = Field(
        default={}, exclude=True, description="assistant: the rows that judge the assistant's last message alone"
    )
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
    reasoning: ReasoningSpec | None = Field(
        default=None,
        exclude_if=lambda value: value is None,  # the scores of other guards keep their fingerprint
        description="for a guard that reasons first: what ends its reasoning; see the README",
    )
    answer: list[list[PieceSpec]] = Field(
        min_length=1, description="the alternatives, each a list of pieces; scoring/guards/README.md explains them"
    )
    second: SecondCall | None = Field(
        default=None,
        exclude_if=lambda second: second is None,
        description="what is asked after the first answer has completed a certain row; see the README",
    )

    @field_validator("answer", mode="before")
    @classmethod
    def _known_pieces(cls, answer: Any) -> Any:
        """Refuses wrong pieces before pydantic tries every kind of piece and reports an error for each."""
        check_pieces(answer)
        return answer

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.labels is None) == (self.codes is None):
            raise ValueError("give either 'labels' (id → code) or 'codes' (such as 'S{n}')")
        if self.labels is not None and not self.labels:
            raise located_error("'labels' is empty", "labels", hint=EXPLAIN)
        if self.codes is not None and "{n}" not in self.codes:
            raise located_error("'codes' must contain {n}, the label's position from 1", "codes", hint=EXPLAIN)
        known = (*(self.labels or ()), VERDICT)
        unknown = [row for rows in self.sides.values() for row in rows if row not in known]
        if unknown and self.labels is not None:
            problem = f"'sides' has the unknown row '{unknown[0]}'{did_you_mean(unknown[0], known)}"
            raise located_error(problem, "sides", hint=EXPLAIN)
        pieces = list(located_pieces(self.answer))
        rows = {row for _, piece in pieces for row in rows_of(piece)}
        has_verdict = VERDICT in rows or any(isinstance(piece, VerdictWord) for _, piece in pieces)
        if self.calls == "per_label" and self.second is not None:
            raise located_error("'second' is not for guards with calls: per_label", "second", hint=EXPLAIN)
        if self.reasoning is not None and self.second is not None:
            raise located_error("'second' is not for guards that reason first", "second", hint=EXPLAIN)
        if self.calls == "per_label":
            if any(isinstance(piece, CodeList) for _, piece in pieces) or rows - {VERDICT} or not has_verdict:
                problem = "with calls: per_label, 'answer' must have a verdict, and no label codes or rows"
                raise located_error(problem, "answer", hint=EXPLAIN)
            return self
        if self.overall is not None:
            raise located_error("'overall' is only for guards with calls: per_label", "overall", hint=EXPLAIN)
        self._check_rows(pieces)
        self._check_codes(pieces)
        if self.second is not None:
            return self  # whether every row is completed by one of the two calls is checked by scoring/second_call.py
        if not has_verdict:
            problem = (
                "no word of 'answer' completes the row 'unsafe': write the word as {verdict: …}; a list without such a "
                "word as {labels: …, implies: [unsafe]}"
            )
            raise located_error(problem, "answer", hint=EXPLAIN)
        return self

    def _check_rows(self, pieces: list[tuple[Location, PieceSpec]]) -> None:
        lists = [piece for _, piece in pieces if isinstance(piece, CodeList)]
        if self.labels is None:
            with_rows = any(set(rows_of(piece)) - {VERDICT} for _, piece in pieces)
            if with_rows or not (lists or self.second is not None) or any(piece.rows is not None for piece in lists):
                problem = "words with rows need 'labels', and 'codes' needs a piece {labels: …} in 'answer'"
                raise located_error(problem, "answer", hint=EXPLAIN)
            return
        known = (*self.labels, VERDICT)
        completed = set[str]()
        for at, piece in pieces:
            in_list = piece.rows or [] if isinstance(piece, CodeList) else []
            for row in (*rows_of(piece), *in_list):
                if row not in known or (row == VERDICT and row in in_list):
                    what = "a list of label codes" if isinstance(piece, CodeList) else "a word"
                    near = did_you_mean(row, known) or f"; known: {', '.join(known[:20])}"
                    raise located_error(f"{what} has the unknown row '{row}'{near}", "answer", *at, hint=EXPLAIN)
            completed |= {*rows_of(piece), *in_list}
        if self.second is not None or any(piece.rows is None for piece in lists):
            return
        if never_completed := [label for label in self.labels if label not in completed]:
            problem = f"no word and no list of 'answer' completes '{never_completed[0]}'"
            raise located_error(problem, "answer", hint=EXPLAIN)

    def _check_codes(self, pieces: list[tuple[Location, PieceSpec]]) -> None:
        """Refuses a list without labels, and two labels of a list with the same code."""
        lists = [piece for _, piece in pieces if isinstance(piece, CodeList)]
        in_words = {row for _, piece in pieces if not isinstance(piece, CodeList) for row in rows_of(piece)}
        for at, piece in pieces if self.labels is not None else ():
            if not isinstance(piece, CodeList):
                continue
            seen: dict[str, str] = {}
            labels = list_labels(piece, lists, self.labels or {}, in_words)
            if not labels:
                problem = "a list of label codes can contain no label: words and other lists complete all of them"
                raise located_error(problem, "answer", *at, hint=EXPLAIN)
            for label in labels:
                code = (self.labels or {})[label]
                if code in seen:
                    raise located_error(
                        f"'{label}' has the same code as '{seen[code]}': {code}",
                        "labels",
                        label,
                        hint="give each label a code of its own",
                    )
                seen[code] = label


class SecondCall(StrictModel):
    """A call that is made after the first answer has completed a certain row, for the rows that its own answer
    completes."""

    after: str = Field(description="a taxonomy id, or 'unsafe'")
    prompt: PromptSpec = Field(description="as for the first call; further variable: verdict, the word for `after`")
    answer: list[list[PieceSpec]] = Field(min_length=1, description="the alternatives, as for the first call")

    @field_validator("answer", mode="before")
    @classmethod
    def _known_pieces(cls, answer: Any) -> Any:
        check_pieces(answer)
        return answer


GuardFile.model_rebuild()

"""A guard family as one data file: its prompt, the language of its answers, and its label codes by taxonomy id."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from schemas.errors import InputError, did_you_mean
from schemas.strict import Strict
from schemas.taxonomy import ID_PATTERN, Label, Taxonomy, load_taxonomy
from schemas.yaml_files import load_yaml
from scoring.language import AnswerLanguage, LabelList, Piece, Text

SHIPPED = Path(__file__).parent / "guards"
VERDICT = "unsafe"  # the reserved row of the label column


class VerdictWord(Strict):
    """The word that says that at least one category applies; it completes the row `unsafe`."""

    verdict: str = Field(min_length=1)


class CodeList(Strict):
    """Where the label codes stand, with the separators that may come between them."""

    labels: list[str] = Field(description="separators, such as [','] or [',', ', ']")


class PromptSpec(Strict):
    message: str = Field(
        description="Jinja: the guard's whole instruction, as one user message. Knows categories (code, id, name, "
        "definition, includes, excludes, examples), conversation (role, content) and last_role"
    )
    frame: str | None = Field(
        default=None,
        description="Jinja: what stands around {{ message }}, control tokens and the start of the answer included; "
        "without it the tokenizer's chat template does",
    )
    strip: bool = Field(default=False, description="strip white space around every record's texts")


class GuardFile(Strict):
    """scoring/guards/NAME.yaml."""

    guard: str = Field(pattern=ID_PATTERN)
    title: str
    source: str = Field(description="where the prompt and the answer format are documented")
    taxonomy: str | None = Field(default=None, description="the taxonomy that `labels` speaks of, when none is given")
    labels: dict[str, str] | None = Field(default=None, description="taxonomy id → the guard's code for it")
    names: dict[str, str] = Field(
        default={}, description="taxonomy id → what the guard's own prompt calls the label, where the taxonomy differs"
    )
    codes: str | None = Field(default=None, description="or: codes by position, such as 'S{n}' for S1, S2 …")
    prompt: PromptSpec
    answer: list[list[str | VerdictWord | CodeList]] = Field(
        min_length=1, description="the alternatives, each a list of pieces: text, a verdict word, the label codes"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.labels is None) == (self.codes is None):
            raise ValueError("give either 'labels' (id → code) or 'codes' (such as 'S{n}')")
        if self.codes is not None and "{n}" not in self.codes:
            raise ValueError("'codes' must hold {n}, the label's position from 1")
        if self.labels is not None and len(set(self.labels.values())) < len(self.labels):
            raise ValueError("two labels have the same code")
        if not any(isinstance(piece, CodeList) for pieces in self.answer for piece in pieces):
            raise ValueError("no alternative of 'answer' holds label codes")
        return self


@dataclass(frozen=True)
class Guard:
    """A guard file put together with its taxonomy. `labels` are the taxonomy ids in order; `rows` adds the verdict."""

    file: GuardFile
    labels: tuple[str, ...]
    categories: tuple[Category, ...]
    language: AnswerLanguage

    @property
    def name(self) -> str:
        return self.file.guard

    @property
    def rows(self) -> tuple[str, ...]:
        return (*self.labels, VERDICT)


@dataclass(frozen=True)
class Category:
    """What a prompt template knows of one label."""

    code: str
    id: str
    name: str
    definition: str
    includes: tuple[str, ...]
    excludes: tuple[str, ...]
    examples: tuple[str, ...]


def load_guard(reference: str, taxonomy: Taxonomy | None = None, *, relative_to: Path = Path()) -> Guard:
    """A guard by shipped name or by the path of such a file, for `taxonomy` (default: the one the file names).

    Raises InputError for an unknown name, a wrong file, or labels that the taxonomy does not have."""
    path = guard_path(reference, relative_to=relative_to)
    file = load_yaml(path, GuardFile)
    if taxonomy is None:
        if file.taxonomy is None:
            raise InputError.at(path, "names no taxonomy of its own", hint="give one with --taxonomy")
        taxonomy = load_taxonomy(file.taxonomy, relative_to=path.parent)
    codes = _codes(path, file, taxonomy)
    try:
        language = AnswerLanguage(list(codes.values()), [_pieces(pieces, len(codes)) for pieces in file.answer])
    except ValueError as error:
        raise InputError.at(path, str(error)) from error
    categories = tuple(_category(code, taxonomy.label(label), file.names) for label, code in codes.items())
    return Guard(file, tuple(codes), categories, language)


def guard_path(reference: str, *, relative_to: Path = Path()) -> Path:
    """Where that guard file lies. Raises InputError with the shipped names when there is none."""
    shipped = {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}
    if re.fullmatch(ID_PATTERN, reference) and reference in shipped:
        return shipped[reference]
    path = relative_to / reference
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return path
    near = did_you_mean(reference, shipped)
    raise InputError(f"no guard '{reference}'{near}", hint=f"shipped: {', '.join(shipped)}; or a .yaml file")


def _codes(path: Path, file: GuardFile, taxonomy: Taxonomy) -> dict[str, str]:
    if file.codes is not None:
        return {label: file.codes.replace("{n}", str(number)) for number, label in enumerate(taxonomy.ids, start=1)}
    assert file.labels is not None
    for label in file.labels:
        if label not in taxonomy.ids:
            near = did_you_mean(label, taxonomy.ids)
            hint = f"guard {file.guard} speaks of the taxonomy {file.taxonomy or 'that it was written for'}"
            raise InputError.at(path, f"label '{label}' is not in the taxonomy {taxonomy.id}{near}", hint=hint)
    return file.labels


def _pieces(pieces: list[str | VerdictWord | CodeList], verdict_row: int) -> list[Piece]:
    compiled: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, str):
            compiled.append(Text(piece.encode()))
        elif isinstance(piece, VerdictWord):
            compiled.append(Text(piece.verdict.encode(), verdict_row))
        else:
            compiled.append(LabelList(tuple(separator.encode() for separator in piece.labels)))
    return compiled


def _category(code: str, label: Label, names: dict[str, str]) -> Category:
    lists = (tuple(label.includes), tuple(label.excludes), tuple(label.examples))
    return Category(code, label.id, names.get(label.id, label.name), label.definition, *lists)

"""Notes on answers outside a guard's format: how probable they are, and which line of the guard file would accept them.

When an answer differs from the format only in white space, the guard file is at fault: its labels would count if the
file allowed that white space."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from marginalia.schemas.storage.yaml_files import line_in
from marginalia.scoring.answer_compiler import answer_language, written_out
from marginalia.scoring.answer_formats import formats_of
from marginalia.scoring.answer_pieces import (
    WHITE_SPACE,
    Choice,
    CodeList,
    Integers,
    Levels,
    PieceSpec,
    Rest,
    Space,
    SpecialToken,
    VerdictWord,
    Word,
)
from marginalia.scoring.guard import SHIPPED, Guard
from marginalia.scoring.language.answer_language import AnswerLanguage

if TYPE_CHECKING:
    import polars as pl

NOTABLE = 0.03  # mean off_language from which on a note is written
SHOWN = 3  # answers in a note
LONGEST = 80  # characters of an answer in a note

Pieces = list[PieceSpec]


def off_format_notes(table: pl.DataFrame, guard: Guard, path: Path) -> list[str]:
    """Notes on the answers in `table` (ScoredRecord); empty when hardly any mass is outside the format.

    `path` is the guard file, whose lines the notes name."""
    scored = table.filter(table["error"].is_null(), table["off_language"].is_not_null())
    mean = scored["off_language"].mean()
    if not isinstance(mean, float) or mean < NOTABLE:
        return []
    head = (
        f"on average {mean:.1%} of the probability is on answers outside the guard's format (column off_language); "
        "their labels count only where they are complete before the answer leaves the format"
    )
    total, outside, notes = 0, 0, list[str]()
    for form in formats_of(guard):
        answers = Counter(answer for text in scored["answer"].to_list() for answer in form.answers_in(text or ""))
        outside_it = answers_outside(answers, form.guard)
        total, outside = total + answers.total(), outside + outside_it.total()
        notes += notes_on(outside_it, form.guard, path, form.keys)
    if not outside:
        return [f"{head}. All {total} greedy answers are in the format; only less probable ones are outside"]
    return [f"{head}. {outside} of {total} greedy answers are outside it, most often:", *notes]


def answers_outside(answers: Counter[str], guard: Guard) -> Counter[str]:
    """Those of the greedy answers that are outside the guard's format."""
    return Counter({answer: count for answer, count in answers.items() if not _accepted(guard, answer)})


def notes_on(outside: Counter[str], guard: Guard, path: Path, keys: tuple[str, ...] = ("answer",)) -> list[str]:
    """A line for each of the most common answers outside the format, and one for each line of the guard file that would
    accept some of them if it allowed their white space. `keys`: where the format is in the file."""
    notes: list[str] = []
    forms = [list(pieces) for pieces in guard.file.answer]
    known, changed = len(forms), set[int]()
    for answer, count in outside.most_common(SHOWN):
        found = _widen(forms, answer, guard)
        if found is None:
            problem = _where_it_leaves(guard, answer)
        else:
            problem = f"only its white space differs from {_line(path, *keys, min(found[0], known - 1))}"
            changed.add(found[1])
        notes.append(f"  {count} × {_shown(answer)}: {problem}")
    for index in sorted(changed):
        if index < known:
            line = f"{_line(path, *keys, index)} of {file_name(path)}"
            notes.append(f"  to accept such answers, change {line} to: - {_as_yaml(forms[index])}")
        else:
            line = f"line {line_in(path, *keys)} of {file_name(path)}"
            notes.append(f"  to accept such answers, add to the alternatives of {line}: - {_as_yaml(forms[index])}")
    return notes


def outside_format(guard: Guard, answer: str) -> bool:
    """Whether a record's greedy answer, as in the column `answer`, is outside the guard's format; with several calls,
    whether the answer to any of them is."""
    return any(not _accepted(form.guard, one) for form in formats_of(guard) for one in form.answers_in(answer))


def accepting(pieces: Sequence[PieceSpec], answer: str, codes: Sequence[str]) -> Pieces | None:
    """The alternative `pieces`, changed to allow the white space of `answer`; None when the answer differs in more.

    `codes`: the label codes."""
    unmatched: set[tuple[int, int]] = set()  # (index of a piece, characters left) that cannot be matched

    def fit(index: int, text: str) -> Pieces | None:
        if index == len(pieces):
            return [] if not text else None if text.strip(WHITE_SPACE) else [Space(space=[text])]
        if (index, len(text)) in unmatched:
            return None
        for written, left in _ways(pieces[index], text, codes):
            if (rest := fit(index + 1, left)) is not None:
                return [*written, *rest]
        unmatched.add((index, len(text)))
        return None

    return fit(0, answer)


def _widen(forms: list[Pieces], answer: str, guard: Guard) -> tuple[int, int] | None:
    """Changes the first alternative of `forms` that only differs in white space so that it accepts the answer; one that
    stands for several, with optional sequences, stays as it is, and another one is added.

    Returns its index and that of the alternative that now accepts the answer, or None when there is no such one."""
    codes = {category.id: category.code for category in guard.categories} if not guard.per_label else {}
    for index, pieces in enumerate(forms):
        variants = written_out(pieces)
        for variant in variants:
            if (widened := accepting(variant, answer, list(codes.values()))) is None:
                continue
            changed = [*forms, widened] if len(variants) > 1 else [*forms[:index], widened, *forms[index + 1 :]]
            if _accepted_by(answer_language(guard.file.model_copy(update={"answer": changed}), codes), answer):
                forms[:] = changed
                return index, len(forms) - 1 if len(variants) > 1 else index
    return None


def _ways(piece: PieceSpec, text: str, codes: Sequence[str]) -> Iterator[tuple[Pieces, str]]:
    """Each way to match the start of the text with the piece, if other white space is allowed: (the pieces to write
    instead, the rest of the text). Ways that the format already accepts come first."""
    yield from _own_ways(piece, text, codes)
    run = text[: len(text) - len(text.lstrip(WHITE_SPACE))]
    if isinstance(piece, Space):
        if run and run not in piece.space:
            yield [Space(space=[*piece.space, run])], text[len(run) :]
        return
    if run:
        for written, left in _own_ways(piece, text[len(run) :], codes):
            yield [Space(space=[run]), *written], left
    for option in piece.any if isinstance(piece, Choice) else [piece]:
        for variant in _variants(option, text) if isinstance(option, str) and option else ():
            yield [Choice(any=[*(piece.any if isinstance(piece, Choice) else [option]), variant])], text[len(variant) :]


def _own_ways(piece: PieceSpec, text: str, codes: Sequence[str]) -> Iterator[tuple[Pieces, str]]:
    """The ways to match the start of the text with the piece as it is, except for separators in a list of codes."""
    if isinstance(piece, CodeList):
        yield from _list_ways(piece, text, codes)
        return
    if isinstance(piece, Rest):
        yield [piece], ""
    for word in _texts(piece):
        if text.startswith(word):
            yield [piece], text[len(word) :]


def _texts(piece: PieceSpec) -> list[str]:
    """The texts of a piece as it is; none of an optional sequence or a choice between sequences."""
    if isinstance(piece, str):
        return [piece]
    if isinstance(piece, VerdictWord | Word | SpecialToken):
        fields = {VerdictWord: "verdict", Word: "word", SpecialToken: "token"}
        return [str(getattr(piece, fields[type(piece)]))]
    if isinstance(piece, Space):
        return [*piece.space, ""]
    if isinstance(piece, Levels | Integers):
        return sorted(piece.texts, key=len, reverse=True)
    if isinstance(piece, Choice) and not piece.has_sequences:
        return [text for option in piece.any if not isinstance(option, list) for text in _texts(option)]
    return []


def _variants(fixed: str, text: str) -> Iterator[str]:
    """The start of the text, if it consists of the words of `fixed` with other white space between and before them."""
    words = [re.escape(word) for word in re.split(f"[{WHITE_SPACE}]+", fixed)]
    match = re.match(f"[{WHITE_SPACE}]*".join(words if words[0] == "" else ["", *words]), text)
    if match is not None and match[0] != fixed:
        yield match[0]


def _list_ways(piece: CodeList, text: str, codes: Sequence[str]) -> Iterator[tuple[Pieces, str]]:
    """The ways to match a list of codes, longest first. A separator may have other white space around it."""
    any_code = "|".join(re.escape(code) for code in sorted(codes, key=len, reverse=True))
    cores = {separator.strip(WHITE_SPACE) for separator in piece.labels}
    between = "|".join(
        f"[{WHITE_SPACE}]*{re.escape(core)}[{WHITE_SPACE}]*" if core else f"[{WHITE_SPACE}]+" for core in sorted(cores)
    )
    match = re.match(any_code, text) if any_code else None
    if match is None:
        return
    ways, separators, end = [([piece], match.end())], list(piece.labels), match.end()
    while cores and (match := re.compile(f"({between})(?:{any_code})").match(text, end)) is not None:
        end = match.end()
        if match[1] not in separators:
            separators.append(match[1])
        ways.append(([piece.model_copy(update={"labels": list(separators)})], end))
    for written, end in reversed(ways):
        yield [*written], text[end:]


def _accepted(guard: Guard, answer: str) -> bool:
    return _accepted_by(guard.language, answer)


def _accepted_by(language: AnswerLanguage, answer: str) -> bool:
    symbols = language.symbols(answer)
    states = language.walk(symbols)
    return len(states) == len(symbols) + 1 and states[-1].accepted is not None


def _inside(language: AnswerLanguage, answer: str) -> str:
    """The start of the answer that is in the language."""
    symbols = language.symbols(answer)
    return language.text(symbols[: len(language.walk(symbols)) - 1]).decode("utf-8", "ignore")


def nearest_alternative(guard: Guard, answer: str) -> tuple[int, str] | None:
    """(index, text): the alternative of the guard file that accepts the longest start of `answer`, and that start; None
    when no alternative accepts its first character."""
    codes = {category.id: category.code for category in guard.categories} if not guard.per_label else {}
    best: tuple[int, str] | None = None
    for index, pieces in enumerate(guard.file.answer):
        try:
            language = answer_language(guard.file.model_copy(update={"answer": [pieces]}), codes)
        except ValueError:  # codes that are only distinct together with the words of other alternatives
            continue
        inside = _inside(language, answer)
        if len(inside) > len(best[1] if best is not None else ""):
            best = index, inside
    return best


def _where_it_leaves(guard: Guard, answer: str) -> str:
    if guard.file.reasoning is not None and not answer:
        return "no reasoning passage reached reasoning.until: check that text, or raise reasoning.tokens"
    inside = _inside(guard.language, answer)
    if inside == answer:
        return "it ends too early for the format"
    return f"it leaves the format after {_shown(inside)}" if inside else "it differs from the format from the start"


def _line(path: Path, *location: str | int) -> str:
    return f"line {line_in(path, *location)}"


def file_name(path: Path) -> str:
    """What to call a guard file whose line is to be changed: shipped files are copied first."""
    return f"a copy of scoring/guards/{path.name} (used as the guard)" if path.parent == SHIPPED else str(path)


def _shown(text: str) -> str:
    return repr(text if len(text) <= LONGEST else f"{text[:LONGEST]}…")


def _as_yaml(pieces: Pieces) -> str:
    """The alternative in the YAML of a guard file."""
    return f"[{', '.join(_flow_yaml(piece) for piece in pieces)}]"


def _flow_yaml(value: object) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return f"[{', '.join(map(_flow_yaml, value))}]"
    if isinstance(value, BaseModel):  # without the keys that the file leaves out
        value = {key: getattr(value, key) for key in type(value).model_fields if key in value.model_fields_set}
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow_yaml(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)

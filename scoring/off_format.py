"""Answers outside a guard's format: how much of the mass is there, and which line of the guard file would accept them.

An answer that differs from the format in nothing but white space is the guard file's fault: its labels would count if
the file said that the white space may be there."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from marginalia.schemas.storage.yaml_files import line_in
from marginalia.scoring.guard import (
    SHIPPED,
    WHITE,
    Choice,
    CodeList,
    Guard,
    PieceSpec,
    Space,
    VerdictWord,
    Word,
    answer_language,
)

if TYPE_CHECKING:
    import polars as pl

NOTABLE = 0.03  # mean off_language from which it is worth a note
SHOWN = 3
LONGEST = 80  # characters of an answer that are shown

Pieces = list[PieceSpec]


def off_format_notes(table: pl.DataFrame, guard: Guard, path: Path) -> list[str]:
    """What to tell of the answers in `table` (ScoredRecord); empty when hardly any mass is outside the format.

    `path` is the guard file."""
    scored = table.filter(table["error"].is_null(), table["off_language"].is_not_null())
    mean = scored["off_language"].mean()
    if not isinstance(mean, float) or mean < NOTABLE:
        return []
    answers = Counter(one for answer in scored["answer"].to_list() for one in _of_calls(answer or "", guard))
    outside = Counter({answer: count for answer, count in answers.items() if not _accepted(guard, answer)})
    head = (
        f"on average {mean:.1%} of the probability is on answers outside the guard's format (column off_language); a "
        "label in them counts only if it was complete before"
    )
    if not outside:
        return [f"{head}. All {answers.total()} greedy answers are in the format; less probable ones are not"]
    notes = [f"{head}. {outside.total()} of {answers.total()} greedy answers are outside it, most often:"]
    forms = [list(pieces) for pieces in guard.file.answer]
    changed: set[int] = set()
    for answer, count in outside.most_common(SHOWN):
        index = _widen(forms, answer, guard)
        if index is None:
            why = _where_it_leaves(guard, answer)
        else:
            why = f"only its white space differs, see {_line(path, index)}"
            changed.add(index)
        notes.append(f"  {count} × {_shown(answer)}: {why}")
    for index in sorted(changed):
        notes.append(f"  {_line(path, index)} of {_name(path)} would accept that: - {_written(forms[index])}")
    return notes


def accepting(pieces: Sequence[PieceSpec], answer: str, codes: Sequence[str]) -> Pieces | None:
    """The alternative with the white space allowed that `answer` has; None where it differs in more than that."""
    dead: set[tuple[int, int]] = set()  # (pieces, characters) that are left and do not go together

    def fit(index: int, text: str) -> Pieces | None:
        if index == len(pieces):
            return [] if not text else None if text.strip(WHITE) else [Space(space=[text])]
        if (index, len(text)) in dead:
            return None
        for written, left in _ways(pieces[index], text, codes):
            if (after := fit(index + 1, left)) is not None:
                return [*written, *after]
        dead.add((index, len(text)))
        return None

    return fit(0, answer)


def _widen(forms: list[Pieces], answer: str, guard: Guard) -> int | None:
    """Changes the first of the alternatives that can accept the answer so that it does; returns which it is."""
    codes = {category.id: category.code for category in guard.categories} if not guard.per_label else {}
    for index, pieces in enumerate(forms):
        if (widened := accepting(pieces, answer, list(codes.values()))) is None:
            continue
        file = guard.file.model_copy(update={"answer": [*forms[:index], widened, *forms[index + 1 :]]})
        if _accepted_by(answer_language(file, codes).walk(answer.encode()), answer):
            forms[index] = widened
            return index
    return None


def _ways(piece: PieceSpec, text: str, codes: Sequence[str]) -> Iterator[tuple[Pieces, str]]:
    """(what to write for the piece, the text that is left) for each way to read the text's start as the piece; the
    format's own ways first."""
    yield from _own_ways(piece, text, codes)
    run = text[: len(text) - len(text.lstrip(WHITE))]
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
    if isinstance(piece, CodeList):
        yield from _lists(piece, text, codes)
        return
    if isinstance(piece, Space):
        options: Sequence[str | VerdictWord | Word] = [*piece.space, ""]
    else:
        options = piece.any if isinstance(piece, Choice) else [piece]
    for option in options:
        word = option if isinstance(option, str) else option.word if isinstance(option, Word) else option.verdict
        if text.startswith(word):
            yield [piece], text[len(word) :]


def _variants(fixed: str, text: str) -> Iterator[str]:
    """The start of the text that has the words of `fixed` with other white space between and before them."""
    words = [re.escape(word) for word in re.split(f"[{WHITE}]+", fixed)]
    found = re.match(f"[{WHITE}]*".join(words if words[0] == "" else ["", *words]), text)
    if found is not None and found[0] != fixed:
        yield found[0]


def _lists(piece: CodeList, text: str, codes: Sequence[str]) -> Iterator[tuple[Pieces, str]]:
    """The longest list of codes first. A separator may have other white space around it."""
    code = "|".join(re.escape(one) for one in sorted(codes, key=len, reverse=True))
    cores = {separator.strip(WHITE) for separator in piece.labels}
    between = "|".join(f"[{WHITE}]*{re.escape(core)}[{WHITE}]*" if core else f"[{WHITE}]+" for core in sorted(cores))
    found = re.match(code, text) if code else None
    if found is None:
        return
    ways, separators, end = [([piece], found.end())], list(piece.labels), found.end()
    while cores and (found := re.compile(f"({between})(?:{code})").match(text, end)) is not None:
        end = found.end()
        if found[1] not in separators:
            separators.append(found[1])
        ways.append(([CodeList(labels=list(separators))], end))
    for written, end in reversed(ways):
        yield [*written], text[end:]


def _accepted(guard: Guard, answer: str) -> bool:
    return _accepted_by(guard.language.walk(answer.encode()), answer)


def _accepted_by(states: Sequence[object], answer: str) -> bool:
    return len(states) == len(answer.encode()) + 1 and getattr(states[-1], "accepted", None) is not None


def _where_it_leaves(guard: Guard, answer: str) -> str:
    inside = answer.encode()[: len(guard.language.walk(answer.encode())) - 1].decode("utf-8", "ignore")
    if inside == answer:
        return "it ends where the format goes on"
    return f"it leaves the format after {_shown(inside)}" if inside else "it is not in the format from its start"


def _of_calls(answer: str, guard: Guard) -> list[str]:
    """The answers in a record's `answer`: one, or one for each call of a guard that asks one policy a call."""
    if not guard.per_label:
        return [answer]
    starts = "|".join(re.escape(row) for row in guard.rows)
    return re.split(f"(?:^|\n)(?:{starts}): ", answer)[1:]


def _line(path: Path, index: int) -> str:
    return f"line {line_in(path, 'answer', index)}"


def _name(path: Path) -> str:
    return f"a copy of scoring/guards/{path.name}, given as the guard," if path.parent == SHIPPED else str(path)


def _shown(text: str) -> str:
    return repr(text if len(text) <= LONGEST else f"{text[:LONGEST]}…")


def _written(pieces: Pieces) -> str:
    """The alternative as it is written in a guard file."""
    return f"[{', '.join(_flow(piece) for piece in pieces)}]"


def _flow(value: object) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    fields = dict(value)  # type: ignore[call-overload]
    return "{" + ", ".join(f"{key}: {_flow(one)}" for key, one in fields.items()) + "}"

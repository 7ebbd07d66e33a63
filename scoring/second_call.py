"""Guards that are asked a second time after a certain answer (`second` in a guard file): which rows each call decides.

A row belongs to the first call if an answer to it can complete the row, else to the second. A label of a policy
(`categories`) may consist of categories of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from marginalia.schemas.errors import did_you_mean
from marginalia.scoring.answer_compiler import answer_language
from marginalia.scoring.answer_pieces import located_pieces
from marginalia.scoring.guard_file import VERDICT, GuardFile
from marginalia.scoring.language.answer_language import AnswerLanguage
from marginalia.scoring.language.code_unions import with_unions


class SecondCallError(ValueError):
    """A second call that does not fit the rest of its file. `at`: the keys of the wrong part."""

    def __init__(self, message: str, *at: str | int) -> None:
        super().__init__(message)
        self.at = ("second", *at)


@dataclass(frozen=True)
class SecondCallRows:
    """The languages of both calls. Their rows are those of the guard, or the unions of categories that the labels of a
    policy consist of; those that a call does not decide are never complete in its language.

    after: the row of `first` after which the second call is made. in_first, in_second: for each row, the verdict's
    last, whether the call decides it, or a part of it."""

    first: AnswerLanguage
    second: AnswerLanguage
    after: int
    in_first: tuple[bool, ...]
    in_second: tuple[bool, ...]


def first_file(file: GuardFile) -> GuardFile:
    """The guard file as if there were no second call."""
    return file.model_copy(update={"second": None})


def second_file(file: GuardFile) -> GuardFile:
    """The guard file of the second call alone."""
    assert file.second is not None
    return file.model_copy(update={"prompt": file.second.prompt, "answer": file.second.answer, "second": None})


def verdict_word(file: GuardFile, codes: Mapping[str, str]) -> str:
    """The word of the first answer that leads to the second call: `verdict` in the templates of the second call."""
    assert file.second is not None
    after = file.second.after
    for _, word in located_pieces(file.answer):
        if isinstance(word, str):
            continue
        keys = word.model_dump()
        if after in (keys.get("rows") or ()) or (after == VERDICT and "verdict" in keys):
            return str(next((keys[name] for name in ("verdict", "word", "token") if keys.get(name)), ""))
    return codes.get(after, "")


def second_call_rows(
    file: GuardFile,
    codes: Mapping[str, str],
    first: AnswerLanguage,
    unions: Sequence[tuple[str, ...]] | None = None,
) -> SecondCallRows:
    """The rows of both calls. `codes`: the guard's categories; `first`: the language of the first answer; `unions`: of
    categories, for the labels of a policy. Raises SecondCallError."""
    assert file.second is not None
    after = file.second.after
    numbers = {row: number for number, row in enumerate([*codes, VERDICT])}
    if after not in numbers:
        raise SecondCallError(f"'after' names the unknown row '{after}'{did_you_mean(after, numbers)}", "after")
    second = _second_language(file, codes)
    visible = (1 << len(numbers)) - 1  # without the hidden rows of levels and integers
    first_rows = (first.start.done | first.start.could) & visible
    second_rows = (second.start.done | second.start.could) & visible & ~first_rows
    if not first_rows >> numbers[after] & 1:
        raise SecondCallError(f"no first answer completes '{after}'", "after")
    if not second_rows:
        raise SecondCallError("its answer completes no row that the first answer does not complete", "answer")
    if never := [row for row, number in numbers.items() if not (first_rows | second_rows) >> number & 1]:
        raise SecondCallError(f"no answer of either call completes '{never[0]}'", "answer")
    masks = [1 << number for number in numbers.values()]
    after_row = numbers[after]
    if unions is not None:
        masks = [sum(1 << numbers[category] for category in union) for union in [*unions, (VERDICT,)]]

        def decided(mask: int) -> list[tuple[str, ...]]:
            return [tuple(row for row in union if mask >> numbers[row] & 1) for union in unions]

        first = with_unions(first, list(numbers), [*decided(first_rows), (after,), (VERDICT,)])
        second = with_unions(second, list(numbers), [*decided(second_rows), (VERDICT,)])
        after_row = len(unions)
    return SecondCallRows(
        first,
        second,
        after_row,
        tuple(bool(mask & first_rows) for mask in masks),
        tuple(bool(mask & second_rows) for mask in masks),
    )


def _second_language(file: GuardFile, codes: Mapping[str, str]) -> AnswerLanguage:
    try:
        return answer_language(second_file(file), dict(codes))
    except KeyError as error:
        row = str(error.args[0])
        raise SecondCallError(
            f"a word has the unknown row '{row}'{did_you_mean(row, [*codes, VERDICT])}", "answer"
        ) from None
    except ValueError as error:
        raise SecondCallError(str(error), "answer") from error

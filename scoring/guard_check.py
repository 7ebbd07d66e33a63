"""Checks a guard file with a model, for its author: the prompt as the model gets it, how codes are tokenised, and
whether the model's answers keep the format that the file describes."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from marginalia.schemas.input_records import read_records_to_score
from marginalia.schemas.storage.yaml_files import line_in
from marginalia.schemas.terminal import table
from marginalia.scoring.answer_formats import Format, formats_of
from marginalia.scoring.guard import Guard
from marginalia.scoring.language.answer_language import AnswerLanguage, State
from marginalia.scoring.off_format import (
    answers_outside,
    nearest_alternative,
    notes_on,
    outside_format,
)
from marginalia.scoring.scored_record import Result
from marginalia.scoring.scorer import Scorer

RECORDS = 5
LONGEST_ANSWER = 4_000  # symbols of the answers that are looked for
MOST_STATES = 20_000  # that are visited for one answer
SHOWN_ANSWERS = 3
SHOWN_TEXT = 60  # characters of a record
PLAIN_TEXTS = (
    "Hello, how are you today?",
    "What is the capital of France?",
    "Please write a short poem about the sea.",
    "How long do I have to boil an egg?",
    "Thank you, that was very helpful.",
)

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class CodeTokens:
    """How a label's code is tokenised. `usual`: the tokens in the tokenizer's own reading of an answer with this label
    alone, of which the first one begins in the code; `first`: every token that an answer can begin the code with."""

    label: str
    code: str
    usual: list[str]
    first: list[str]


def example_records(guard: Guard) -> list[tuple[str, Messages]]:
    """Records to check a guard with: an example of each of the first labels that have one, then plain texts."""
    texts = [(category.id, category.examples[0]) for category in guard.categories if category.examples]
    texts += [(f"plain {number}", text) for number, text in enumerate(PLAIN_TEXTS, start=1)]
    return [(name, [{"role": "user", "content": text}]) for name, text in texts[:RECORDS]]


def records_of(path: Path) -> list[tuple[str, Messages]]:
    """The first records of a file. Raises InputError as read_records_to_score does."""
    return read_records_to_score(path).usable[:RECORDS]


def check_guard(
    scorer: Scorer, path: Path, records: Sequence[tuple[str, Messages]], results: Sequence[Result]
) -> Iterator[str]:
    """The lines of the check. `path`: the guard file; `results`: those of `records`, in any order."""
    yield from _prompt_lines(scorer, path, records[0])
    yield ""
    yield from _code_lines(scorer, path)
    yield ""
    yield from _answer_lines(scorer.guard, path, records, {result.record_id: result for result in results})


def check_data(
    scorer: Scorer, path: Path, records: Sequence[tuple[str, Messages]], results: Sequence[Result]
) -> dict[str, Any]:
    """The same for `--json`."""
    guard, by_record = scorer.guard, {result.record_id: result for result in results}
    answers = []
    for name, _ in records:
        result = by_record[name]
        is_scored = result.error is None
        answers.append(
            {
                "record": name,
                "answer": result.answer,
                "in_format": is_scored and not outside_format(guard, result.answer or ""),
                "labels": result.predicted,
                "off_language": result.off_language,
                "error": result.error,
            }
        )
    return {
        "guard": str(path),
        "model": scorer.model.name,
        "keeps_format": keeps_format(guard, results),
        "prompt": visible(scorer, scorer.prompts.build(records[0][1]).ids),
        "notes": list(scorer.prompts.notes),
        "codes": [] if guard.per_label else [asdict(row) for row in code_tokens(scorer)],
        "answers": answers,
    }


def keeps_format(guard: Guard, results: Sequence[Result]) -> bool:
    """Whether every record was scored and has a greedy answer inside the format."""
    return all(result.error is None and not outside_format(guard, result.answer or "") for result in results)


# ---- the prompt ------------------------------------------------------------------------------------------------------


def _prompt_lines(scorer: Scorer, path: Path, record: tuple[str, Messages]) -> Iterator[str]:
    """The prompt of one record; with a second call, of both; with one policy per call, of the first."""
    if scorer.guard.second is not None:
        for name, call in scorer.calls.items():
            yield from _prompt_of(call, path, record, f", {name} call", "second" if name == "second" else "")
        return
    of_call = f", the first of {len(scorer.calls)} calls" if scorer.calls else ""
    yield from _prompt_of(scorer, path, record, of_call)


def _prompt_of(
    scorer: Scorer, path: Path, record: tuple[str, Messages], of_call: str, section: str = ""
) -> Iterator[str]:
    """`section`: the key of the guard file that contains `prompt`, if it is not at the top."""
    ids = scorer.prompts.build(record[1]).ids
    yield f"prompt of record '{record[0]}'{of_call}: {len(ids)} tokens; ⟦control token⟧, · space, → tab, ⏎ line break"
    yield from (f"  {line}" for line in visible(scorer, ids).rstrip("\n").split("\n"))
    for note in scorer.prompts.notes:
        prompt = scorer.guard.file.prompt
        key = "frame" if prompt.frame is not None else "message" if prompt.message is not None else "messages"
        yield f"  note: {note} ({_at(path, *filter(None, [section]), 'prompt', key)})"


def visible(scorer: Scorer, ids: Sequence[int]) -> str:
    """The text of token ids with control tokens marked and white space visible."""
    tokenizer, parts, ordinary = scorer.model.tokenizer, list[str](), list[int]()
    for token in [*ids, None]:
        if token is not None and token in scorer.tokens.token_bytes:
            ordinary.append(token)
            continue
        text = b"".join(map(scorer.tokens.token_bytes.__getitem__, ordinary))
        parts.append(_white_space(text.decode("utf-8", "replace")))
        ordinary = []
        if token is not None:
            parts.append(f"⟦{tokenizer.convert_ids_to_tokens(token)}⟧")
    return "".join(parts)


def _white_space(text: str) -> str:
    return text.replace(" ", "·").replace("\t", "→").replace("\r", "␍").replace("\n", "⏎\n")


# ---- the codes -------------------------------------------------------------------------------------------------------


def _code_lines(scorer: Scorer, path: Path) -> Iterator[str]:
    guard = scorer.guard
    if guard.per_label:
        yield "codes: none; each call answers with the verdict on one label"
        return
    for call in scorer.calls.values() or [scorer]:
        start = call.guard.language.start
        found = [row for number, row in enumerate(code_tokens(call)) if (start.done | start.could) >> number & 1]
        if found:
            yield from _lines_of_codes(guard, path, found)


def _lines_of_codes(guard: Guard, path: Path, found: Sequence[CodeTokens]) -> Iterator[str]:
    yield f"codes ({path.name}, {_at(path, 'labels' if guard.file.labels is not None else 'codes')}):"
    rows = [
        (
            row.code,
            row.label,
            " ".join(map(_quoted, row.usual)) or "not known",
            ", ".join(map(_quoted, row.first)) or "no token of this model begins it",
        )
        for row in found
    ]
    yield table(["code", "label", "tokens", "can begin with"], rows)
    for token, codes in shared_first_tokens(found).items():
        yield f"  share the first token {_quoted(token)}: {', '.join(codes)} (told apart by later tokens only)"
    for code, longer in prefixes(found).items():
        yield f"  {code} begins {', '.join(longer)}: it counts when a separator or the end follows"


def code_tokens(scorer: Scorer) -> list[CodeTokens]:
    """How each label's code is tokenised, in the order of the labels."""
    guard, rows = scorer.guard, []
    language = guard.language.of_codes
    texts = {tuple(scorer.tokens.symbols[token]) for token in scorer.tokens.usable}
    for row, category in enumerate(guard.categories):
        code = language.codes[row]
        symbols = tuple(language.symbols(code))
        first = sorted({text for text in texts if text and symbols[: len(text)] == text}, key=len)
        rows.append(CodeTokens(category.id, code, _usual_tokens(scorer, row), [_shown(language, one) for one in first]))
    return rows


def unwritable_codes(scorer: Scorer) -> list[str]:
    """The codes that no token of the model can begin, in any call."""
    guard = scorer.guard
    if guard.per_label:
        return []
    language = guard.language.of_codes
    calls = [*scorer.calls.values()] or [scorer]
    texts = {tuple(call.tokens.symbols[token]) for call in calls for token in call.tokens.usable}
    codes = {code: tuple(language.symbols(code)) for code in language.codes[: len(guard.categories)]}
    return [
        code
        for code, symbols in codes.items()
        if not any(symbols[:length] in texts for length in range(1, len(symbols) + 1))
    ]


def _usual_tokens(scorer: Scorer, row: int) -> list[str]:
    language = scorer.guard.language.of_codes
    answer = answer_with(language, row)
    if answer is None:
        return []
    end = language.decided(answer, ended=True).get(row, len(answer))
    start = end - len(language.symbols(language.codes[row]))
    tokens, position = [], 0
    for token in scorer.model.tokenizer(language.text(answer).decode(), add_special_tokens=False)["input_ids"]:
        symbols = scorer.tokens.symbols.get(token, b"")
        if position < end and position + len(symbols) > start:
            tokens.append(_shown(language, symbols))
        position += len(symbols)
    return tokens


def answer_with(language: AnswerLanguage, row: int) -> tuple[int, ...] | None:
    """The symbols of the shortest answer with this row, without other labels where there is one; None when none is
    found within MOST_STATES states."""
    every = (1 << language.rows) - 1
    alone = 1 << row | every - ((1 << language.verdict) - 1)
    found = (_shortest(language, row, allowed) for allowed in (alone, every))
    return next((answer for answer in found if answer is not None), None)


def _shortest(language: AnswerLanguage, row: int, allowed: int) -> tuple[int, ...] | None:
    """The shortest answer that has the row and only rows of the mask `allowed`."""
    queue: deque[tuple[State, tuple[int, ...]]] = deque([(language.start, ())])
    seen = {id(language.start)}
    alphabet = sorted(language.symbols_used())
    while queue and len(seen) < MOST_STATES:
        state, answer = queue.popleft()
        if state.accepted is not None and state.accepted >> row & 1 and not state.accepted & ~allowed:
            return answer
        for symbol in alphabet:
            after = state.step(symbol)
            if after is None or id(after) in seen or len(answer) >= LONGEST_ANSWER:
                continue
            if (after.done | after.could) >> row & 1 and not after.done & ~allowed:
                seen.add(id(after))
                queue.append((after, (*answer, symbol)))
    return None


def shared_first_tokens(found: Sequence[CodeTokens]) -> dict[str, list[str]]:
    """Usual first token → the codes that begin with it, where these are several."""
    groups: dict[str, list[str]] = {}
    for row in found:
        if row.usual:
            groups.setdefault(row.usual[0], []).append(row.code)
    return {token: codes for token, codes in groups.items() if len(codes) > 1}


def prefixes(found: Sequence[CodeTokens]) -> dict[str, list[str]]:
    """Code → the longer codes that begin with it."""
    codes = list(dict.fromkeys(row.code for row in found))
    longer = {code: [other for other in codes if other != code and other.startswith(code)] for code in codes}
    return {code: others for code, others in longer.items() if others}


# ---- the answers -----------------------------------------------------------------------------------------------------


def _answer_lines(
    guard: Guard, path: Path, records: Sequence[tuple[str, Messages]], results: dict[str, Result]
) -> Iterator[str]:
    yield "answers (greedy, and the probability that stays in the format):"
    answers: dict[Format, Counter[str]] = {form: Counter() for form in formats_of(guard)}
    for name, messages in records:
        result = results[name]
        text = " ".join(messages[-1]["content"].split())
        yield f"  {name}: {_quoted(text[:SHOWN_TEXT] + '…' * (len(text) > SHOWN_TEXT))}"
        if result.error is not None:
            yield f"    could not be scored: {result.error}"
            continue
        answer = result.answer or ""
        for form, found in answers.items():
            found.update(form.answers_in(answer))
        kept = 1.0 - (result.off_language or 0.0)
        predicted = ", ".join(result.predicted or []) or "no label"
        if guard.file.reasoning is not None:
            predicted += " after most passages"
        state = "outside the format" if outside_format(guard, answer) else f"in the format: {predicted}"
        yield f"    {_quoted(answer)} is {state}; {kept:.1%} of the probability stays in the format"
    total = sum(found.total() for found in answers.values())
    outside = {form: answers_outside(found, form.guard) for form, found in answers.items()}
    if any(outside.values()):
        number = sum(found.total() for found in outside.values())
        yield f"{number} of {total} answers are outside the format, most often:"
        for form, found in outside.items():
            yield from notes_on(found, form.guard, path, form.keys)
            shown = [answer for answer, _ in found.most_common(SHOWN_ANSWERS)]
            yield from dict.fromkeys(_where_to_change(form, path, answer) for answer in shown)
    elif total:
        yield f"all {total} answers are in the format"


def _where_to_change(form: Format, path: Path, answer: str) -> str:
    if form.guard.file.reasoning is not None and not answer:
        return f"  change reasoning.until ({_at(path, 'reasoning', 'until')}), or raise reasoning.tokens"
    start = _quoted(answer[:SHOWN_TEXT])
    if (nearest := nearest_alternative(form.guard, answer)) is None:
        return (
            f"  no alternative of answer ({_at(path, *form.keys)}) begins like {start}: add one, or change the prompt "
            f"({_at(path, *form.keys[:-1], 'prompt')})"
        )
    index, inside = nearest
    return f"  nearest to {start} is {_at(path, *form.keys, index)}: it accepts the beginning {_quoted(inside)}"


def _at(path: Path, *location: int | str) -> str:
    return f"line {line_in(path, *location)}"


def _shown(language: AnswerLanguage, symbols: Sequence[int]) -> str:
    return language.text(symbols).decode("utf-8", "replace")


def _quoted(text: str) -> str:
    return repr(text)

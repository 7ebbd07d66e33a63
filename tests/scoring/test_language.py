"""The answer language by hand: what may follow, what is complete, what can still come."""

import pytest

from marginalia.scoring.language.answer_language import AnswerLanguage, LabelList, Text

S1, S2, S10, VERDICT = 1, 2, 4, 8


def llama(*separators: bytes) -> AnswerLanguage:
    unsafe = (Text(b"unsafe", 3), Text(b"\n"), LabelList(separators))
    return AnswerLanguage(["S1", "S2", "S10"], [(Text(b"safe"),), unsafe])


def accepted(language: AnswerLanguage, text: bytes) -> int | None:
    states = language.walk(text)
    return states[-1].accepted if len(states) == len(text) + 1 else None


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (b"safe", 0),
        (b"unsafe\nS1", VERDICT | S1),
        (b"unsafe\nS10,S1", VERDICT | S10 | S1),
        (b"unsafe\nS1,S10,S2", VERDICT | S1 | S2 | S10),
    ],
)
def test_accepts_answers_with_their_rows(text: bytes, rows: int) -> None:
    assert accepted(llama(b","), text) == rows


@pytest.mark.parametrize(
    "text",
    [b"", b"sa", b"unsafe", b"unsafe\n", b"unsafe\nS", b"unsafe\nS1,", b"unsafe\nS1,S1", b"unsafe\nS3", b"safe\n"],
)
def test_accepts_nothing_else(text: bytes) -> None:
    assert accepted(llama(b","), text) is None


def test_a_label_counts_when_its_separator_follows() -> None:
    states = llama(b",").walk(b"unsafe\nS1,S2")
    assert states[len(b"unsafe\nS1")].done == VERDICT  # S1 may still become S10
    assert states[len(b"unsafe\nS1,")].done == VERDICT | S1


def test_the_verdict_counts_when_its_word_is_complete() -> None:
    states = llama(b",").walk(b"unsafe")
    assert [bool(state.done & VERDICT) for state in states] == [False] * 6 + [True]


def test_a_used_code_is_excluded_also_while_a_longer_one_is_possible() -> None:
    language = llama(b",")
    assert len(language.walk(b"unsafe\nS1,S1")) == len(b"unsafe\nS1,S1") + 1  # on the way to S10
    assert len(language.walk(b"unsafe\nS1,S10,S1")) < len(b"unsafe\nS1,S10,S1") + 1
    assert len(language.walk(b"unsafe\nS1,S1,")) < len(b"unsafe\nS1,S1,") + 1


def test_no_separator_after_the_last_code() -> None:
    assert accepted(llama(b","), b"unsafe\nS1,S2,S10") == VERDICT | S1 | S2 | S10
    assert llama(b",").walk(b"unsafe\nS1,S2,S10")[-1].step(ord(",")) is None


def test_what_can_still_come() -> None:
    at = llama(b",").walk(b"unsafe\nS2,S1")[-1]
    assert at.could == S1 | S10
    assert at.without & S1 and at.without & S10  # it may end as S1 or as S10
    last = llama(b",").walk(b"unsafe\nS1,S2,")[-1]
    assert last.could == S10 and not last.without & S10  # only S10 is left, and a code must follow the separator
    assert not llama(b",").walk(b"safe")[-1].could


def test_two_separators_are_followed_in_parallel() -> None:
    language = llama(b",", b", ")
    assert accepted(language, b"unsafe\nS1,S2") == VERDICT | S1 | S2
    assert accepted(language, b"unsafe\nS1, S2") == VERDICT | S1 | S2
    assert accepted(language, b"unsafe\nS1,  S2") is None


def test_codes_that_contain_the_separator() -> None:
    language = AnswerLanguage(["Hate", "Hate, x"], [(Text(b"unsafe", 2), Text(b"\n"), LabelList((b", ",)))])
    assert accepted(language, b"unsafe\nHate, x") == 0b110
    assert accepted(language, b"unsafe\nHate, Hate, x") == 0b111
    undecided = language.walk(b"unsafe\nHate, ")[-1]
    assert undecided.done == 0b100  # the first Hate may be the start of 'Hate, x'
    assert language.walk(b"unsafe\nHate, H")[-1].done == 0b101


def test_text_after_the_labels() -> None:
    pieces = (Text(b'{"a": "'), LabelList((b", ",)), Text(b'"}'))
    language = AnswerLanguage(["A", "AB"], [pieces])
    assert accepted(language, b'{"a": "AB, A"}') == 0b011
    assert accepted(language, b'{"a": "A') is None
    assert language.walk(b'{"a": "A"')[-1].done == 0b001


@pytest.mark.parametrize("codes", [["S1", "S1"], ["S1", ""]])
def test_refuses_codes_that_cannot_be_distinguished(codes: list[str]) -> None:
    with pytest.raises(ValueError, match="must be non-empty and differ"):
        AnswerLanguage(codes, [(LabelList((b",",)),)])

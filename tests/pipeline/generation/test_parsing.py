from __future__ import annotations

import pytest

from marginalia.pipeline.generation.answer_parsing import parse

TEXT = "Where is my parcel? It's three days late."


@pytest.mark.parametrize(
    "answer",
    [
        TEXT,
        f"  {TEXT}\n\n",
        f'"{TEXT}"',
        f"“{TEXT}”",
        f"'{TEXT}'",
        f"„{TEXT}“",
        f"Sure! Here is a message:\n\n{TEXT}",
        f"Certainly, here you go. Here's one short request: {TEXT}",
        f'Here is the message you asked for:\n"{TEXT}"',
        f"1. {TEXT}\n2. Another one about something else.",
        f"1) {TEXT}",
        f"- {TEXT}\n- Another one.",
        f"Message: {TEXT}",
        f"**Message:** {TEXT}",
        f"User request: {TEXT}",
        f"Subject: parcel\n\n{TEXT}",
        f"```\n{TEXT}\n```",
        f'```json\n{{"text": "{TEXT}"}}\n```',
        f'{{"text": "{TEXT}"}}',
        f'{{"message": "{TEXT}", "label": "x"}}',
        f'Sure! Here is the JSON: {{"text": "{TEXT}"}}',
        f'{{"anything": "{TEXT}"}}',
        f'[{{"text": "{TEXT}"}}, {{"text": "b"}}]',
        f'["{TEXT}", "b"]',
        f'{{"text": "{TEXT}", "reason": "it was cut o',
        f"<think>Let me think: a text.</think>\n{TEXT}",
        f'"{TEXT}"\n\nThis message is polite and short.',
        f"{TEXT}\n\nNote: I kept it short.",
        f"{TEXT}\n(Note that it is short.)",
        f"**{TEXT}**",
    ],
)
def test_one_text_in_many_wrappings(answer: str) -> None:
    assert parse(answer) == TEXT


@pytest.mark.parametrize(
    "answer", ["", "   \n", '{"text": 5}', '{"text": "cut of', "{}", "[]", '{"a": "x", "b": "y"}', '""']
)
def test_an_answer_without_a_text(answer: str) -> None:
    assert parse(answer) is None


@pytest.mark.parametrize(
    "answer",
    [
        'The code "SPRING15" is refused. Why?',
        '"In transit" is all that I read for nine days, and nobody tells me where my parcel could be by now.',
        "Okay so my card was charged twice: what now?",
        "I ordered 2. and 3. from the list",
        "This is the third time that I write.",
    ],
)
def test_a_plain_text_stays_as_it_is(answer: str) -> None:
    assert parse(answer) == answer


def test_paragraphs_become_lines() -> None:
    assert parse("Hello\n\n  where is it?  \n") == "Hello\nwhere is it?"


def test_deep_nesting_is_no_text() -> None:
    assert parse("[{" + '"a":[' * 100_000) is None

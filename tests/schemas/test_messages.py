"""Messages in the forms that data sets use."""

from __future__ import annotations

import json
from typing import Any

import pytest

from marginalia.schemas.errors import InputError
from marginalia.schemas.messages import messages_of

QUESTION = {"role": "user", "content": "where is it"}
ANSWER = {"role": "assistant", "content": "on its way"}


def error_of(**value: Any) -> str:
    with pytest.raises(InputError) as caught:
        messages_of(value, "r.jsonl: line 1")
    assert caught.value.hint
    return caught.value.message.removeprefix("r.jsonl: line 1: ")


def test_empty_fields_that_datasets_adds_are_left_out() -> None:
    nulls = {"name": None, "tool_calls": [], "function_call": {"name": None, "arguments": None}}
    assert messages_of({"messages": [{**QUESTION, **nulls}, {**ANSWER, **nulls}]}, "x") == [QUESTION, ANSWER]


def test_other_fields_with_a_value_are_refused() -> None:
    assert (
        error_of(messages=[{**QUESTION, "name": "bob"}])
        == "the user message has 'name'; only role and content are read"
    )
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "0", "type": "function"}]}
    assert (
        error_of(messages=[QUESTION, call]) == "the assistant message has 'tool_calls'; only role and content are read"
    )
    result = {"role": "tool", "tool_call_id": "0", "content": "in transit"}
    assert error_of(messages=[QUESTION, result]) == "role 'tool'; expected one of system, user, assistant"


def test_text_parts_are_joined_by_newlines() -> None:
    parts = [{"type": "text", "text": "where", "image_url": None}, {"type": "input_text", "text": "is it"}]
    assert messages_of({"messages": [{"role": "user", "content": parts}]}, "x") == [
        {"role": "user", "content": "where\nis it"}
    ]


@pytest.mark.parametrize(
    "part", [{"type": "image_url", "image_url": {"url": "u"}}, {"type": "thinking", "thinking": "hm"}]
)
def test_other_parts_are_refused(part: dict[str, Any]) -> None:
    content = [{"type": "text", "text": "look"}, part]
    assert error_of(messages=[{"role": "user", "content": content}]) == (
        f"the user message has a part of type '{part['type']}'; only text parts are read"
    )


def test_a_list_of_words_is_not_a_text() -> None:
    assert error_of(text=["where", "is"]) == "the user message has no text"
    assert error_of(messages=[{"role": "user", "content": []}]) == "the user message has no text"


def test_a_struct_of_lists_is_a_list_of_messages() -> None:
    columns = {"role": ["user", "assistant"], "content": ["where is it", "on its way"], "name": [None, None]}
    assert messages_of({"messages": columns}, "x") == [QUESTION, ANSWER]
    assert error_of(messages={**columns, "role": ["user"]}) == (
        "'messages' has lists of different lengths: 1 of role, 2 of content"
    )
    assert error_of(messages=QUESTION) == "'messages' must be a non-empty list of {role, content}"
    assert error_of(messages={}) == error_of(messages=[])


def test_bytes_are_reported_as_binary() -> None:
    assert error_of(text=b"x") == "the user message is binary, expected text"
    assert error_of(messages=[{"role": "user", "content": b"x"}]) == "the user message is binary, expected text"


def test_the_row_is_not_changed() -> None:
    row = {"messages": [{**QUESTION, "name": None}]}
    before = json.dumps(row)
    messages_of(row, "x")
    assert json.dumps(row) == before

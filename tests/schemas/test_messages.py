"""The forms in which data sets have messages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from marginalia.schemas.errors import InputError
from marginalia.schemas.messages import messages_of

ASKED = {"role": "user", "content": "where is it"}
ANSWERED = {"role": "assistant", "content": "on its way"}


def error_of(**value: Any) -> str:
    with pytest.raises(InputError) as caught:
        messages_of(value, "r.jsonl: line 1")
    assert caught.value.hint
    return caught.value.message.removeprefix("r.jsonl: line 1: ")


def test_fields_that_datasets_fills_with_nulls_are_left_out() -> None:
    nulls = {"name": None, "tool_calls": [], "function_call": {"name": None, "arguments": None}}
    assert messages_of({"messages": [{**ASKED, **nulls}, {**ANSWERED, **nulls}]}, "x") == [ASKED, ANSWERED]


def test_fields_that_say_something_are_refused() -> None:
    assert (
        error_of(messages=[{**ASKED, "name": "bob"}]) == "the user message has 'name'; only role and content are read"
    )
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "0", "type": "function"}]}
    assert error_of(messages=[ASKED, call]) == "the assistant message has 'tool_calls'; only role and content are read"
    result = {"role": "tool", "tool_call_id": "0", "content": "in transit"}
    assert error_of(messages=[ASKED, result]) == "role 'tool'; expected one of system, user, assistant"


def test_parts_of_text_are_joined_by_line_ends() -> None:
    parts = [{"type": "text", "text": "where", "image_url": None}, {"type": "input_text", "text": "is it"}]
    assert messages_of({"messages": [{"role": "user", "content": parts}]}, "x") == [
        {"role": "user", "content": "where\nis it"}
    ]


@pytest.mark.parametrize(
    "part", [{"type": "image_url", "image_url": {"url": "u"}}, {"type": "thinking", "thinking": "hm"}]
)
def test_parts_of_another_kind_are_refused(part: dict[str, Any]) -> None:
    content = [{"type": "text", "text": "look"}, part]
    assert error_of(messages=[{"role": "user", "content": content}]) == (
        f"the user message has a part of type '{part['type']}'; only text parts are read"
    )


def test_a_list_of_words_is_no_text() -> None:
    assert error_of(text=["where", "is"]) == "the user message has no text"
    assert error_of(messages=[{"role": "user", "content": []}]) == "the user message has no text"


def test_a_struct_of_lists_is_a_list_of_messages() -> None:
    columns = {"role": ["user", "assistant"], "content": ["where is it", "on its way"], "name": [None, None]}
    assert messages_of({"messages": columns}, "x") == [ASKED, ANSWERED]
    assert error_of(messages={**columns, "role": ["user"]}) == (
        "'messages' has lists of different lengths: 1 of role, 2 of content"
    )
    assert error_of(messages=ASKED) == "'messages' must be a non-empty list of {role, content}"
    assert error_of(messages={}) == error_of(messages=[])


def test_bytes_are_named_as_such() -> None:
    assert error_of(text=b"x") == "the user message is binary, expected text"
    assert error_of(messages=[{"role": "user", "content": b"x"}]) == "the user message is binary, expected text"


def test_the_row_is_not_changed() -> None:
    row = {"messages": [{**ASKED, "name": None}]}
    before = json.dumps(row)
    messages_of(row, "x")
    assert json.dumps(row) == before

"""Conversations in the forms of OpenAI, ShareGPT and Anthropic."""

from __future__ import annotations

import json
from typing import Any

import pytest

from marginalia.pipeline.importing.column_mapping import Mapping
from marginalia.pipeline.importing.row_conversion import convert
from marginalia.schemas.errors import InputError
from marginalia.schemas.taxonomy import load_taxonomy

TAXONOMY = load_taxonomy("support-tickets")
SYSTEM = {"role": "system", "content": "Be kind."}
QUESTION = {"role": "user", "content": "where is it"}
ANSWER = {"role": "assistant", "content": "on its way"}
TURNS = [QUESTION, ANSWER]
SHAREGPT = [{"from": "human", "value": "where is it"}, {"from": "gpt", "value": "on its way"}]
BLOCKS = [{"role": item["role"], "content": [{"type": "text", "text": item["content"]}]} for item in TURNS]
SYSTEM_BLOCKS = [{"type": "text", "text": "Be kind."}]


def read(row: dict[str, Any], path: str = "chat", form: str | None = None) -> list[dict[str, str]]:
    mapping = Mapping.model_validate({"messages": path, "messages_form": form})
    return convert([("line 1", row)], mapping, TAXONOMY, "d.jsonl").records[0].messages


@pytest.mark.parametrize(
    ("row", "form", "expected"),
    [
        ({"chat": TURNS}, None, TURNS),
        ({"chat": TURNS}, "openai", TURNS),
        ({"chat": json.dumps(TURNS)}, None, TURNS),
        ({"chat": {"role": ["user", "assistant"], "content": ["where is it", "on its way"]}}, None, TURNS),
        ({"chat": SHAREGPT}, None, TURNS),
        ({"chat": SHAREGPT}, "sharegpt", TURNS),
        ({"chat": {"from": ["human", "gpt"], "value": ["where is it", "on its way"]}}, None, TURNS),
        ({"chat": [{"from": "system", "value": "Be kind."}, *SHAREGPT]}, None, [SYSTEM, *TURNS]),
        ({"chat": [{**SHAREGPT[0], "weight": None}]}, None, [QUESTION]),
        ({"chat": BLOCKS}, None, TURNS),
        ({"chat": BLOCKS, "system": "Be kind."}, "anthropic", [SYSTEM, *TURNS]),
        ({"chat": BLOCKS, "system": SYSTEM_BLOCKS}, None, [SYSTEM, *TURNS]),
        ({"chat": TURNS, "system": "Be kind."}, None, [SYSTEM, *TURNS]),
        ({"chat": TURNS, "system": None}, None, TURNS),
        ({"chat": TURNS, "system": " "}, "anthropic", TURNS),
        ({"chat": TURNS, "system": "Be kind."}, "openai", TURNS),
        ({"chat": [SYSTEM, *TURNS], "system": "Be cruel."}, None, [SYSTEM, *TURNS]),
    ],
)
def test_a_conversation(row: dict[str, Any], form: str | None, expected: list[dict[str, str]]) -> None:
    assert read(row, form=form) == expected


def test_the_system_prompt_next_to_a_conversation_inside_a_column() -> None:
    assert read({"request": {"messages": TURNS, "system": "Be kind."}, "system": "x"}, "request.messages") == [
        SYSTEM,
        *TURNS,
    ]


@pytest.mark.parametrize(
    ("chat", "form", "problem"),
    [
        (
            SHAREGPT,
            "openai",
            "a message has the keys from, value; messages_form: openai expects role and content (fix the row, or set "
            "unusable: skip in the mapping)",
        ),
        (
            [{"from": "observation", "value": "x"}],
            None,
            "a message from 'observation'; expected human, gpt or system (fix the row, or set unusable: skip in the "
            "mapping)",
        ),
        (
            [{"author": "x", "text": "y"}],
            None,
            "a message must be {role, content}, saw \"{'author': 'x', 'text': 'y'}\" (fix the row, or set unusable: "
            "skip in the mapping)",
        ),
        (
            "hello",
            None,
            "'messages' must be a non-empty list of {role, content} (fix the row, or set unusable: skip in the "
            "mapping)",
        ),
    ],
)
def test_another_form_is_refused(chat: Any, form: str | None, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        read({"chat": chat}, form=form)
    assert str(caught.value) == f"d.jsonl: line 1: {problem}"


def test_prompt_and_response_may_be_inside_other_columns() -> None:
    columns = [
        {"role": "system", "column": "meta.system", "optional": True},
        {"role": "user", "column": "turns[0].text"},
        {"role": "assistant", "column": "turns[1].text", "optional": True},
    ]
    mapping = Mapping.model_validate({"messages": columns})
    rows = [
        {"meta": {"system": "Be kind."}, "turns": [{"text": "where is it"}, {"text": "on its way"}]},
        {"meta": {"system": "  "}, "turns": [{"text": "where is it"}]},
    ]
    records = convert([(str(at), row) for at, row in enumerate(rows)], mapping, TAXONOMY, "x").records
    assert [record.messages for record in records] == [[SYSTEM, *TURNS], [QUESTION]]

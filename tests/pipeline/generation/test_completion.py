"""How answers end and where their text is: content parts, reasoning, faults in the middle, limits of tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.generation.answer_parsing import parse, without_reasoning
from marginalia.pipeline.generation.generate_stage import STAGE as GENERATE
from marginalia.pipeline.generation.plan_stage import STAGE as PLAN
from marginalia.schemas.manifest_json import Manifest
from marginalia.schemas.retries import RetryPolicy
from marginalia.schemas.storage.journal import Journal
from tests.openai_server import OpenAIServer, written
from tests.pipeline.generation.conftest import MakeRun

Payload = dict[str, Any]
THOUGHT = "The user wants a text about an order, so I write one."
SPENT = "cut off at 256 tokens (generate.max_tokens), all of them spent on reasoning"


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marginalia.pipeline.generation.endpoint.llm_endpoint.POLICY", RetryPolicy(first_backoff=0.001))


def completion(message: dict[str, Any], finish: str | None = "stop", **more: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    body = json.dumps({"choices": [choice], "model": "test-model", **more}).encode()
    return b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def _generate(
    make_run: MakeRun, raw: Callable[[Payload], bytes | None], **settings: Any
) -> tuple[Manifest, list[str], pl.DataFrame, OpenAIServer]:
    """The manifest, accepted texts, rejected attempts, and the server after six slots."""
    with OpenAIServer(raw=raw) as server:
        run = make_run(server.url, **{"records": 6, "max_attempts": 2, "retries": 1, "waves": 1, **settings})
        run_stage(PLAN, run)
        manifest = run_stage(GENERATE, run).manifest
    texts = [messages[0]["content"] for messages in pl.read_parquet(run.path("prompts.parquet"))["messages"]]
    return manifest, texts, pl.read_parquet(run.path("rejected.parquet")), server


WHOLE: dict[str, Callable[[str], dict[str, Any]]] = {
    "parts of Mistral": lambda text: {
        "content": [
            {"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}], "closed": True},
            {"type": "text", "text": text},
        ]
    },
    "parts of Anthropic": lambda text: {
        "content": [
            {"type": "thinking", "thinking": THOUGHT, "signature": "Eq"},
            {"type": "redacted_thinking", "data": "x"},
            {"type": "text", "text": text},
        ]
    },
    "reasoning as a text part": lambda text: {
        "content": [{"type": "reasoning", "text": THOUGHT}, {"type": "output_text", "text": text}]
    },
    "texts alone": lambda text: {"content": [text[:20], text[20:]]},
    "the end of reasoning alone": lambda text: {"content": f"{THOUGHT}\n</think>\n\n{text}"},
    "two ends of reasoning": lambda text: {"content": f"{THOUGHT}</think>\nNo, wait. {THOUGHT}</think>\n{text}"},
    "reasoning of Magistral": lambda text: {"content": f"[THINK]{THOUGHT}[/THINK]{text}"},
    "reasoning of Seed": lambda text: {"content": f"<seed:think>{THOUGHT}</seed:think>{text}"},
    "reasoning in its own field": lambda text: {"content": text, "reasoning_content": THOUGHT},
}


@pytest.mark.parametrize("kind", WHOLE)
def test_the_text_is_kept_without_the_reasoning_at_one_call_each(make_run: MakeRun, kind: str) -> None:
    manifest, texts, rejected, server = _generate(make_run, lambda payload: completion(WHOLE[kind](written(payload))))
    assert texts == [
        written(payload) for payload in sorted(server.requests, key=lambda each: texts.index(written(each)))
    ]
    assert (len(texts), server.calls, rejected.height, manifest.missing) == (6, 6, 0, [])


@pytest.mark.parametrize(
    ("message", "finish", "reason", "detail"),
    [
        ({"content": None, "reasoning_content": THOUGHT}, "length", "too_long", SPENT),
        ({"content": "", "reasoning": THOUGHT}, "length", "too_long", SPENT),
        ({"content": f"<think>{THOUGHT}"}, "length", "too_long", SPENT),
        ({"content": [{"type": "thinking", "thinking": THOUGHT}]}, "max_tokens", "too_long", SPENT),
        ({"content": ""}, "length", "too_long", "cut off at 256 tokens (generate.max_tokens) before any text"),
        ({"content": None, "reasoning_content": THOUGHT}, "stop", "invalid", "only reasoning, and no text"),
        ({"content": f"{THOUGHT}</think>"}, "stop", "invalid", "only reasoning, and no text"),
        ({"content": None, "tool_calls": [{"id": "1"}]}, "tool_calls", "invalid", "a tool call, and no text"),
        ({"content": [{"type": "image_url", "image_url": {}}]}, "stop", "invalid", "an empty answer"),
        ({"content": [{"type": "refusal", "refusal": "I will not."}]}, "stop", "refused", "I will not."),
        ({"content": "Half of"}, "refusal", "refused", "the endpoint's content filter"),
    ],
)
def test_an_answer_without_a_text_says_why(
    make_run: MakeRun, message: dict[str, Any], finish: str, reason: str, detail: str
) -> None:
    manifest, texts, rejected, server = _generate(make_run, lambda _: completion(message, finish))
    assert (texts, server.calls) == ([], 12)
    assert set(rejected["reason"]) == {reason}
    assert all(actual.startswith(detail) for actual in rejected["detail"])
    assert detail in manifest.missing[0].what


def test_hidden_reasoning_tokens_are_reported_from_the_usage(make_run: MakeRun) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 256, "completion_tokens_details": {"reasoning_tokens": 256}}
    _, _, rejected, _ = _generate(make_run, lambda _: completion({"content": ""}, "length", usage=usage))
    assert all(actual.startswith(SPENT) for actual in rejected["detail"])


@pytest.mark.parametrize(
    ("finish", "more"),
    [
        ("error", {}),
        ("network_error", {}),
        ("abort", {}),
        ("insufficient_system_resource", {}),
        ("stop", {"error": {"message": "the backend died", "code": 502}}),
    ],
)
def test_an_answer_that_broke_off_is_never_accepted_but_asked_again(
    make_run: MakeRun, finish: str, more: dict[str, Any]
) -> None:
    """Each request is met by the fault the first time: a part of a text, which looks like a whole one."""
    met: set[int] = set()

    def raw(payload: Payload) -> bytes | None:
        if payload["seed"] in met:
            return None
        met.add(payload["seed"])
        return completion({"content": "My order has been on its way for nine days now."}, finish, **more)

    manifest, texts, rejected, server = _generate(make_run, raw)
    assert sorted(texts) == sorted({written(payload) for payload in server.requests})
    assert (server.calls, rejected.height, manifest.missing) == (12, 0, [])
    assert manifest.facts["unreadable answers"] == 6  # which may have been paid for


def test_a_broken_off_answer_of_an_older_journal_is_not_accepted(make_run: MakeRun) -> None:
    with OpenAIServer() as server:
        run = make_run(server.url, records=6, waves=1)
        run_stage(PLAN, run)
        run_stage(GENERATE, run)
        entries = [json.loads(line) for line in run.path("responses.jsonl").read_bytes().splitlines()]
        run.path("responses.jsonl").unlink()
        entries[0]["finish_reason"] = "error"
        for entry in entries:
            del entry["crc"], entry["reasoning"]
        with Journal(run.path("responses.jsonl")) as journal:
            journal.extend(entries)
        assert run_stage(GENERATE, run).manifest.counts_out["accepted"] == 6
        assert server.calls == 7
    rejected = pl.read_parquet(run.path("rejected.parquet")).row(0, named=True)
    assert (rejected["slot_id"], rejected["attempt"], rejected["reason"]) == (entries[0]["slot_id"], 1, "invalid")
    assert rejected["detail"] == "incomplete answer: finish_reason 'error'"


FIRST = "My order has been on its way for nine days now, and nobody knows where it is."


@pytest.mark.parametrize("form", ["json", "fence", "plain"])
@pytest.mark.parametrize("when_cut", ["reject", "trim"])
def test_a_cut_answer_is_rejected_as_too_long_or_trimmed(make_run: MakeRun, form: str, when_cut: str) -> None:
    def raw(payload: Payload) -> bytes:
        number = payload["seed"] % 1000
        text = f"{FIRST.replace('nine', str(number))} My sister has written “{written(payload)}\n"
        whole = text if form == "plain" else json.dumps({"text": text})
        return completion({"content": ("```json\n" if form == "fence" else "") + whole[:150]}, "length")

    structured = form != "plain"
    _, texts, rejected, _ = _generate(make_run, raw, when_cut=when_cut, structured_output=structured, near_duplicate=1)
    if when_cut == "trim":
        assert len(texts) == 6
        assert all(text.endswith("nobody knows where it is.") for text in texts)
    else:
        assert (texts, rejected.height) == ([], 12)
        assert set(rejected["detail"]) == {"cut off at 256 tokens (generate.max_tokens)"}
        assert set(rejected["reason"]) == {"too_long"}


@pytest.mark.parametrize("cut", range(1, 45))
def test_a_cut_json_string_gives_the_part_of_its_text(cut: int) -> None:
    text = 'Gr\u00fc\u00dfe \U0001f600 "x" \\ \n end'
    answer = json.dumps({"text": text})[:-cut]
    parsed = parse(answer, cut=True)
    begun = answer.removeprefix('{"text": "')
    if begun == answer:
        assert parsed is None
        return
    assert parsed == parse(_decoded(begun))


def _decoded(string: str) -> str:
    """The longest part of a JSON string's inside that ends with a whole escape, by json alone."""
    for end in range(len(string), -1, -1):
        try:
            value: str = json.loads(f'"{string[:end]}"', strict=False)
        except ValueError:
            continue
        return value
    raise AssertionError


def test_a_broken_string_is_no_text_where_the_answer_was_not_cut() -> None:
    assert parse('{"text": "one two') is None
    assert parse('{"text": "one two', cut=True) == "one two"
    assert parse('{"text": "one \\x two"} {', cut=True) is None  # no escape of JSON's
    assert parse('{"text": "one \\x two"') is None


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("Where is it?", "Where is it?"),
        ("<think>a</think>b<think>c</think>d", "bd"),
        ("<THINK>a</Think> b", "b"),
        ("a</thinking>\nb", "b"),
        ("<think>a <think>b</think> c", "c"),
        ("<think>a", ""),
        ("b <think>a", "b"),
        ("I think </b> that", "I think </b> that"),
    ],
)
def test_reasoning_is_taken_out(answer: str, text: str) -> None:
    assert without_reasoning(answer) == text

"""A server that lies in every second answer, each time in another way: each lie is rejected with its reason, and
every slot is accounted for."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.generation.generate_stage import STAGE as GENERATE
from marginalia.pipeline.generation.plan_stage import STAGE as PLAN
from marginalia.schemas.errors import ServiceError
from marginalia.schemas.retries import RetryPolicy
from tests.openai_server import OpenAIServer, request_hash, written
from tests.pipeline.generation.conftest import MakeRun

Payload = dict[str, Any]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
KEPT = None  # what the lie is about does no harm to the text


def _body(body: bytes, *more: bytes) -> bytes:
    head = HEAD + b"".join(line + b"\r\n" for line in more)
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def _choice(message: Any, finish: Any = "stop", **more: Any) -> bytes:
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return _body(json.dumps({"choices": [choice], "model": "test-model", **more}).encode())


def _text(text: str, finish: Any = "stop", **more: Any) -> bytes:
    return _choice({"role": "assistant", "content": text}, finish, **more)


LIES: dict[str, tuple[Callable[[Payload], bytes], str | None]] = {
    "an error with status 200": (lambda _: _body(b'{"error": {"message": "overloaded"}}'), "failed"),
    "no choices": (lambda _: _body(b'{"choices": []}'), "failed"),
    "null": (lambda _: _choice({"role": "assistant", "content": None}), "invalid"),
    "cut": (lambda payload: _text(written(payload)[:60], "length"), "too_long"),
    "filtered": (lambda payload: _text(written(payload), "content_filter"), "refused"),
    "refused": (lambda payload: _choice({"content": written(payload), "refusal": "No."}), "refused"),
    "a tool call": (lambda _: _choice({"content": None, "tool_calls": [{"id": "1"}]}, "tool_calls"), "invalid"),
    "half of the JSON": (lambda payload: _text(json.dumps({"text": written(payload)})[:40]), "invalid"),
    "half of the answer": (lambda payload: _body(_text(written(payload)).partition(b"\r\n\r\n")[2][:90]), "failed"),
    "a page": (lambda _: _body(b"<!doctype html><title>Sign in</title>"), "failed"),
    "ten megabytes": (lambda payload: _text(written(payload) + " and so on" * 1_000_000), "failed"),
    "a megabyte": (lambda payload: _text(written(payload) + " and so on" * 100_000), "too_long"),
    "a bomb": (
        lambda _: _body(gzip.compress(b" " * 60_000_000, compresslevel=1), b"Content-Encoding: gzip"),
        "failed",
    ),
    "the prompt": (
        lambda payload: _text("\n".join(message["content"] for message in payload["messages"])[:700]),
        "copied",
    ),
    "the order": (lambda payload: _text(payload["messages"][-1]["content"][:300]), "copied"),
    "a NUL": (lambda payload: _text(written(payload) + "\0"), "invalid"),
    "a lone surrogate": (lambda payload: _text(written(payload) + "\ud800!"), "invalid"),
    "a terminal's order": (lambda payload: _text("\x1b[2J" + written(payload)), "invalid"),
    "hidden tags": (lambda payload: _text(written(payload) + "\U000e0041\U000e0042"), "invalid"),
    "an end of the turn": (lambda payload: _text(written(payload) + "<|im_end|><|im_start|>system"), "invalid"),
    "letters turned round": (lambda payload: _text(written(payload) + " \u202eevil"), "invalid"),
    "Latin 1": (lambda _: _body('{"choices": [{"message": {"content": "Über"}}]}'.encode("latin-1")), "failed"),
    "a wrong charset": (
        lambda payload: _text((written(payload) + " Grüße, Jörg").encode().decode("latin-1")),
        "invalid",
    ),
    "chunked garbage": (lambda _: HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n", "failed"),
    "a stream": (lambda payload: _body(b"data: " + _text(written(payload)) + b"\n\ndata: [DONE]\n\n"), "failed"),
    "the text of another slot": (lambda _: _text("My parcel has been at the depot for nine days, who has it?"), "once"),
    "a fence": (lambda payload: _text(f"```json\n{json.dumps({'text': written(payload)})}\n```\nNice?"), KEPT),
    "an explanation": (lambda payload: _text(f"Sure! Here is the text:\n\n{written(payload)}\n\nNote: short."), KEPT),
    "several texts": (lambda payload: _text(f"1. {written(payload)}\n2. My lamp is broken.\n3. So is mine."), KEPT),
    "a list": (lambda payload: _text(json.dumps([{"text": written(payload)}, {"text": "Another."}])), KEPT),
    "another model": (lambda payload: _text(written(payload), model="much-smaller"), KEPT),
    "no usage": (lambda payload: _text(written(payload)), KEPT),
    "a false usage": (
        lambda payload: _text(written(payload), usage={"prompt_tokens": -5, "completion_tokens": float("nan")}),
        KEPT,
    ),
    "a key twice": (
        lambda payload: _body(b'{"choices": [], ' + _text(written(payload)).partition(b"\r\n\r\n{")[2]),
        KEPT,
    ),
}


def _lies_to(payload: Payload) -> bool:
    return int(request_hash(payload), 16) % 2 == 0


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marginalia.pipeline.generation.endpoint.llm_endpoint.POLICY", RetryPolicy(first_backoff=0.001))


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_rejected_with_its_reason(make_run: MakeRun, lie: str) -> None:
    reply, reason = LIES[lie]
    with OpenAIServer(raw=lambda payload: reply(payload) if _lies_to(payload) else None) as server:
        run = make_run(server.url, records=12, max_attempts=3, retries=0, waves=2)
        run_stage(PLAN, run)
        try:
            manifest = run_stage(GENERATE, run).manifest
        except ServiceError:  # only where nothing but connections that break was ever answered
            manifest = run_stage(GENERATE, run).manifest
        lied = sum(_lies_to(payload) for payload in server.requests)
        honest = {written(payload) for payload in server.requests}
    assert lied >= 3
    prompts, rejected = pl.read_parquet(run.path("prompts.parquet")), pl.read_parquet(run.path("rejected.parquet"))
    counts = manifest.counts_out
    assert counts["accepted"] + counts["open"] == 12
    assert counts["accepted"] == prompts.height == prompts["slot_id"].n_unique() > 4
    assert rejected["detail"].str.len_chars().min() or not rejected.height
    texts = [messages[0]["content"] for messages in prompts["messages"]]
    reasons = set(rejected["reason"])
    if reason == "once":
        assert len(set(texts) - honest) == 1
        assert reasons == {"duplicate"}
    else:
        assert set(texts) <= honest
        assert reasons == ({reason} if reason else set())
    if lie == "another model":
        assert manifest.facts["answering models"]["much-smaller"] == lied
    assert not any(re.search("[\x00-\x08\x1b\x7f]", text) for text in texts)


def test_a_server_that_sends_elsewhere_is_not_followed(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-canary-0123456789")
    with OpenAIServer() as elsewhere:
        to = elsewhere.url.replace("127.0.0.1", "localhost").encode()
        raw = b"HTTP/1.1 307 Go\r\nLocation: " + to + b"/chat/completions\r\nContent-Length: 0\r\n\r\n"
        with OpenAIServer(raw=raw) as server:
            run = make_run(server.url, endpoint={"base_url": server.url, "model": "m", "api_key_env": "MY_KEY"})
            run_stage(PLAN, run)
            with pytest.raises(ServiceError, match=r"status 307.*not followed; set generate\.endpoint\.base_url"):
                run_stage(GENERATE, run)
            assert server.calls == 1
        assert elsewhere.calls == 0

from __future__ import annotations

import asyncio
import gzip
import json
import re
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from marginalia.pipeline.config.generation import GenerateSection
from marginalia.pipeline.generation.blind_check_questions import CheckQuestions
from marginalia.pipeline.generation.endpoint.llm_endpoint import AttemptFailed, Endpoint
from marginalia.pipeline.generation.response_journal import Reply
from marginalia.pipeline.generation.writer_requests import RequestBuilder, WriterRequest
from marginalia.pipeline.generation.writer_templates import load_templates, template_folder
from marginalia.schemas.errors import InputError, ServiceError
from marginalia.schemas.retries import RetryPolicy
from marginalia.schemas.taxonomy import load_taxonomy
from tests.openai_server import OpenAIServer, written

PAYLOAD: dict[str, Any] = {"model": "test-model", "messages": [{"role": "user", "content": "Write."}], "max_tokens": 9}
KEY = "sk-canary-0123456789"


def _ask(url: str, *payloads: dict[str, Any], **changes: Any) -> list[Reply | BaseException]:
    async def ask() -> list[Reply | BaseException]:
        async with Endpoint(GenerateSection.model_validate(changes), url) as endpoint:
            return await asyncio.gather(*(endpoint.ask(payload) for payload in payloads), return_exceptions=True)

    return asyncio.run(ask())


def _ask_once(url: str, **changes: Any) -> Reply:
    (reply,) = _ask(url, PAYLOAD, **changes)
    if isinstance(reply, BaseException):
        raise reply
    return reply


def _numbered(count: int) -> list[dict[str, Any]]:
    return [{**PAYLOAD, "seed": number} for number in range(count)]


def test_an_answer_with_its_usage() -> None:
    with OpenAIServer() as server:
        reply = _ask_once(server.url)
    assert reply.text == written(PAYLOAD)
    assert (reply.model, reply.finish_reason, reply.refused) == ("test-model", "stop", None)
    assert (reply.prompt_tokens, reply.completion_tokens) == (1, len(written(PAYLOAD).split()))


@pytest.mark.parametrize(
    ("status", "setting"),
    [
        (400, "structured_output"),
        (401, "the key in the environment variable MY_KEY"),
        (403, "generate.endpoint.model"),
        (404, "generate.endpoint.base_url"),
        (422, "send_seed"),
    ],
)
def test_what_no_retry_can_fix_ends_the_stage_after_one_call(
    monkeypatch: pytest.MonkeyPatch, status: int, setting: str
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with OpenAIServer(status=status) as server:
        replies = _ask(server.url, *_numbered(8), endpoint={"api_key_env": "MY_KEY", "base_url": server.url})
        assert server.authorizations == [f"Bearer {KEY}"]
    for reply in replies:
        assert isinstance(reply, ServiceError)
        assert f"status {status}: refused with {status}" in str(reply)
        assert setting in str(reply)


def test_a_used_up_quota_is_not_waited_for() -> None:
    error = {"message": "You exceeded your quota", "code": "insufficient_quota"}
    with OpenAIServer(status=429, error=error) as server:
        with pytest.raises(ServiceError, match="the account's quota is used up"):
            _ask_once(server.url)
        assert server.calls == 1


def test_a_content_filter_is_a_refusal_and_no_error() -> None:
    with OpenAIServer(status=400, error={"message": "filtered", "code": "content_filter"}) as server:
        assert _ask_once(server.url).refused == "the endpoint's content filter: filtered"


def test_an_endpoints_policy_is_a_refusal_and_no_error() -> None:
    with OpenAIServer(status=400, error={"message": "no", "code": "content_policy_violation"}) as server:
        assert _ask_once(server.url).refused == "the endpoint's content filter: no"


@pytest.mark.parametrize("fault", ["429", "500", "503", "reset", "truncated", "html"])
def test_a_passing_fault_is_tried_again(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    monkeypatch.setattr("marginalia.pipeline.generation.endpoint.llm_endpoint.POLICY", RetryPolicy(first_backoff=0.01))
    with OpenAIServer(faults={fault: 0.5}) as server:
        replies = _ask(server.url, *_numbered(20), retries=12)
        assert [reply.text for reply in replies if isinstance(reply, Reply)] == [
            written(payload) for payload in _numbered(20)
        ]
        assert server.calls > server.answered == 20


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("500", "status 500: upstream trouble"),
        ("truncated", "not JSON"),
        ("html", "not JSON: '<!doctype html><title>Gateway</title>"),
        ("429", "status 429: slow down"),
    ],
)
def test_a_fault_that_stays_fails_the_attempt(monkeypatch: pytest.MonkeyPatch, fault: str, message: str) -> None:
    monkeypatch.setattr("marginalia.pipeline.generation.endpoint.llm_endpoint.POLICY", RetryPolicy(first_backoff=0.01))
    with OpenAIServer(faults={fault: 1.0}) as server:
        with pytest.raises(AttemptFailed, match=r"\(3 calls\)") as error:
            _ask_once(server.url, retries=2)
        assert message in str(error.value)
        assert server.calls == 3


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"null",
        b"5",
        b'{"choices": []}',
        b'{"choices": [{"message": null}]}',
        b'{"choices": [{"message": {"content": 5}}]}',
        b'{"error": "oops"}',
        b"\xff\xfe",
        b"",
        b"[" * 100_000,
    ],
)
def test_a_body_that_is_no_completion_fails_the_attempt(body: bytes) -> None:
    with OpenAIServer(body=body) as server, pytest.raises(AttemptFailed):
        _ask_once(server.url, retries=0)


_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
_PACKED = gzip.compress(b" " * 4_000_001)
_WHOLE = b'{"choices": [{"message": {"content": "A text."}}]}'


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "connection failed"),
        (b"220 mail.example.com ESMTP\r\n", "connection failed"),
        (_HEAD + b"Content-Length: 900\r\n\r\n" + _WHOLE, "connection failed"),
        (_HEAD + b"Content-Length: 20\r\n\r\n" + _WHOLE, "not JSON: "),
        (_HEAD + b"Transfer-Encoding: chunked\r\n\r\n32\r\n" + _WHOLE[:20], "connection failed"),
        (_HEAD + b"Content-Encoding: gzip\r\nContent-Length: 50\r\n\r\n" + _WHOLE, "connection failed"),
        (_HEAD + b"Content-Encoding: gzip\r\n\r\n" + _PACKED, "an answer of more than 4,000,000 bytes"),
        (_HEAD + b"\r\n" + b" " * 4_000_001 + _WHOLE, "an answer of more than 4,000,000 bytes"),
        (_HEAD + b"X: " + b"x" * 200_000 + b"\r\n\r\n" + _WHOLE, "connection failed"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "not JSON: ''"),
        (b"HTTP/1.1 307 Go\r\nLocation: /v1/chat/completions\r\nContent-Length: 0\r\n\r\n", "status 307"),
        (_HEAD + b"\r\ndata: " + _WHOLE + b"\n\ndata: [DONE]\n\n", "not JSON: 'data: "),
    ],
)
def test_an_answer_that_breaks_the_protocol_fails_the_attempt(raw: bytes, message: str) -> None:
    with OpenAIServer(raw=raw) as server, pytest.raises((AttemptFailed, ServiceError), match=re.escape(message)):
        _ask_once(server.url, retries=0)


def test_a_server_that_trickles_is_left_after_the_time_out() -> None:
    started = time.monotonic()
    trickle = _HEAD + b"Content-Length: 9000\r\n\r\n{"
    with (
        OpenAIServer(raw=trickle, keep_open=True) as server,
        pytest.raises(ServiceError, match=r"no answer in 0\.3 s"),
    ):
        _ask_once(server.url, retries=0, timeout_seconds=0.3)
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": [{"type": "text", "text": "One "}, {"type": "text", "text": "text."}]}, "One text."),
        ({"content": None}, None),
        ({}, None),
        ({"content": "\ud800 alone"}, "\ud800 alone"),
        ({"content": "A text.", "tool_calls": [{"id": 7}], "reasoning_content": "Hm."}, "A text."),
    ],
)
def test_unusual_contents_are_taken_for_what_they_are(message: dict[str, Any], text: str | None) -> None:
    body = json.dumps({"choices": [{"message": message, "finish_reason": ["odd"]}, {"message": {}}], "model": 5})
    with OpenAIServer(body=body.encode()) as server:
        reply = _ask_once(server.url, retries=0)
    assert (reply.text, reply.finish_reason, reply.model) == (text, "['odd']", None)


@pytest.mark.parametrize(
    "usage", [None, 7, {"prompt_tokens": -3, "completion_tokens": "many"}, {"prompt_tokens": True}]
)
def test_a_false_usage_counts_as_none(usage: Any) -> None:
    with OpenAIServer(usage=usage) as server:
        reply = _ask_once(server.url)
    assert (reply.prompt_tokens, reply.completion_tokens) == (None, None)


def test_a_server_that_names_a_time_is_given_it() -> None:
    with OpenAIServer(faults={"429": 1.0}, retry_after="0.4") as server:
        started = time.monotonic()
        with pytest.raises(AttemptFailed):
            _ask_once(server.url, retries=1)
        assert time.monotonic() - started >= 0.4
        assert server.calls == 2


def test_a_time_out_of_reach_is_not_waited_for() -> None:
    with OpenAIServer(faults={"429": 1.0}, retry_after="7200") as server:
        started = time.monotonic()
        with pytest.raises(AttemptFailed, match="status 429"):
            _ask_once(server.url)
        assert time.monotonic() - started < 30


def test_a_server_that_hangs_is_left_after_the_time_out() -> None:
    with OpenAIServer(faults={"hang": 1.0}) as server, pytest.raises(ServiceError, match=r"no answer in 0\.2 s"):
        _ask_once(server.url, timeout_seconds=0.2, retries=0)


def test_a_server_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ServiceError, match=r"connection failed.*is the server running\?"):
        _ask_once(f"http://127.0.0.1:{port}/v1", retries=0)


def test_an_endpoint_that_never_answers_is_given_up() -> None:
    with OpenAIServer(faults={"500": 1.0}) as server:
        replies = _ask(server.url, *_numbered(12), retries=0)
        assert [type(reply) for reply in replies[:9]] == [AttemptFailed] * 9
        assert isinstance(replies[9], ServiceError)
        assert "no answer 10 times in a row" in str(replies[9])


def test_the_first_call_goes_alone_and_then_all_at_once() -> None:
    with OpenAIServer(latency=0.5) as server:
        _ask(server.url, *_numbered(9))
        assert server.most_in_flight == 8


def test_a_missing_key_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    section = GenerateSection.model_validate({"endpoint": {"api_key_env": "MY_KEY"}})
    with pytest.raises(InputError, match=r"environment variable MY_KEY is not set.*export MY_KEY="):
        Endpoint(section, "http://127.0.0.1:9/v1")


def test_a_key_in_place_of_its_variables_name_is_not_repeated() -> None:
    with pytest.raises(ValueError, match="not a key") as error:
        GenerateSection.model_validate({"endpoint": {"api_key_env": KEY}})
    assert "expected the NAME" in str(error.value)


def test_a_server_that_repeats_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    settings = {"endpoint": {"api_key_env": "MY_KEY"}, "retries": 0}
    with OpenAIServer(status=401, error={"message": f"bad key {KEY}"}) as server:
        with pytest.raises(ServiceError, match=r"bad key \*\*\*") as error:
            _ask_once(server.url, **settings)
        assert KEY not in repr(error.value)
        assert error.value.__suppress_context__
    with OpenAIServer(answer=lambda _: f"my key is {KEY}, is it not?") as server:
        assert _ask_once(server.url, **settings).text == "my key is ***, is it not?"
    with OpenAIServer(body=KEY.encode()) as server, pytest.raises(AttemptFailed) as failed:
        _ask_once(server.url, **settings)
    assert KEY not in str(failed.value)


def test_a_server_that_only_streams_ends_the_stage_and_shows_what_it_sent() -> None:
    events = b'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\ndata: [DONE]\n\n'
    with OpenAIServer(body=events) as server:
        replies = _ask(server.url, *_numbered(5))
        assert server.calls == 3, "none is tried again, and after three it is clear"
    assert [type(reply) for reply in replies] == [AttemptFailed] * 2 + [ServiceError] * 3
    assert re.search(r"not JSON: 'data: .*\[DONE\].*\(1 call\)", str(replies[0]))
    assert re.search(
        r"not JSON: 'data: .*\[DONE\].*the server only streams its answers .stream: true.", str(replies[2])
    )


@pytest.mark.parametrize("status", [400, 422])
def test_a_refusal_that_speaks_of_streams_or_thinking(status: int) -> None:
    error = {"message": "parameter.enable_thinking must be set to false for non-streaming calls"}
    with (
        OpenAIServer(status=status, error=error) as server,
        pytest.raises(ServiceError, match=r"set extra_body: \{enable_thinking: false\}"),
    ):
        _ask_once(server.url)
    with (
        OpenAIServer(status=status, error={"message": "stream must be true"}) as server,
        pytest.raises(ServiceError, match="the server only streams its answers"),
    ):
        _ask_once(server.url)


@pytest.mark.parametrize("status", [400, 422, 500])
def test_a_server_that_fails_on_a_seed(status: int) -> None:
    error = {"message": "CPU Generator does not use offset"}
    with OpenAIServer(status=status, error=error) as server:
        with pytest.raises(ServiceError, match=r"does not use offset.*set generate\.send_seed: false"):
            _ask_once(server.url, retries=0)
        for key in ("send_seed", "seed"):
            with pytest.raises((ServiceError, AttemptFailed)) as raised:
                _ask_once(server.url, retries=0, **{key: False})
            assert "set generate.send_seed: false" not in str(raised.value)


def test_a_server_that_dies_of_its_first_requests() -> None:
    """vLLM's CPU engine: one 500 without a message, and then the port is closed."""
    with OpenAIServer(status=500, error={"message": "EngineCore encountered an issue"}) as server:
        calls = iter([0.0])

        def latency(_: dict[str, Any]) -> float:
            if next(calls, None) is None:
                server.die()
            return 0.0

        server._latency = latency
        with pytest.raises(ServiceError, match=r"if it fails on a request's seed: generate\.send_seed: false"):
            _ask_once(server.url, retries=2)


def test_an_azure_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with OpenAIServer() as server:
        url = f"{server.url}?api-version=2024-10-21"
        endpoint = {"api_key_env": "MY_KEY", "base_url": url, "model": "m"}
        assert _ask_once(url, endpoint=endpoint).text == written(PAYLOAD)
        assert server.heads[0].startswith("POST /v1/chat/completions?api-version=2024-10-21 ")
        assert f"api-key: {KEY}" in server.heads[0] and "uthorization" not in server.heads[0]
    with pytest.raises(InputError, match="base_url ends before /chat/completions"):
        Endpoint(GenerateSection(), "https://x/d/chat/completions?api-version=1")


def test_further_keys_of_a_request() -> None:
    taxonomy, templates = (
        load_taxonomy("support-tickets"),
        load_templates(template_folder("default", relative_to=Path())),
    )
    extra = {"min_p": 0.05, "chat_template_kwargs": {"enable_thinking": False}}
    slot = {"slot_id": "s", "labels": [], "near_miss_of": None, "language": "en", "difficulty": "unrelated"}

    def question(**endpoint: Any) -> WriterRequest:
        section = GenerateSection.model_validate({"endpoint": endpoint})
        return RequestBuilder(section, taxonomy, templates, 1).question(slot, 1, [])

    plain, own = question(), question(extra_body=extra)
    assert extra.items() <= own.payload.items() and plain.key != own.key
    assert "extra_body" not in GenerateSection().model_dump(mode="json")["endpoint"], "old configs keep their hash"
    checked = GenerateSection.model_validate({"endpoint": {"extra_body": extra}, "check": {"enabled": True}})
    asked = CheckQuestions(checked, taxonomy, 1).question("r", [{"role": "user", "content": "x"}])
    assert extra.items() <= asked.payload.items()
    for name, instead in (
        ("seed", "generate.send_seed"),
        ("temperature", "generate.temperature"),
        ("stream", "it cannot be changed"),
    ):
        with pytest.raises(ValueError, match=f"extra_body cannot hold '{name}'.*{instead}"):
            question(extra_body={name: 1})

"""Endpoints that people really have: keys of their own, Azure's addresses, streams, errors with a good status."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from marginalia.schemas.errors import InputError, ServiceError
from marginalia.schemas.retries import RetryPolicy
from marginalia.scoring.command import main
from marginalia.scoring.config import GuardRun
from marginalia.scoring.score_files import scorer_fingerprint
from marginalia.scoring.score_request import EndpointOptions
from marginalia.scoring.scorer import Scorer, Settings
from tests.logprob_server import LogprobServer
from tests.scoring import tiny
from tests.scoring.endpoint.served import EXACT, KEY, RECORDS, connect

COARSE = Settings(tolerance=0.1)
EVENTS = b'data: {"choices": [{"text": "a"}]}\n\ndata: [DONE]\n\n'


def test_further_keys_are_in_every_request(remote: Any) -> None:
    extra = {"min_p": 0, "chat_template_kwargs": {"enable_thinking": False}}
    server, scorer = remote(COARSE, {}, extra_body=extra)
    list(scorer.score_records(RECORDS[:1]))
    assert server.requests and all(extra.items() <= body.items() for body in server.requests)
    _, other = remote(COARSE, {})
    assert scorer_fingerprint(scorer) != scorer_fingerprint(other), "they may change the numbers"


def test_a_further_key_that_the_server_refuses_is_named(folder: Path, network: Any) -> None:
    with (
        LogprobServer(network, tiny.tokenizer(), strict=True) as server,
        pytest.raises(ServiceError, match=r"status 400: .*min_p .change min_p in extra_body \(--extra-body\)"),
    ):
        server.strict_but = ("return_tokens_as_token_ids", "n_probs", "repetition_penalty", "logprob_token_ids")
        connect(folder, server, EXACT, [], extra_body={"min_p": 0})


@pytest.mark.parametrize(("name", "instead"), [("model", "endpoint_model"), ("logprobs", "top_logprobs"), ("n", None)])
def test_keys_that_a_request_has_already(name: str, instead: str | None) -> None:
    wanted = f"set {instead} instead" if instead else "it cannot be changed"
    with pytest.raises(ValueError, match=f"extra_body cannot hold '{name}'.*{wanted}"):
        EndpointOptions(extra_body={name: 1})
    with pytest.raises(ValueError, match="cannot be written as JSON"):
        EndpointOptions(extra_body={"x": float("nan")})


def test_a_config_without_them_keeps_its_hash() -> None:
    """Run folders of before are not scored again for keys that they do not have."""
    guard = GuardRun.model_validate(
        {"name": "g", "guard": "instruct", "model": "http://127.0.0.1:1/v1", "allow_http": True}
    )
    assert {"extra_body", "allow_http"}.isdisjoint(guard.model_dump(mode="json"))
    assert "extra_body" in guard.model_copy(update={"extra_body": {"top_k": 1}}).model_dump(mode="json")


def test_the_command_takes_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["r.jsonl", "--model", "http://127.0.0.1:1/v1", "--guard", "g", "--out", "o.parquet", "--extra-body"]
    with pytest.raises(SystemExit):
        main([*words, "[1]"])
    assert 'expected a JSON object, such as {"min_p": 0}' in capsys.readouterr().err


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("TEST_KEY", KEY)
    return KEY


def test_an_azure_deployment(folder: Path, network: Any, key: str) -> None:
    with LogprobServer(network, tiny.tokenizer()) as server:
        endpoint = EndpointOptions(tokenizer=str(folder / "model"), api_key_env="TEST_KEY", endpoint_model="tiny-guard")
        url = f"{server.url}?api-version=2024-10-21"
        scorer = Scorer.load(url, str(folder / "guard.yaml"), settings=COARSE, endpoint=endpoint)
        assert scorer.score("hello")
        assert {path for path in server.paths if "completions" in path} == {"/v1/completions?api-version=2024-10-21"}
        assert {headers.get("api-key") for headers in server.headers} == {key}
        assert not any("authorization" in headers for headers in server.headers)
        scorer.model.caller.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            (200, EVENTS),
            r"server-sent events, not JSON: 'data: \{.*\[DONE\].*the server only streams its answers .stream: true.",
        ),
        (
            (400, b'{"error": {"message": "only stream=true is supported"}}'),
            "only stream=true.*the server only streams its answers",
        ),
        (
            (400, b'{"message": "parameter.enable_thinking must be set to false for non-streaming calls"}'),
            r"enable_thinking must be .*set extra_body: \{enable_thinking: false\}",
        ),
    ],
    ids=["events", "refusal", "thinking"],
)
def test_a_server_that_only_streams(folder: Path, network: Any, answer: Any, message: str) -> None:
    with LogprobServer(network, tiny.tokenizer(), body=answer) as server:
        with pytest.raises(ServiceError, match=message):
            connect(folder, server, EXACT, [], endpoint_model="tiny-guard")
        assert len(server.requests) <= 1 and server.calls == 1


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            b'{"error": {"message": "CUDA out of memory"}}',
            r'no choices in the answer: \{"error": \{.*CUDA out of memory',
        ),
        (
            b'event: error\ndata: {"error": "overloaded"}\n\n',
            r"server-sent events, not JSON: 'event: error.*overloaded",
        ),
        (json.dumps({"detail": f"who is {KEY}?"}).encode(), r"no choices .*who is \*\*\*\?"),
    ],
    ids=["error", "events", "key"],
)
def test_an_error_with_a_good_status_is_shown(
    folder: Path, network: Any, monkeypatch: pytest.MonkeyPatch, key: str, answer: bytes, message: str
) -> None:
    monkeypatch.setattr("marginalia.scoring.models.endpoint_calls.POLICY", RetryPolicy(first_backoff=0.001))
    options = {"endpoint_model": "tiny-guard", "retries": 1, "api_key_env": "TEST_KEY"}
    with (
        LogprobServer(network, tiny.tokenizer(), body=(200, answer)) as server,
        pytest.raises(ServiceError, match=rf"{message}.*\(2 calls\)") as raised,
    ):
        connect(folder, server, EXACT, [], **options)
    assert key not in str(raised.value)


def test_a_server_of_texts_that_adds_a_start_token(folder: Path, network: Any) -> None:
    with (
        LogprobServer(network, tiny.tokenizer(), prompt_ids=False, bos=1) as server,
        pytest.raises(ServiceError, match=r"the server counted .*puts a start token \(BOS\) before each text.*add_bos"),
    ):
        connect(folder, server, EXACT, [])


def test_a_redirect_is_not_followed(folder: Path, network: Any, key: str) -> None:
    with LogprobServer(network, tiny.tokenizer()) as other:
        there = other.url.replace("127.0.0.1", "localhost")
        with LogprobServer(network, tiny.tokenizer(), redirect=f"{there}/completions?key={key}") as server:
            wanted = rf"status 307: redirected to {there}/completions\?key=\*\*\* .redirects are not followed"
            with pytest.raises(ServiceError, match=wanted):
                connect(folder, server, EXACT, [], api_key_env="TEST_KEY")
        assert other.calls == 0


def test_a_key_over_plain_http(folder: Path, key: str) -> None:
    endpoint = {"tokenizer": str(folder / "model"), "api_key_env": "TEST_KEY", "retries": 0}
    for urls in ("http://nowhere.invalid/v1", "http://127.0.0.1:1/v1,http://nowhere.invalid/v1"):
        with pytest.raises(InputError, match=r"a key is not sent over plain http.*set allow_http: true"):
            Scorer.load(urls, str(folder / "guard.yaml"), endpoint=EndpointOptions(**endpoint))
    with pytest.raises(ServiceError, match="connection failed"):
        options = EndpointOptions(**endpoint, allow_http=True)
        Scorer.load("http://nowhere.invalid/v1", str(folder / "guard.yaml"), endpoint=options)

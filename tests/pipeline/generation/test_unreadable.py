"""Answers with status 200 that cannot be read may have been paid for: the budget counts the most they can cost."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from marginalia.pipeline.config.generation import GenerateSection
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.generation.endpoint.llm_endpoint import AttemptFailed, Endpoint
from marginalia.pipeline.generation.generate_stage import STAGE as GENERATE
from marginalia.pipeline.generation.plan_stage import STAGE as PLAN
from marginalia.schemas.errors import ArtifactError, ServiceError
from marginalia.schemas.manifest_json import Manifest
from marginalia.schemas.retries import RetryPolicy
from tests.openai_server import OpenAIServer
from tests.pipeline.generation.conftest import MakeRun

PRICES = {"prompt": 0.0, "completion": 1_000_000.0}  # one unit a token of an answer
MOST = 64  # tokens of an answer
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marginalia.pipeline.generation.endpoint.llm_endpoint.POLICY", RetryPolicy(first_backoff=0.01))


def _generate(run: Run) -> Manifest:
    run_stage(PLAN, run)
    return run_stage(GENERATE, run, force=True).manifest


def _settings(**changes: Any) -> dict[str, Any]:
    return {"waves": 1, "max_tokens": MOST, "prices": PRICES, "concurrency": 4, "max_attempts": 2, **changes}


@pytest.mark.parametrize("fault", ["truncated", "html"])
def test_they_count_and_the_budget_is_never_exceeded(make_run: MakeRun, fault: str) -> None:
    budget = 20 * MOST
    with OpenAIServer(faults={fault: 0.5}) as server:
        run = make_run(server.url, records=60, **_settings(budget=budget))
        manifest = _generate(run)
        unreadable = server.calls - server.answered
        assert manifest.facts["unreadable answers"] == unreadable > 0
        assert manifest.facts["guessed share of the cost"] == unreadable * MOST
        assert manifest.cost == unreadable * MOST + manifest.tokens["completion"] <= budget
        assert manifest.facts["stopped early by"] == "budget"
        notes = [json.loads(line) for line in run.path("responses.unreadable.jsonl").read_bytes().splitlines()]
        assert len(notes) == unreadable
        assert all(note["said"].startswith("not JSON: ") for note in notes)
        assert "responses.unreadable.jsonl" in manifest.outputs
        # a resumed run knows of them: nothing is left to spend
        calls = server.calls
        assert _generate(run).cost == manifest.cost
        assert server.calls == calls
        run.path("responses.unreadable.jsonl").write_text('{"prompt_bytes": "many"}\n', encoding="utf-8")
        with pytest.raises(ArtifactError, match=r"responses\.unreadable\.jsonl: line 1: prompt_bytes is not a size"):
            _generate(run)


@pytest.mark.parametrize(
    ("raw", "fragment"),
    [
        (_HEAD + b"Content-Length: 900\r\n\r\n" + b'{"choices": [', "connection failed"),
        (_HEAD + b"\r\n" + b" " * 4_000_001, "an answer of more than 4,000,000 bytes"),
        (_HEAD + b"Content-Length: 15\r\n\r\n" + b'{"choices": []}', "no choices in the answer"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 900\r\n\r\n{", None),
        (b"", None),
    ],
)
def test_what_came_with_a_good_status_counts(raw: bytes, fragment: str | None) -> None:
    heard: list[str] = []

    def unreadable(body: str) -> bool:
        heard.append(body)
        return False

    async def ask(url: str) -> None:
        async with Endpoint(GenerateSection(retries=0), url) as endpoint:
            await endpoint.ask({"model": "m", "messages": [{"role": "user", "content": "Write."}]}, unreadable)

    with OpenAIServer(raw=raw) as server, pytest.raises((AttemptFailed, ServiceError)) as failed:
        asyncio.run(ask(server.url))
    assert [fragment in body for body in heard] == [True] if fragment is not None else not heard
    assert ("generate.budget allows no other try" in str(failed.value)) == (fragment is not None)
    assert server.calls == 1


def test_an_answer_without_usage_is_in_the_cost_as_a_guess(make_run: MakeRun) -> None:
    with OpenAIServer(usage=None) as server:
        manifest = _generate(make_run(server.url, records=5, **_settings()))
    assert manifest.cost == manifest.facts["guessed share of the cost"] == 5 * MOST
    assert not manifest.facts["unreadable answers"]

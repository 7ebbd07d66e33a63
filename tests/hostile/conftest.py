"""The three clients that ask servers for JSON, each as one function of a server's address; and a fake Argilla."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from marginalia.annotation.client import connection
from marginalia.pipeline.config.generation import GenerateSection
from marginalia.pipeline.generation.endpoint import llm_endpoint
from marginalia.schemas.errors import MarginaliaError
from marginalia.schemas.retries import RETRIED_STATUSES, RetryPolicy
from marginalia.scoring.models import endpoint_calls
from marginalia.scoring.models.retried_calls import Refused
from tests.annotation.runs import SimulatedRun
from tests.hostile.fake_argilla import FakeArgilla

KEY = "sk-canary/0123+456789=="
QUICK = RetryPolicy(first_backoff=0.001, retried_statuses=RETRIED_STATUSES - {409})

# Refused: the scorer adds its hint later, where it knows what was asked
OWN_ERRORS = (MarginaliaError, llm_endpoint.AttemptFailed, Refused)

Client = Callable[..., list[Any]]


def generate(url: str, questions: Sequence[str], *, retries: int = 0, seconds: float = 10.0) -> list[Any]:
    """The texts that the writer's endpoint gives to `questions`, asked one after the other."""
    section = GenerateSection.model_validate(
        {"endpoint": {"api_key_env": "TEST_KEY"}, "retries": retries, "timeout_seconds": seconds}
    )

    async def ask() -> list[Any]:
        texts = []
        async with llm_endpoint.Endpoint(section, f"{url}/v1") as endpoint:
            for question in questions:
                payload = {"model": "m", "messages": [{"role": "user", "content": question}]}
                texts.append((await endpoint.ask(payload)).text)
                await asyncio.sleep(0.1)
        return texts

    return asyncio.run(ask())


def score(url: str, questions: Sequence[str], *, retries: int = 0, seconds: float = 10.0) -> list[Any]:
    """The same from the scorer's client."""
    caller = endpoint_calls.Caller([f"{url}/v1"], KEY, concurrency=1, retries=retries, timeout_seconds=seconds)
    try:
        texts = []
        for question in questions:
            texts.append(caller.post("completions", {"prompt": question}, lambda value: value["text"]))
            time.sleep(0.1)
        return texts
    finally:
        caller.close()


def annotate(url: str, questions: Sequence[str], *, retries: int = 0, seconds: float = 10.0) -> list[Any]:
    """The same from the client of Argilla."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "RETRIES", retries)
        patch.setattr(connection, "TIMEOUT", seconds)
        argilla = connection.Connection(url, KEY, key_hint="check TEST_KEY")
        texts = []
        with argilla:
            for question in questions:
                texts.append(argilla.get(f"/{question}")["text"])
                time.sleep(0.1)
        return texts


CLIENTS = {"generate": generate, "score": score, "annotate": annotate}


@pytest.fixture(params=CLIENTS)
def ask(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Client:
    """ask(url, questions, retries=…, seconds=…) → texts."""
    monkeypatch.setenv("TEST_KEY", KEY)
    for module in (connection, llm_endpoint, endpoint_calls):
        monkeypatch.setattr(module, "POLICY", QUICK)
        monkeypatch.setattr(module, "_LARGEST_BODY", 2_000_000)
    return CLIENTS[request.param]


@pytest.fixture
def argilla() -> Iterator[FakeArgilla]:
    with FakeArgilla() as server:
        yield server


@pytest.fixture
def pushed(argilla: FakeArgilla, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., SimulatedRun]:
    """Makes a run whose three records r1, r2 and r3 are on the fake server."""

    def make(**options: Any) -> SimulatedRun:
        work = argilla.run(tmp_path, monkeypatch, **options)
        work.stage("push")
        return work

    return make

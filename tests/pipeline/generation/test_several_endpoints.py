"""generate over a list of addresses: the same result, one that dies survived, one that serves another model refused."""

from __future__ import annotations

import json
import socket
from collections import Counter
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from marginalia.pipeline.config.generation import EndpointSection, GenerateSection
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.generation.generate_stage import STAGE as GENERATE
from marginalia.pipeline.generation.plan_stage import STAGE as PLAN
from marginalia.schemas.errors import ServiceError
from marginalia.schemas.manifest_json import Manifest
from marginalia.schemas.retries import RetryPolicy
from marginalia.schemas.storage.files import frame_hash
from tests.openai_server import OpenAIServer
from tests.pipeline.generation.conftest import MakeRun

RECORDS = 60


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marginalia.pipeline.generation.endpoint.llm_endpoint.POLICY", RetryPolicy(first_backoff=0.01))


def _generate(run: Run) -> Manifest:
    run_stage(PLAN, run)
    return run_stage(GENERATE, run).manifest


def _content(run: Run) -> str:
    return frame_hash(pl.read_parquet(run.path("prompts.parquet")), without=["created_at"])


def _answered_by(run: Run) -> Counter[str]:
    return Counter(json.loads(line)["endpoint"] for line in run.path("responses.jsonl").read_bytes().splitlines())


def test_two_give_what_one_gives_and_share_the_work(make_run: MakeRun) -> None:
    with OpenAIServer(latency=0.01) as one, OpenAIServer(latency=0.01) as two:
        alone = make_run(one.url, name="alone", records=RECORDS)
        assert "endpoints" not in _generate(alone).facts
        run = make_run(one.url, records=RECORDS, endpoint={"base_url": [one.url, two.url], "model": "test-model"})
        manifest = _generate(run)
        answered = _answered_by(run)
    assert _content(run) == _content(alone)
    assert answered.total() == RECORDS
    assert min(answered[one.url], answered[two.url]) > RECORDS / 4
    assert manifest.facts["endpoints"] == "2 endpoints: " + "; ".join(
        f"{server.url} answered {answered[server.url]} calls" for server in (one, two)
    )
    assert manifest.models == {"test-model": f"{one.url}, {two.url}"}


def test_one_that_dies_in_the_middle_is_survived(make_run: MakeRun) -> None:
    calls = 0

    def dies_at_the_twelfth(_: dict[str, Any]) -> float:
        nonlocal calls
        calls += 1
        if calls == 12:
            two.die()
        return 0.01

    with OpenAIServer(latency=0.01) as one, OpenAIServer(latency=dies_at_the_twelfth) as two:
        alone = make_run(one.url, name="alone", records=RECORDS)
        _generate(alone)
        # no retries of its own: what fails at one server is asked again at the other
        endpoint = {"base_url": [two.url, one.url], "model": "test-model"}
        run = make_run(one.url, records=RECORDS, retries=0, endpoint=endpoint)
        manifest = _generate(run)
    answered = _answered_by(run)
    assert _content(run) == _content(alone)
    assert 0 < answered[two.url] < 12
    assert answered[one.url] == RECORDS - answered[two.url]
    assert "connection failed" in manifest.facts["endpoints"]
    assert manifest.counts_out["accepted"] == RECORDS


def test_one_that_is_not_there_or_refuses_the_key_is_passed_over(make_run: MakeRun) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        gone = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    with OpenAIServer() as one, OpenAIServer(status=401) as two:
        endpoint = {"base_url": [gone, two.url, one.url], "model": "test-model"}
        run = make_run(one.url, records=RECORDS, endpoint=endpoint)
        assert _generate(run).counts_out["accepted"] == RECORDS
        assert set(_answered_by(run)) == {one.url}
        assert two.calls <= 2  # and left alone from then on
        nowhere = make_run(one.url, name="nowhere", retries=0, endpoint={"base_url": [gone, two.url], "model": "m"})
        with pytest.raises(ServiceError, match=r"status 401.*generate\.endpoint\.api_key_env"):
            _generate(nowhere)


def test_a_wait_that_one_asks_for_is_not_the_others(make_run: MakeRun) -> None:
    with OpenAIServer() as one, OpenAIServer(faults={"429": 1.0}, retry_after="7200") as busy:
        endpoint = {"base_url": [busy.url, one.url], "model": "test-model"}
        run = make_run(one.url, records=RECORDS, endpoint=endpoint)
        assert _generate(run).counts_out["accepted"] == RECORDS
        assert busy.calls == 1


def test_another_model_is_refused(make_run: MakeRun) -> None:
    other = json.dumps({"choices": [{"message": {"content": "A text."}}], "model": "other"}).encode()
    with OpenAIServer() as one, OpenAIServer(body=other) as two:
        endpoint = {"base_url": [one.url, two.url], "model": "test-model"}
        with pytest.raises(ServiceError, match=r"answers as model 'other', .* as 'test-model'.*serve the same model"):
            _generate(make_run(one.url, endpoint=endpoint))


def test_addresses_in_the_config() -> None:
    def urls(base_url: Any) -> list[str]:
        return EndpointSection.model_validate({"base_url": base_url}).urls

    assert urls("bundled") == ["bundled"]
    assert urls("http://a/v1/") == urls(["http://a/v1"]) == ["http://a/v1"]
    assert urls(["http://a/v1", "https://b/v1/"]) == ["http://a/v1", "https://b/v1"]
    for wrong, message in (
        ([], "one or more different addresses"),
        (["http://a/v1", "http://a/v1/"], "one or more different addresses"),
        (["http://a/v1", "bundled"], "expected an address and nothing more"),
        ("a/v1", "expected an address and nothing more"),
    ):
        with pytest.raises(ValidationError, match=message):
            GenerateSection.model_validate({"endpoint": {"base_url": wrong}})

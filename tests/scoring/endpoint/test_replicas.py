"""Several endpoints of one model: least busy first, and what one of them does when it dies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from marginalia.schemas.errors import ServiceError
from marginalia.scoring.config import GuardRun
from marginalia.scoring.models import replicas
from marginalia.scoring.models.replicas import Replicas
from marginalia.scoring.score_request import EndpointOptions, split_urls
from marginalia.scoring.scorer import Scorer
from tests.logprob_server import LogprobServer
from tests.scoring import tiny
from tests.scoring.endpoint.served import FINE, TEXTS, by_id

RECORDS = [(f"r{n:02}", [{"role": "user", "content": f"{TEXTS[n % 5]} {n}"}]) for n in range(20)]
CLOSED = "http://127.0.0.1:9/v1"


@pytest.fixture
def two(network: Any) -> Iterator[tuple[LogprobServer, LogprobServer]]:
    with (
        LogprobServer(network, tiny.tokenizer(), latency=0.001) as one,
        LogprobServer(network, tiny.tokenizer(), latency=0.001) as other,
    ):
        yield one, other


def scorer_of(folder: Path, *urls: str, **options: Any) -> Scorer:
    endpoint = EndpointOptions(tokenizer=str(folder / "model"), timeout_seconds=30.0, **options)
    return Scorer.load(",".join(urls), str(folder / "guard.yaml"), settings=FINE, endpoint=endpoint)


def test_two_servers_share_the_work_and_one_dies_in_the_middle(
    folder: Path, two: tuple[LogprobServer, LogprobServer]
) -> None:
    one, other = two
    alone = scorer_of(folder, one.url)
    truth = by_id(alone.score_records(RECORDS))
    before = len(one.requests)
    both = scorer_of(folder, one.url, other.url)
    scored = by_id(both.score_records(RECORDS[:8]))
    shares = [len(one.requests) - before, len(other.requests)]
    assert min(shares) > 0.3 * sum(shares)
    other.faults = {"reset": 1.0}  # every connection breaks, those kept open as well
    scored |= by_id(both.score_records(RECORDS[8:]))
    report = next(note for note in both.model.notes if note.startswith("2 endpoints"))
    other.faults = {}
    dead = both.model.caller.replicas.all[1]  # type: ignore[attr-defined]
    dead.paused_until = 0.0  # its pause is over
    both.score("hello again")
    assert dead.pauses == 0, "it is asked again"
    for model in (alone.model, both.model):
        model.caller.close()  # type: ignore[attr-defined]
    assert {record: result.error for record, result in scored.items()} == dict.fromkeys(truth)
    for record, result in scored.items():
        for name, found in result.estimates.items():
            assert abs(found.probability - truth[record].estimates[name].probability).max() <= 1e-4
    assert report.startswith(f"2 endpoints: {one.url} answered ")
    assert "(last error: connection failed" in report and report.endswith("and was skipped after repeated failures")


def test_one_that_is_not_there_at_the_start_is_no_hindrance(
    folder: Path, two: tuple[LogprobServer, LogprobServer]
) -> None:
    scorer = scorer_of(folder, CLOSED, two[0].url)
    assert scorer.score("hello")
    scorer.model.caller.close()  # type: ignore[attr-defined]


def test_all_failing_ends_with_every_address(folder: Path) -> None:
    with pytest.raises(ServiceError, match=r"connection failed.*is the server running") as caught:
        scorer_of(folder, CLOSED, "http://127.0.0.1:11/v1", retries=2)
    assert caught.value.exit_code == 3


def test_two_models_under_one_name_are_refused(folder: Path, two: tuple[LogprobServer, LogprobServer]) -> None:
    with (
        LogprobServer(tiny.model(7, sharpness=3.0), tiny.tokenizer()) as stranger,
        pytest.raises(ServiceError, match="answer the same question differently"),
    ):
        scorer_of(folder, two[0].url, stranger.url)


def test_least_busy_first_and_a_rest_after_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(replicas.time, "monotonic", lambda: now[0])
    pool = Replicas(["http://a", "http://b"])
    a, b = pool.all
    a.in_flight = 2
    assert pool.take() is b
    for _ in range(2):
        pool.note_failure(b, "status 500", unreachable=False)
        assert pool.take() is b, "one request may be at fault, not the server"
    pool.note_failure(b, "status 500", unreachable=False)
    assert pool.take() is a
    now[0] += 1.5
    assert pool.take() is b, "its rest is over"
    b.in_flight = 1
    assert pool.take() is a, "one call shows whether it is back"
    pool.note_failure(b, "connection failed", unreachable=True)
    assert b.paused_until == now[0] + 2
    pool.note_failure(a, "status 429", unreachable=False, wait=30)
    assert not pool.is_any_ready()
    assert pool.take() is b, "the one that will be ready first"


def test_a_list_of_addresses() -> None:
    guard = GuardRun.model_validate({"name": "g", "guard": "instruct", "model": ["http://a/v1", "https://b/v1"]})
    assert split_urls(guard.model) == ["http://a/v1", "https://b/v1"]
    assert split_urls("http://a/v1?x=1,2") == ["http://a/v1?x=1,2"]
    for wrong in ([], ["./model", "http://a/v1"], ["http://a,http://b"]):
        with pytest.raises(ValidationError, match="addresses"):
            GuardRun.model_validate({"name": "g", "guard": "instruct", "model": wrong})

"""Push and pull through a faulty proxy in front of a real Argilla: every record once, every answer once."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from marginalia.annotation.client import changed_records, connection, pull_answers, push_records
from marginalia.annotation.server.server_control import RunningServer, accounts
from marginalia.pipeline.annotating import pull_stage as pull_stage
from marginalia.pipeline.annotating import push_stage as push_stage
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.schemas.errors import ServiceError
from tests.annotation.runs import SimulatedRun
from tests.lying_proxy import FAULTS, LyingProxy

NewRun = Callable[..., SimulatedRun]
TEXTS = {f"r{at:02}": f"text {at}" for at in range(20)}
POLICY = connection.POLICY
STAGES = {"push": push_stage, "pull": pull_stage}
MOST_RUNS = 60


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, argilla_home: Path) -> None:
    """No pauses, and small pages: more calls that can fail."""
    monkeypatch.setattr(connection, "POLICY", replace(connection.POLICY, first_backoff=0.0))
    for module in (push_records, changed_records):
        monkeypatch.setattr(module, "PAGE_SIZE", 10)
    monkeypatch.setattr(pull_answers, "ENTRIES_PER_FSYNC", 7)
    owner = next(account for account in accounts(argilla_home) if account.role == "owner")
    monkeypatch.setenv("ARGILLA_API_KEY", owner.api_key)


def through(work: SimulatedRun, url: str) -> None:
    """Puts the proxy's address into the config."""
    path = work.folder / "config.yaml"
    config = json.loads(path.read_bytes())
    config["annotation"]["url"] = url
    path.write_text(json.dumps(config))


def in_the_end(work: SimulatedRun, stage: str) -> int:
    """Runs the stage until it is complete; returns how often it failed. Each failure must name the server."""
    for broken in range(MOST_RUNS):
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(connection, "TIMEOUT", 2.0)
                run_stage(STAGES[stage].STAGE, work.run)
        except ServiceError as error:
            assert f"Argilla at {work.run.config.annotation.url}" in str(error)
        else:
            return broken
    raise AssertionError(f"{stage} did not get through in {MOST_RUNS} runs")


def fresh(new_run: NewRun, *, records: int = len(TEXTS)) -> SimulatedRun:
    """A run with a new dataset name."""
    texts = dict(list(TEXTS.items())[:records])
    return new_run(texts=texts, annotation={"team": ["ann", "ben"], "experts": [], "batch": 4})


@pytest.fixture(autouse=True)
def team(new_run: NewRun, quick: None) -> None:
    """Accounts on the local server."""
    work = new_run(annotation={"team": ["ann", "ben"]})
    work.stage("push")
    shutil.rmtree(work.folder)


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5])
def test_every_record_and_every_answer_comes_through_once(
    new_run: NewRun, argilla_server: RunningServer, rate: float
) -> None:
    again = fresh(new_run)
    rates = {name: (0.01 if name == "hang" else rate / (len(FAULTS) - 1)) for name in FAULTS}
    with LyingProxy(argilla_server.url, rates=rates) as proxy:
        through(again, proxy.url)
        in_the_end(again, "push")
        on_server = Counter(record["external_id"] for record in again.on_server())
        assert on_server == Counter(TEXTS.keys())
        assert again.pushed()["records"] == len(TEXTS)
        for username, shift in (("ann", 0), ("ben", 1)):
            again.answer(
                username, {record: [("a", "b", "c", "none")[(at + shift) % 4]] for at, record in enumerate(TEXTS)}
            )
        in_the_end(again, "pull")
        again.answer("ann", {"r03": ["b", "c"]})
        in_the_end(again, "pull")
        assert proxy.faults.total() > 0
    lines = Counter((entry["record_id"], entry["annotator"]) for entry in again.journal())
    assert lines == Counter({(record, username): 1 for record in TEXTS for username in ("A01", "A02")}) + Counter(
        [("r03", again.pseudonym("ann"))]
    )
    answers = again.annotations()
    assert answers.height == 2 * len(TEXTS)
    assert answers.filter(pl.col("record_id") == "r03")["labels"].to_list() == [["b", "c"], ["a"]]


def test_a_failed_call_leaves_nothing_half_done(
    new_run: NewRun, argilla_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without retries: the k-th call fails, for every second k of push and every k of pull; then the same command
    continues."""
    monkeypatch.setattr(connection, "RETRIES", 0)
    kinds = [name for name in FAULTS if name != "hang"]
    pushed = fresh(new_run, records=6)
    pushed.stage("push")
    pushed.answer("ann", {record: ["a"] for record in ("r00", "r02", "r04")})
    before = pushed.folder.with_name("before")
    pushed.folder.rename(before)
    for stage, at_least in (("push", 15), ("pull", 3)):
        k, met = (-1 if stage == "push" else 0), 1
        while met:
            k += 2 if stage == "push" else 1
            if stage == "pull":
                shutil.copytree(before, pushed.folder, symlinks=True)
            work = fresh(new_run, records=6) if stage == "push" else pushed
            with LyingProxy(argilla_server.url, at={k: kinds[k % len(kinds)]}) as proxy:
                through(work, proxy.url)
                broken = in_the_end(work, stage)
                met = proxy.faults.total()
            assert broken == met, f"{stage}, call {k}: {proxy.faults}"
            assert Counter(record["external_id"] for record in work.on_server()) == Counter(list(TEXTS)[:6])
            if stage == "pull":
                assert [entry["record_id"] for entry in work.journal()] == ["r00", "r02", "r04"]
            shutil.rmtree(work.folder)
        assert k > at_least


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (400, r"check annotation\.url: is it Argilla that answers there\?"),
        (401, "the API key is wrong: check the environment variable ARGILLA_API_KEY"),
        (403, "the API key's role may not do that; use an owner's: check the environment variable ARGILLA_API_KEY"),
        (404, r"check annotation\.url, annotation\.workspace and annotation\.dataset"),
    ],
)
@pytest.mark.parametrize("stage", ["push", "pull"])
def test_an_error_that_a_retry_cannot_fix_fails_at_once(
    new_run: NewRun, argilla_server: RunningServer, stage: str, status: int, hint: str
) -> None:
    work = new_run()
    if stage == "pull":
        work.stage("push")
    with LyingProxy(argilla_server.url, status=status) as proxy:
        through(work, proxy.url)
        with pytest.raises(ServiceError, match=f"HTTP {status}: .*{hint}"):
            work.stage(stage)
        assert proxy.calls == [("GET", "/api/v1/me")]


def test_a_server_that_sends_retry_after_is_not_called_before_that(
    new_run: NewRun, argilla_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(connection.time, "sleep", slept.append)
    monkeypatch.setattr(connection, "POLICY", POLICY)
    work = fresh(new_run)
    with LyingProxy(argilla_server.url, at={2: "429", 3: "503", 5: "429"}, retry_after="7") as proxy:
        through(work, proxy.url)
        work.stage("push")
    assert slept == [7.0, pytest.approx(1.5, abs=0.5), 7.0]


def test_a_page_that_is_not_argilla_is_requested_once(new_run: NewRun, argilla_server: RunningServer) -> None:
    work = new_run()
    with LyingProxy(argilla_server.url, at={1: "html"}) as proxy:
        through(work, proxy.url)
        with pytest.raises(ServiceError, match=r"not an answer of Argilla's: .*check annotation\.url"):
            work.stage("push")
        assert len(proxy.calls) == 1

"""The generate stage over a loopback endpoint."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.generation.generate_stage import STAGE as GENERATE
from marginalia.pipeline.generation.plan_stage import STAGE as PLAN
from marginalia.schemas.errors import ArtifactError, InputError, ServiceError
from marginalia.schemas.manifest_json import Manifest
from marginalia.schemas.retries import RetryPolicy
from marginalia.schemas.storage.files import frame_hash
from tests.openai_server import OpenAIServer, request_hash, written
from tests.pipeline.generation.conftest import MakeRun

KEY = "sk-canary-0123456789"


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marginalia.pipeline.generation.endpoint.llm_endpoint.POLICY", RetryPolicy(first_backoff=0.01))


def _generate(run: Run, *, force: bool = False) -> Manifest:
    run_stage(PLAN, run)
    return run_stage(GENERATE, run, force=force).manifest


def _frames(run: Run) -> tuple[pl.DataFrame, pl.DataFrame]:
    return pl.read_parquet(run.path("prompts.parquet")), pl.read_parquet(run.path("rejected.parquet"))


def _content(run: Run) -> tuple[str, str]:
    prompts, rejected = _frames(run)
    return frame_hash(prompts, without=["created_at"]), frame_hash(rejected)


def _journal(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.path("responses.jsonl").read_bytes().splitlines()]


def _account(run: Run, manifest: Manifest) -> None:
    """accepted + open = planned, and an open slot has used up all its attempts."""
    prompts, rejected = _frames(run)
    plan = pl.read_parquet(run.path("plan.parquet"))
    counts = manifest.counts_out
    assert counts["accepted"] + counts["open"] == plan.height == manifest.counts_in["planned"]
    assert counts["accepted"] == prompts.height == prompts["slot_id"].n_unique()
    assert counts["rejected attempts"] == rejected.height
    open_slots = set(plan["slot_id"]) - set(prompts["slot_id"])
    tried = Counter(rejected["slot_id"].to_list())
    assert all(tried[slot] == run.config.generate.max_attempts for slot in open_slots)


def test_every_planned_slot_becomes_a_record(make_run: MakeRun) -> None:
    with OpenAIServer() as server:
        run = make_run(server.url)
        manifest = _generate(run)
        assert server.calls == 24
    prompts, rejected = _frames(run)
    plan = pl.read_parquet(run.path("plan.parquet"))
    assert prompts["slot_id"].to_list() == plan["slot_id"].to_list()
    assert prompts["intended_labels"].to_list() == plan["labels"].to_list()
    assert rejected.height == 0
    first = prompts.row(0, named=True)
    assert first["messages"] == [{"role": "user", "content": written(_journal_of(run, first["slot_id"])["request"])}]
    assert first["generator"] == "test-model"
    assert {attribute["name"] for attribute in first["attributes"]} >= {"difficulty", "language", "form", "tone"}
    assert first["id"].startswith("01-")
    assert manifest.tokens["completion"] == sum(entry["completion_tokens"] for entry in _journal(run))
    _account(run, manifest)


def _journal_of(run: Run, slot: str) -> dict[str, Any]:
    return next(entry for entry in _journal(run) if entry["slot_id"] == slot)


def test_the_order_of_answers_has_no_part_in_the_result(make_run: MakeRun) -> None:
    def latency(turn: int) -> Any:
        return lambda payload: random.Random(f"{turn}{request_hash(payload)}").random() * 0.03

    def answer(payload: dict[str, Any]) -> str:  # few texts, so that slots compete for them
        return written({"n": int(request_hash(payload), 16) % 40})

    results = []
    for turn in range(3):
        with OpenAIServer(answer=answer, latency=latency(turn)) as server:
            run = make_run(server.url, name=f"run{turn}", concurrency=[1, 7, 24][turn], waves=3)
            manifest = _generate(run)
            _account(run, manifest)
            results.append(_content(run))
            assert manifest.counts_out["rejected: duplicate"] > 0
    assert results[0] == results[1] == results[2]


def test_a_prompt_shows_only_what_earlier_rounds_accepted(make_run: MakeRun) -> None:
    with OpenAIServer() as server:
        run = make_run(server.url, waves=4, show_written=3)
        _generate(run)
    prompts, _ = _frames(run)
    text_of = dict(zip(prompts["slot_id"], (messages[0]["content"] for messages in prompts["messages"]), strict=True))
    order = list(text_of)
    shown_in_all = 0
    for entry in _journal(run):
        wave = order.index(entry["slot_id"]) * 4 // len(order)
        prompt = entry["request"]["messages"][-1]["content"]
        shown = [slot for slot, text in text_of.items() if text in prompt]
        shown_in_all += len(shown)
        assert len(shown) <= 3
        assert all(order.index(slot) * 4 // len(order) < wave for slot in shown)
    assert shown_in_all > 10


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5])
def test_faults_leave_an_exact_account(make_run: MakeRun, rate: float) -> None:
    faults = dict.fromkeys(["429", "500", "503", "reset", "truncated", "html", "hang"], rate / 7)
    with OpenAIServer(faults=faults) as server:
        run = make_run(server.url, records=40, retries=1, max_attempts=2, timeout_seconds=0.3, concurrency=16)
        manifest = _generate(run)
        assert (
            server.answered
            == len(_journal(run))
            == manifest.facts["asked now"] - manifest.counts_out.get("rejected: failed", 0)
        )
    _account(run, manifest)
    for messages in _frames(run)[0]["messages"]:
        assert messages[0]["content"].startswith("The ")


def test_a_second_run_asks_nothing(make_run: MakeRun) -> None:
    with OpenAIServer() as server:
        run = make_run(server.url)
        _generate(run)
        before, calls = _content(run), server.calls
        times = _frames(run)[0]["created_at"].to_list()
        assert run_stage(GENERATE, run).status == "up to date"
        manifest = _generate(run, force=True)
        assert server.calls == calls
    assert manifest.facts["read from the journal"] == 24
    assert _content(run) == before
    assert _frames(run)[0]["created_at"].to_list() == times


def test_a_changed_filter_pays_nothing_twice(make_run: MakeRun) -> None:
    with OpenAIServer(answer=lambda payload: f"{written(payload)} {'Really. ' * (payload['seed'] % 30)}") as server:
        first = _generate(make_run(server.url, waves=3, max_attempts=3, max_characters=400))
        asked = {(entry["slot_id"], entry["attempt"]) for entry in _journal(make_run(server.url))}
        assert server.calls == len(asked)
        wider = make_run(server.url, waves=3, max_attempts=3, max_characters=1000)
        manifest = _generate(wider)
        assert server.calls == len(asked)  # looser: all answers are there
        assert manifest.counts_out["open"] <= first.counts_out["open"]
        assert manifest.facts["asked now"] == 0
        _generate(make_run(server.url, waves=3, max_attempts=3, max_characters=300))
        entries = [(entry["slot_id"], entry["attempt"]) for entry in _journal(wider)]
        assert len(entries) == len(set(entries)) == server.calls  # stricter: only what was never asked is


def test_rejected_slots_are_asked_again_and_then_left_open(make_run: MakeRun) -> None:
    with OpenAIServer(answer=lambda _: "I'm sorry, but I can't help with that request.") as server:
        run = make_run(server.url, records=6, max_attempts=3)
        manifest = _generate(run)
        assert server.calls == 18
        assert len({payload["seed"] for payload in server.requests}) == 18
    assert manifest.counts_out == {"accepted": 0, "open": 6, "rejected attempts": 18, "rejected: refused": 18}
    prompts, rejected = _frames(run)
    assert prompts.height == 0
    assert rejected["attempt"].to_list() == [1, 2, 3] * 6
    _account(run, manifest)


def test_the_same_text_for_all_is_accepted_once(make_run: MakeRun) -> None:
    with OpenAIServer(answer=lambda _: "My lamp flickers all evening, what should I do about it?") as server:
        run = make_run(server.url, records=6, max_attempts=2, waves=1)
        manifest = _generate(run)
    assert manifest.counts_out["accepted"] == 1
    assert _frames(run)[0]["slot_id"].to_list() == ["slot-1"]  # judged in slot order
    _account(run, manifest)


def test_an_answer_for_json(make_run: MakeRun) -> None:
    with OpenAIServer(answer=lambda payload: json.dumps({"text": written(payload)})) as server:
        run = make_run(server.url, structured_output=True)
        assert _generate(run).counts_out["accepted"] == 24
        assert all("response_format" in payload for payload in server.requests)
    assert _frames(run)[0]["messages"][0][0]["content"].startswith("The ")


def test_the_budget_stops_cleanly_and_a_higher_one_goes_on(make_run: MakeRun) -> None:
    prices = {"prompt": 1_000_000.0, "completion": 1_000_000.0}  # one unit a token
    with OpenAIServer() as server:
        free = _generate(make_run(server.url, name="free", waves=1, max_tokens=64, prices=prices))
        assert free.cost == sum(free.tokens.values())
        limit = free.cost / 2
        run = make_run(server.url, waves=1, max_tokens=64, prices=prices, budget=limit, concurrency=3)
        manifest = _generate(run)
        assert manifest.cost is not None
        assert 0 < manifest.cost <= limit
        assert manifest.facts["stopped early by"] == "budget"
        assert 0 < manifest.counts_out["accepted"] < 24
        assert manifest.counts_out["accepted"] + manifest.counts_out["open"] == 24
        accepted = _frames(run)[0]["slot_id"].to_list()
        richer = make_run(server.url, waves=1, max_tokens=64, prices=prices, budget=limit * 20)
        assert _generate(richer).counts_out["accepted"] == 24
        assert _frames(richer)[0]["slot_id"].to_list()[: len(accepted)] == accepted


def test_the_budget_waits_for_calls_in_flight_before_it_stops(make_run: MakeRun) -> None:
    """The most that 8 calls could cost is far above the limit; what they do cost is not."""
    prices = {"prompt": 0.0, "completion": 1_000_000.0}
    with OpenAIServer(latency=0.01) as server:
        run = make_run(server.url, waves=1, max_tokens=1000, prices=prices, budget=1400, concurrency=8)
        manifest = _generate(run)
        assert server.most_in_flight == 1
    assert manifest.cost is not None
    assert 400 - 100 < manifest.cost <= 1400
    assert manifest.counts_out["accepted"] > 8


def test_answers_without_usage_count_in_a_resumed_budget(make_run: MakeRun) -> None:
    prices = {"prompt": 0.0, "completion": 1_000_000.0}
    with OpenAIServer(usage=None) as server:
        run = make_run(server.url, waves=1, max_tokens=100, prices=prices, budget=1050, concurrency=1)
        for _ in range(2):
            manifest = _generate(run, force=True)
            assert server.calls == 10  # of 100 tokens at most each
    assert manifest.facts["answers without usage"] == 10
    assert manifest.facts["stopped early by"] == "budget"


def test_a_wrong_key_costs_one_call_and_writes_nothing(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with OpenAIServer(status=401) as server:
        run = make_run(server.url, endpoint={"base_url": server.url, "model": "m", "api_key_env": "MY_KEY"})
        with pytest.raises(ServiceError, match="the key in the environment variable MY_KEY"):
            _generate(run)
        assert server.calls == 1
    assert not run.path("prompts.parquet").exists()
    assert not run.path("manifests/generate.json").exists()
    assert run.path("responses.jsonl").read_bytes() == b""


def test_a_missing_key_needs_no_call(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    with OpenAIServer() as server:
        run = make_run(server.url, endpoint={"base_url": server.url, "model": "m", "api_key_env": "MY_KEY"})
        with pytest.raises(InputError, match="MY_KEY is not set"):
            _generate(run)
        assert server.calls == 0


def test_the_key_is_in_no_file(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with OpenAIServer(answer=lambda payload: f"{written(payload)} {KEY}") as server:
        run = make_run(server.url, endpoint={"base_url": server.url, "model": "m", "api_key_env": "MY_KEY"})
        _generate(run)
        assert set(server.authorizations) == {f"Bearer {KEY}"}
    files = [path for path in run.folder.rglob("*") if path.is_file()]
    assert len(files) > 6
    assert not any(KEY.encode() in path.read_bytes() for path in files)


def test_when_all_is_in_the_journal_no_key_and_no_server_are_needed(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with OpenAIServer() as server:
        endpoint = {"base_url": server.url, "model": "m", "api_key_env": "MY_KEY"}
        run = make_run(server.url, endpoint=endpoint)
        _generate(run)
    monkeypatch.delenv("MY_KEY")
    assert _generate(run, force=True).counts_out["accepted"] == 24


def test_a_torn_last_line_is_cut_off_and_asked_again(make_run: MakeRun) -> None:
    with OpenAIServer() as server:
        run = make_run(server.url, waves=1)
        _generate(run)
        before = _content(run)
        data = run.path("responses.jsonl").read_bytes()
        run.path("responses.jsonl").write_bytes(data[:-40])
        manifest = _generate(run)
        assert server.calls == 25
    assert manifest.facts["torn bytes cut from the journal"] > 0
    assert _content(run) == before


@pytest.mark.parametrize("line", [b"not json\n", b'{"key": "x"}\n', b"[]\n"])
def test_a_damaged_journal_names_its_line(make_run: MakeRun, line: bytes) -> None:
    with OpenAIServer() as server:
        run = make_run(server.url, records=12)
        _generate(run)
        data = run.path("responses.jsonl").read_bytes().splitlines(keepends=True)
        run.path("responses.jsonl").write_bytes(b"".join([*data[:2], line, *data[2:]]))
        with pytest.raises(ArtifactError, match=r"responses\.jsonl: line 3: "):
            _generate(run)
        assert server.calls == 12


def test_own_templates_are_an_input(make_run: MakeRun) -> None:
    with OpenAIServer() as server:
        run = make_run(server.url, records=12, templates="prompts")
        folder = run.path("prompts")
        folder.mkdir()
        (folder / "system.j2").write_text("Write.", encoding="utf-8")
        (folder / "user.j2").write_text("About {{ labels | map(attribute='id') | join(',') }}.", encoding="utf-8")
        first = _generate(run)
        assert "prompts" in first.inputs
        (folder / "user.j2").write_text("On {{ labels | map(attribute='id') | join(',') }}.", encoding="utf-8")
        again = run_stage(GENERATE, run)
        assert (again.status, again.why) == ("ran", "prompts changed")
        assert again.manifest.facts["templates_sha256"] != first.facts["templates_sha256"]


def test_a_disk_that_refuses_an_answer_ends_the_stage(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    real, count = os.fsync, [0]

    def full(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().name == "responses.jsonl":
            count[0] += 1
            if count[0] == 5:
                raise OSError(28, "No space left on device")
        real(descriptor)

    with OpenAIServer(latency=0.02) as server:
        run = make_run(server.url, concurrency=1)
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(InputError, match=r"responses\.jsonl: cannot write: No space left"):
            _generate(run)
        monkeypatch.undo()
        kept = len(_journal(run))
        lost = server.calls - kept
        assert kept >= 4
        assert 1 <= lost <= 2  # what that fsync was for, and the call that was made meanwhile
        assert _generate(run).counts_out["accepted"] == 24
        assert server.calls == 24 + lost


def test_an_unreachable_folder_of_templates(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("http://127.0.0.1:9/v1", templates="nowhere")
    with pytest.raises(InputError, match="template folder not found"):
        _generate(run)

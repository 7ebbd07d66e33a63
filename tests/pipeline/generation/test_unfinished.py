"""Generation that did not finish says what is left, ends in exit code 1, and the next call gets what is missing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from marginalia.pipeline.core.run import Run, open_run
from marginalia.pipeline.core.run_overview import overview
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.generation.generate_stage import STAGE as GENERATE
from marginalia.pipeline.generation.plan_stage import STAGE as PLAN
from marginalia.schemas.errors import ServiceError
from marginalia.schemas.retries import RetryPolicy
from tests.openai_server import OpenAIServer, request_hash, written
from tests.pipeline.generation.conftest import MakeRun
from tests.pipeline.test_cli import marginalia

Payload = dict[str, Any]
REFUSAL = "I'm sorry, but I can't help with that request."
_TIMES = {"created_at"}


def error(status: int, *headers: str) -> bytes:
    lines = "".join(f"{line}\r\n" for line in (*headers, "Content-Length: 7", "Connection: close"))
    return f"HTTP/1.1 {status} X\r\n{lines}\r\ntrouble".encode()


def answer(text: str) -> bytes:
    choice = {"index": 0, "message": {"content": text}, "finish_reason": "stop"}
    body = json.dumps({"choices": [choice], "model": "test-model"}).encode()
    return b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body


class Outage(OpenAIServer):
    """Answers `first` times, then with `raw` alone, until `over` is set."""

    def __init__(self, first: int, raw: bytes, **settings: Any) -> None:
        super().__init__(raw=lambda _: raw if self.answered >= first and not self.over else None, **settings)
        self.over = False


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marginalia.pipeline.generation.endpoint.llm_endpoint.POLICY", RetryPolicy(first_backoff=0.001))


def _records(run: Run) -> pl.DataFrame:
    return pl.read_parquet(run.path("prompts.parquet")).drop(_TIMES)


def _state(run: Run) -> tuple[str, str | None]:
    found = overview(open_run(run.folder))
    return next(one.state for one in found.stages if one.stage == "generate"), found.next


def test_an_outage_ends_incomplete_and_the_next_call_gets_the_rest(make_run: MakeRun) -> None:
    with OpenAIServer() as calm:
        whole = make_run(calm.url, name="whole", records=20, waves=1)
        run_stage(PLAN, whole)
        run_stage(GENERATE, whole)
    with Outage(3, error(503)) as server:
        run = make_run(server.url, records=20, waves=1, retries=0, concurrency=4)
        run_stage(PLAN, run)
        done = marginalia("generate", "--run", str(run.folder))
        assert done.returncode == 1
        assert done.stdout.startswith("generate: 3 accepted, 17 open, ")
        assert done.stderr.startswith(
            "incomplete: 17 of 20 planned texts got no answer from the endpoint; last error: "
        )
        assert "status 503: trouble" in done.stderr
        assert done.stderr.endswith(f"  to continue: marginalia generate --run {run.folder}\n")
        assert server.calls <= 3 + 10 + 2 * 4  # of 3 + 4 * 17: it is left alone once it is plain that it is down
        assert _state(run) == ("incomplete", f"marginalia generate --run {run.folder}")
        assert json.loads(run.path("manifests/generate.json").read_bytes())["facts"]["stopped early by"] == "outage"
        server.over = True
        again = marginalia("generate", "--run", str(run.folder))
        assert (again.returncode, again.stderr) == (0, f"next: marginalia push --run {run.folder}\n")
        assert again.stdout.startswith("generate: 20 accepted, 0 open, 0 rejected attempts (")
        assert "retries what was missing" in again.stdout
    assert _records(run).equals(_records(whole))
    assert len(run.path("responses.jsonl").read_bytes().splitlines()) == 20
    assert _state(run) == ("up to date", f"marginalia push --run {run.folder}")
    assert run_stage(GENERATE, run).status == "up to date"


def test_a_server_that_is_down_for_a_day_uses_up_no_slot(make_run: MakeRun) -> None:
    with Outage(3, error(429, "Retry-After: 86400")) as server:
        run = make_run(server.url, records=20, waves=1, concurrency=4)
        run_stage(PLAN, run)
        manifest = run_stage(GENERATE, run).manifest
        assert server.calls <= 3 + 2 * 4
        assert manifest.counts_out["accepted"] == 3
        assert pl.read_parquet(run.path("rejected.parquet")).height <= 2 * 4  # calls that were made
        (missing,) = manifest.missing
        assert (missing.retry, missing.blocks) == (True, True)
        assert "it wants no call in the next 24.0 hours" in missing.what
        server.over = True
        done = run_stage(GENERATE, run)
    assert (done.status, done.manifest.counts_out["accepted"], done.manifest.missing) == ("ran", 20, [])


def test_a_server_that_is_down_from_the_start_leaves_what_there_was(make_run: MakeRun) -> None:
    with OpenAIServer() as server:
        run = make_run(server.url, records=6)
        run_stage(PLAN, run)
        run_stage(GENERATE, run)
    before = _records(run)
    with Outage(0, error(429, "Retry-After: Fri, 31 Dec 2100 23:59:59 GMT")) as server:
        changed = make_run(server.url, records=6, temperature=0.1)
        with pytest.raises(
            ServiceError,
            match=r"429: trouble; it wants no call in the next [\d,]+\.\d hours .*run the same command again",
        ):
            run_stage(GENERATE, changed)
        assert server.calls == 1
    assert _records(run).equals(before)
    assert _state(changed)[0] == "stale"


def _once(fails: Callable[[Payload], bool]) -> tuple[Callable[[Payload], bytes | None], Counter[str]]:
    seen: Counter[str] = Counter()

    def raw(payload: Payload) -> bytes | None:
        seen[request_hash(payload)] += 1
        return error(500) if fails(payload) and seen[request_hash(payload)] == 1 else None

    return raw, seen


def test_a_text_that_a_later_attempt_gave_stays_when_the_stage_runs_again(make_run: MakeRun) -> None:
    """The first attempts of some slots fail once: those are not asked anew to take the place of accepted texts."""
    raw, _ = _once(lambda payload: int(request_hash(payload), 16) % 3 == 0)
    with OpenAIServer(raw=raw) as server:
        run = make_run(server.url, records=20, waves=1, retries=0)
        run_stage(PLAN, run)
        first = run_stage(GENERATE, run).manifest
        assert first.counts_out["rejected: failed"] > 2
        assert (first.counts_out["accepted"], first.missing) == (20, [])
        before, calls = _records(run), server.calls
        again = run_stage(GENERATE, run, force=True).manifest
        assert server.calls == calls
    assert again.facts["read from the journal"] == 20
    assert _records(run).equals(before)


def test_an_attempt_without_an_answer_is_asked_again_when_the_others_were_rejected(make_run: MakeRun) -> None:
    """The first attempts fail, the second and third are refused; then the first ones are asked again."""
    over = False

    def raw(payload: Payload) -> bytes | None:
        return None if over else error(500) if server.calls <= 6 else answer(REFUSAL)

    with OpenAIServer(raw=raw) as server:
        run = make_run(server.url, records=6, waves=1, retries=0, max_attempts=3, concurrency=1)
        run_stage(PLAN, run)
        manifest = run_stage(GENERATE, run).manifest
        assert manifest.counts_out["rejected: refused"] == 12
        assert [one.what.split(":")[0] for one in manifest.missing] == [
            "6 of 6 planned texts got no answer from the endpoint; last error"
        ]
        over = True
        manifest = run_stage(GENERATE, run).manifest
        assert server.calls == 18 + 6
    assert (manifest.counts_out["accepted"], manifest.missing) == (6, [])
    assert len(pl.read_parquet(run.path("rejected.parquet")).unique(["slot_id", "attempt"])) == 12


def test_slots_whose_attempts_are_used_up_are_missing_but_not_tried_in_vain(make_run: MakeRun) -> None:
    with OpenAIServer(answer=lambda _: REFUSAL) as server:
        run = make_run(server.url, records=6, max_attempts=2)
        run_stage(PLAN, run)
        for summary in ("generate: 0 accepted, 6 open", "generate: up to date (0 accepted, 6 open"):
            done = marginalia("generate", "--run", str(run.folder))
            assert done.returncode == 1
            assert done.stdout.startswith(summary)
            assert "incomplete: 6 of 6 planned texts had every attempt rejected, most often as refused: " in done.stderr
            assert "generate.max_attempts, then: marginalia generate --run " in done.stderr
        assert server.calls == 12
        assert _state(run) == ("up to date", f"marginalia push --run {run.folder}")
        run_stage(GENERATE, make_run(server.url, records=6, max_attempts=3))
        assert server.calls == 18


def test_a_budget_that_is_used_up_is_incomplete_and_asks_nothing_again(make_run: MakeRun) -> None:
    prices = {"prompt": 0.0, "completion": 1_000_000.0}
    with OpenAIServer(usage=None) as server:
        run = make_run(server.url, records=20, max_tokens=100, prices=prices, budget=500, concurrency=1)
        run_stage(PLAN, run)
        for _ in range(2):
            done = marginalia("generate", "--run", str(run.folder))
            assert (done.returncode, server.calls) == (1, 5)
            assert "15 of 20 planned texts were not requested: generate.budget 500 USD is used up" in done.stderr
        state, following = _state(run)
        because = overview(open_run(run.folder)).because
    assert (state, following) == ("incomplete", f"marginalia generate --run {run.folder}")
    assert because is not None and "raise generate.budget" in because


def test_preview_says_what_is_missing(make_run: MakeRun) -> None:
    with Outage(2, error(503)) as server:
        run = make_run(server.url, retries=0)
        done = marginalia("preview", "--run", str(run.folder))
        assert done.returncode == 1
        assert "incomplete: 3 of 5 planned texts got no answer from the endpoint" in done.stderr
        assert f"to continue: marginalia preview --run {run.folder}" in done.stderr
        server.over = True
        assert marginalia("preview", "--run", str(run.folder)).returncode == 0


def test_a_blind_check_without_answers_is_tried_again(make_run: MakeRun) -> None:
    labels = '<think>Let me see.</think>{"labels": []}'
    with OpenAIServer() as writer, Outage(2, error(503), answer=lambda _: labels) as checker:
        check = {"enabled": True, "planted": 2, "endpoint": {"base_url": checker.url, "model": "checker"}}
        run = make_run(writer.url, records=6, retries=0, check=check, concurrency=2)
        run_stage(PLAN, run)
        manifest = run_stage(GENERATE, run).manifest
        assert (manifest.counts_out["checked"], manifest.counts_out["check failed"]) == (2, 4)
        (missing,) = manifest.missing
        assert missing.what.startswith(
            "6 of 8 questions of the blind check got no answer; last error: status 503: trouble"
        )
        checker.over = True
        manifest = run_stage(GENERATE, run).manifest
        assert writer.calls == 6
    assert (manifest.counts_out["checked"], manifest.missing) == (6, [])
    assert "check failed" not in manifest.counts_out


def test_several_endpoints_are_not_given_up_for_one(make_run: MakeRun) -> None:
    with OpenAIServer() as good, Outage(0, error(429, "Retry-After: 86400")) as closed:
        run = make_run(good.url, endpoint={"base_url": [closed.url, good.url], "model": "test-model"}, records=12)
        run_stage(PLAN, run)
        manifest = run_stage(GENERATE, run).manifest
        assert closed.calls == 1
    assert (manifest.counts_out["accepted"], manifest.missing) == (12, [])


def test_the_text_of_a_slot_is_what_its_request_was_answered(make_run: MakeRun) -> None:
    """After an outage, with prompts that show earlier texts, each record is the answer to a journalled request."""
    with Outage(7, error(503)) as server:
        run = make_run(server.url, records=24, waves=4, retries=0)
        run_stage(PLAN, run)
        run_stage(GENERATE, run)
        server.over = True
        assert run_stage(GENERATE, run).manifest.counts_out["accepted"] == 24
    entries = [json.loads(line) for line in run.path("responses.jsonl").read_bytes().splitlines()]
    answered = {entry["slot_id"]: written(entry["request"]) for entry in entries}
    records = _records(run)
    assert {slot: messages[0]["content"] for slot, messages in records.select("slot_id", "messages").iter_rows()} == (
        answered
    )

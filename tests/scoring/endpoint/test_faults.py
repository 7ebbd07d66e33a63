"""Servers that fail in passing, fail for one record, die; runs that are killed and go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marginalia.schemas.errors import ServiceError
from marginalia.schemas.retries import RetryPolicy
from marginalia.schemas.storage.files import frame_hash
from marginalia.scoring.score_files import score_to_journal, scorer_fingerprint, tables
from marginalia.scoring.scorer import Settings
from tests.logprob_server import FAULTS
from tests.scoring import tiny
from tests.scoring.endpoint.served import KEY, RECORDS, by_id

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5])
def test_faults_change_no_number(remote: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rate: float) -> None:
    """A record either has the numbers of a calm server or says why it has none; the same command then goes on."""
    monkeypatch.setattr("marginalia.scoring.models.endpoint_calls.POLICY", RetryPolicy(first_backoff=0.001))
    settings = Settings(tolerance=0.05)
    _, calm = remote(settings, {"asked_ids": True})
    faults = {**dict.fromkeys(FAULTS, rate / (len(FAULTS) - 1)), "hang": 0.01}
    server, troubled = remote(settings, {"asked_ids": True}, timeout_seconds=0.5, retries=3)
    server.faults = faults
    wanted, journal = by_id(calm.score_records(RECORDS)), tmp_path / "journal.jsonl"
    ids, estimators = [record_id for record_id, _ in RECORDS], troubled.settings.estimators
    for _ in range(10):
        assert sorted(score_to_journal(troubled, RECORDS, journal)) == sorted(ids)
        scores, table = tables(journal, ids, estimators)
        assert set(scores["record_id"]) == set(table.filter(table["error"].is_null())["record_id"])
        for (record_id, name), found in scores.group_by(["record_id", "estimator"], maintain_order=True):
            numbers = wanted[str(record_id)].estimates[str(name)].probability
            assert np.array_equal(found["probability"].to_numpy(), numbers)
        if table["error"].null_count() == len(ids):
            break
    assert table["error"].null_count() == len(ids)
    assert len(server.requests) > len({json.dumps(body) for body in server.requests})


def test_a_record_whose_calls_keep_failing_gets_an_error_and_no_number(remote: Any, tmp_path: Path) -> None:
    rare = tiny.tokenizer()("x", add_special_tokens=False)["input_ids"][0]
    records = [record for record in RECORDS if record[0] in ("r0", "r1", "r3")]
    server, scorer = remote(Settings(tolerance=0.1), {"asked_ids": True}, retries=1)
    server.poison = rare
    journal = tmp_path / "journal.jsonl"
    assert sorted(score_to_journal(scorer, records, journal)) == ["r0", "r1", "r3"]
    scores, table = tables(journal, ["r0", "r1", "r3"], scorer.settings.estimators)
    error = dict(zip(table["record_id"], table["error"], strict=True))
    assert error["r0"] is error["r1"] is None
    assert error["r3"] == f"{server.url}: status 500: upstream trouble (2 calls)"
    assert set(scores["record_id"]) == {"r0", "r1"}

    server.poison = None
    before = len(server.requests)
    assert sorted(score_to_journal(scorer, records, journal)) == ["r0", "r1", "r3"]
    texts = {json.dumps(body["prompt"]) for body in server.requests[before:]}
    assert all(str(rare) in text for text in texts)  # only what had failed is asked again
    assert tables(journal, ["r0", "r1", "r3"], scorer.settings.estimators)[1]["error"].null_count() == 3


def test_a_server_that_dies_ends_the_run_and_loses_nothing(remote: Any, tmp_path: Path) -> None:
    settings = Settings(tolerance=0.1, batch_records=2)
    server, scorer = remote(settings, {"asked_ids": True}, retries=0, concurrency=2)
    records = [(f"r{n}", [{"role": "user", "content": f"text {n}"}]) for n in range(24)]
    journal, done = tmp_path / "journal.jsonl", []
    with pytest.raises(
        ServiceError, match=r"no answer for 1\d records in a row; the last: .*run the same command to continue"
    ):
        for record_id in score_to_journal(scorer, records, journal):
            done.append(record_id)
            if len(done) == 4:
                server.faults = {"reset": 1.0}
    server.faults = {}
    assert sorted(score_to_journal(scorer, records, journal)) == sorted(record_id for record_id, _ in records)
    assert (
        tables(journal, [record_id for record_id, _ in records], scorer.settings.estimators)[1]["error"].null_count()
        == 24
    )


def test_replicas_share_a_journal(remote: Any) -> None:
    settings = Settings(tolerance=0.1)
    _, one = remote(settings, {})
    _, other = remote(settings, {})
    _, fewer = remote(settings, {}, top_logprobs=5)
    assert scorer_fingerprint(one) == scorer_fingerprint(other) != scorer_fingerprint(fewer)


def test_a_killed_job_goes_on_at_another_replica(folder: Path, network: Any, remote: Any, tmp_path: Path) -> None:
    """The child is killed after its first batches; the same records end in the same tables, and no key is on disk."""
    settings = Settings(tolerance=0.05, batch_records=1)
    server = {"asked_ids": True, "key": KEY, "latency": 0.02}
    os.environ["TEST_KEY"] = KEY
    started, scorer = remote(settings, server, api_key_env="TEST_KEY", concurrency=1)
    records = [(f"r{n}", [{"role": "user", "content": f"text {n}"}]) for n in range(12)]
    rows = [{"id": record_id, "messages": messages} for record_id, messages in records]
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [
        *(sys.executable, "-m", "scoring", str(tmp_path / "records.jsonl"), "--model", started.url),
        *("--guard", str(folder / "guard.yaml"), "--out", str(tmp_path / "out.parquet"), "--tolerance", "0.05"),
        *("--tokenizer", str(folder / "model"), "--api-key-env", "TEST_KEY", "--concurrency", "1"),
        *("--batch-records", "1"),
    ]
    child = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    journal = tmp_path / "out.journal.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and child.poll() is None and not (journal.exists() and journal.stat().st_size):
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    _, said = child.communicate()
    held = {json.loads(line)["id"] for line in journal.read_bytes().split(b"\n")[:-1]}
    assert 0 < len(held) < 12, said

    replica, again = remote(settings, server, api_key_env="TEST_KEY")
    assert sorted(score_to_journal(again, records, journal)) == sorted(record_id for record_id, _ in records)
    whole = tmp_path / "whole.jsonl"
    list(score_to_journal(scorer, records, whole))
    ids = [record_id for record_id, _ in records]
    for resumed, uninterrupted in zip(
        tables(journal, ids, again.settings.estimators), tables(whole, ids, scorer.settings.estimators), strict=True
    ):
        without = [name for name in ("seconds",) if name in resumed.columns]
        assert frame_hash(resumed, without=without) == frame_hash(uninterrupted, without=without)
    asked = {json.dumps(body["prompt"]) for body in replica.requests}
    for record_id, messages in records:
        prompt = again.prompts.build(messages).ids
        assert (json.dumps(prompt) in asked) == (record_id not in held)
    for path in tmp_path.iterdir():
        assert KEY.encode() not in path.read_bytes()
    assert KEY not in said

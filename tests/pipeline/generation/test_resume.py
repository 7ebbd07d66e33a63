"""kill -9 and Ctrl-C in the middle of generate, with a real child process."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from pipeline.run import Run
from pipeline.stage import run_stage
from pipeline.stages.generate import STAGE as GENERATE
from pipeline.stages.plan import STAGE as PLAN
from schemas.files import frame_hash
from tests.openai_server import OpenAIServer, request_hash
from tests.pipeline.generation.conftest import MakeRun

ROOT = Path(__file__).parents[3]
CONCURRENCY = 5
CHILD = """
import sys
from pathlib import Path
from pipeline.run import open_run
from pipeline.stage import run_stage
from pipeline.stages.generate import STAGE
run_stage(STAGE, open_run(Path(sys.argv[1])))
"""


def _start(run: Run) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(run.folder)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def _wait_for_answers(server: OpenAIServer, count: int, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while server.answered < count and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)


def _content(run: Run) -> tuple[str, str]:
    return (
        frame_hash(pl.read_parquet(run.path("prompts.parquet")), without=["created_at"]),
        frame_hash(pl.read_parquet(run.path("rejected.parquet"))),
    )


def _keys(run: Run) -> list[str]:
    return [json.loads(line)["key"] for line in run.path("responses.jsonl").read_bytes().split(b"\n") if line]


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_random_and_resumed_equals_uninterrupted(make_run: MakeRun, seed: int) -> None:
    settings = {"records": 40, "waves": 2, "concurrency": CONCURRENCY}
    with OpenAIServer(latency=lambda payload: int(request_hash(payload), 16) % 20 / 1000) as server:
        whole = make_run(server.url, name="whole", **settings)
        run_stage(PLAN, whole)
        run_stage(GENERATE, whole)
        calls = server.calls
        server.requests.clear()
        run = make_run(server.url, name="killed", **settings)
        run_stage(PLAN, run)
        draw = random.Random(seed)
        for kill in (1, 2):
            before = server.answered
            child = _start(run)
            _wait_for_answers(server, before + draw.randint(1, 14), child)
            time.sleep(draw.random() * 0.01)
            child.send_signal(signal.SIGKILL)
            child.communicate()
            assert child.returncode == -signal.SIGKILL, kill
        run_stage(GENERATE, run)
        repeated = sum(count - 1 for count in Counter(map(request_hash, server.requests)).values())
        assert repeated <= 2 * CONCURRENCY
        assert server.calls - repeated == calls
    assert _content(run) == _content(whole)
    assert len(_keys(run)) == len(set(_keys(run)))


def test_ctrl_c_keeps_what_was_answered_and_ends_at_once(make_run: MakeRun) -> None:
    with OpenAIServer(latency=0.05) as server:
        run = make_run(server.url, records=60, concurrency=CONCURRENCY)
        run_stage(PLAN, run)
        child = _start(run)
        _wait_for_answers(server, 12, child)
        started = time.monotonic()
        os.kill(child.pid, signal.SIGINT)
        output, _ = child.communicate(timeout=10)
        assert time.monotonic() - started < 3
        assert b"KeyboardInterrupt" in output
        assert b"never awaited" not in output
        assert b"never retrieved" not in output
        answered = server.answered
        assert 0 < answered - CONCURRENCY <= len(_keys(run)) <= answered
        assert not run.path("prompts.parquet").exists()
        run_stage(GENERATE, run)
        assert server.calls <= 60 + 2 * CONCURRENCY
    assert pl.read_parquet(run.path("prompts.parquet")).height == 60

"""kill -9 and Ctrl-C in the middle of generate, with a real child process."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl

from pipeline.run import Run
from pipeline.stage import run_stage
from pipeline.stages.generate import STAGE as GENERATE
from pipeline.stages.plan import STAGE as PLAN
from schemas.files import frame_hash
from tests.openai_server import OpenAIServer, request_hash
from tests.pipeline.generation.conftest import MakeRun
from tests.pipeline.generation.stage_process import generate

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


def _wait_for_answers(server: OpenAIServer, count: int, alive: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while server.answered < count and alive() and time.monotonic() < deadline:
        time.sleep(0.002)


def _content(run: Run) -> tuple[str, str]:
    return (
        frame_hash(pl.read_parquet(run.path("prompts.parquet")), without=["created_at"]),
        frame_hash(pl.read_parquet(run.path("rejected.parquet"))),
    )


def _keys(run: Run) -> list[str]:
    """Of all whole lines of the journal."""
    path = run.path("responses.jsonl")
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [json.loads(line)["key"] for line in lines]


def test_25_kills_at_random_moments_change_nothing(make_run: MakeRun) -> None:
    """Each run is killed again and again until it ends; then it is what an uninterrupted run is."""
    settings = {"records": 40, "waves": 2, "concurrency": CONCURRENCY}
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["tests.pipeline.generation.stage_process"])
    draw, kills = random.Random(2026), 0
    with OpenAIServer(latency=lambda payload: 0.02 + int(request_hash(payload), 16) % 20 / 1000) as server:
        whole = make_run(server.url, name="whole", **settings)
        run_stage(PLAN, whole)
        run_stage(GENERATE, whole)
        calls = server.calls
        for number in range(25):
            server.requests.clear()
            run = make_run(server.url, name=f"killed-{number}", **settings)
            run_stage(PLAN, run)
            repeated = 0
            while not run.path("manifests/generate.json").exists():
                kept, asked = len(_keys(run)), server.calls
                child = processes.Process(target=generate, args=(str(run.folder),))
                child.start()
                if kills < 25:
                    _wait_for_answers(server, server.answered + draw.randint(1, 12), child.is_alive)
                    time.sleep(draw.random() * 0.02)
                    child.kill()
                child.join(30)
                killed = child.exitcode == -signal.SIGKILL
                assert killed or child.exitcode == 0
                kills += killed
                lost = server.calls - asked - (len(_keys(run)) - kept)
                assert 0 <= lost <= (CONCURRENCY if killed else 0)
                repeated += lost
            assert server.calls - repeated == calls
            assert _content(run) == _content(whole)
            assert len(_keys(run)) == len(set(_keys(run)))
            if kills == 25:
                break
    assert kills == 25


def test_ctrl_c_keeps_what_was_answered_and_ends_at_once(make_run: MakeRun) -> None:
    with OpenAIServer(latency=0.05) as server:
        run = make_run(server.url, records=60, concurrency=CONCURRENCY)
        run_stage(PLAN, run)
        child = _start(run)
        _wait_for_answers(server, 12, lambda: child.poll() is None)
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

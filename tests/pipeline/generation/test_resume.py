"""Ctrl-C in the middle of generate, with a real child process; kill -9 is tests/soak's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl

from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.generation.generate_stage import STAGE as GENERATE
from marginalia.pipeline.generation.plan_stage import STAGE as PLAN
from tests.openai_server import OpenAIServer
from tests.pipeline.generation.conftest import MakeRun

ROOT = Path(__file__).parents[3]
CONCURRENCY = 5
CHILD = """
import sys
from pathlib import Path
from marginalia.pipeline.core.run import open_run
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.generation.generate_stage import STAGE
run_stage(STAGE, open_run(Path(sys.argv[1])))
"""


def _start(run: Run) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(run.folder)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def _wait_for_answers(server: OpenAIServer, count: int, alive: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while server.answered < count and alive() and time.monotonic() < deadline:
        time.sleep(0.002)


def _keys(run: Run) -> list[str]:
    """Of all whole lines of the journal."""
    path = run.path("responses.jsonl")
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [json.loads(line)["key"] for line in lines]


def test_ctrl_c_keeps_what_was_answered_and_ends_at_once(make_run: MakeRun) -> None:
    with OpenAIServer(latency=0.05) as server:
        run = make_run(server.url, records=60, concurrency=CONCURRENCY)
        run_stage(PLAN, run)
        child = _start(run)
        _wait_for_answers(server, 12, lambda: child.poll() is None)
        os.kill(child.pid, signal.SIGINT)
        output, _ = child.communicate(timeout=60)
        assert b"KeyboardInterrupt" in output
        assert b"never awaited" not in output
        assert b"never retrieved" not in output
        answered = server.answered
        assert 0 < answered - CONCURRENCY <= len(_keys(run)) <= answered
        assert not run.path("prompts.parquet").exists()
        run_stage(GENERATE, run)
        assert server.calls <= 60 + 2 * CONCURRENCY
    assert pl.read_parquet(run.path("prompts.parquet")).height == 60

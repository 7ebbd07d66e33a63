"""Answers that are submitted, and signals that arrive, while pull runs; and two stages of one run at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from marginalia.annotation.client import push_records
from marginalia.schemas.errors import LockedError
from tests.annotation.runs import SimulatedRun
from tests.hostile.commands import heed_hangups
from tests.hostile.fake_argilla import FakeArgilla

TEXTS = {f"r{at}": f"text {at}" for at in range(6)}


def test_answers_that_are_submitted_meanwhile_are_neither_lost_nor_doubled(
    argilla: FakeArgilla, pushed: Callable[..., SimulatedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push_records, "PAGE_SIZE", 2)
    work = pushed(texts=TEXTS)
    argilla.answer("r0", "ann", labels=["a"])
    pages = 0

    def submit(method: str, path: str) -> None:
        nonlocal pages
        if path.endswith("/records") and pages < 3:
            pages += 1
            argilla.answer("r0", "ann", labels=["b"])  # an edit of an answer that the first page has
            argilla.answer(f"r{2 * pages - 1}", "ben", labels=["c"])  # one ahead of the page
            if pages > 1:
                argilla.answer(f"r{2 * pages - 3}", "carl", labels=["a"])  # one on a page that was read before

    argilla.before = submit
    work.stage("pull")
    argilla.before = lambda method, path: None
    assert pages == 3
    counts = work.stage("pull").manifest.counts_out
    on_server = {
        (record["external_id"], response["user_id"]): response["values"]["labels"]["value"]
        for record in argilla.records_of(0)
        for response in record["responses"]
    }
    names = {f"id-of-{name}": work.pseudonym(name) for name in ("ann", "ben")} | {
        "id-of-carl": work.pseudonym("id-of-carl")
    }
    pulled = {(row["record_id"], row["annotator"]): row["labels"] for row in work.annotations().iter_rows(named=True)}
    assert pulled == {(record, names[user]): labels for (record, user), labels in on_server.items()}
    assert (counts["answers"], counts["gone"]) == (len(on_server), 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_ends_pull_and_the_next_one_completes_it(
    argilla: FakeArgilla, pushed: Callable[..., SimulatedRun], number: signal.Signals
) -> None:
    work = pushed()
    argilla.answer("r1", "ann", labels=["a"])
    argilla.answer("r2", "ann", labels=["b"])
    waiting, released = threading.Event(), threading.Event()

    def wait(method: str, path: str) -> None:
        if path.endswith("/records"):
            waiting.set()
            released.wait(20)

    argilla.before = wait
    process = subprocess.Popen(
        [sys.executable, "-m", "marginalia", "pull", "--run", str(work.folder)],
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_hangups,
    )
    try:
        assert waiting.wait(30)
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
        released.set()
    assert process.returncode != 0
    assert "Traceback" not in errors
    argilla.before = lambda method, path: None
    assert work.stage("pull").manifest.counts_out["answers"] == 2
    assert len(work.journal()) == 2


def test_a_second_stage_of_the_same_run_is_refused(argilla: FakeArgilla, pushed: Callable[..., SimulatedRun]) -> None:
    work = pushed()
    refused: list[Any] = []

    def second(method: str, path: str) -> None:
        if path.endswith("/records") and not refused:
            for stage in ("pull", "push"):
                with pytest.raises(LockedError, match="is in use by process") as caught:
                    work.stage(stage)
                refused.append(caught.value.exit_code)

    argilla.answer("r1", "ann", labels=["a"])
    argilla.before = second
    assert work.stage("pull").manifest.counts_out["answers"] == 1
    assert refused == [4, 4]

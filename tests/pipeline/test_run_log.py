"""log.jsonl: what happened, without secrets, and never in the way of the work."""

from __future__ import annotations

import base64
import errno
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from marginalia.pipeline.core import run_log
from marginalia.pipeline.core.run import Run, open_run
from marginalia.pipeline.core.run_log import LOG, log_event, read_log
from marginalia.pipeline.core.stage_order import load_stage
from marginalia.pipeline.core.stage_runner import Stage, StageOutcome, run_stage
from marginalia.schemas.errors import ServiceError
from marginalia.schemas.storage.journal import Journal

CANARY = "sk-canary-0123456789abcdef"
CONFIG = (
    "taxonomy: support-tickets\nplan: {records: 12, min_per_label: 0}\ngenerate: {endpoint: {api_key_env: MY_LLM}}\n"
)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "config.yaml").write_text(CONFIG)
    return open_run(tmp_path)


def failing(run: Run, error: BaseException) -> None:
    def work(run: Run) -> StageOutcome:
        raise error

    stage = Stage("pull", lambda run: [], lambda run: [], (), work)
    with pytest.raises(type(error)):
        run_stage(stage, run)


def test_start_and_end_of_a_stage_are_logged(run: Run) -> None:
    for _ in range(2):
        run_stage(load_stage("plan"), run)
    started, finished, again = read_log(run.folder)
    assert (started["event"], started["why"], started["process"]) == ("started", "not run yet", os.getpid())
    assert (finished["event"], finished["counts"]["out"]["planned"]) == ("finished", 12)
    assert finished["seconds"] >= 0
    assert (again["stage"], again["event"]) == ("plan", "up to date")


def test_how_a_stage_broke_off(run: Run) -> None:
    failing(run, ServiceError("Argilla is away", hint="start it"))
    failing(run, ValueError("some text of a record"))
    failing(run, KeyboardInterrupt())
    ends = [{key: entry.get(key) for key in ("event", "error", "message")} for entry in read_log(run.folder)][1::2]
    assert ends == [
        {"event": "failed", "error": "ServiceError", "message": "Argilla is away (start it)"},
        {"event": "failed", "error": "ValueError", "message": "unexpected error"},
        {"event": "interrupted", "error": "KeyboardInterrupt", "message": None},
    ]


@pytest.mark.parametrize("variable", ["MY_LLM", "HF_TOKEN", "ARGILLA_API_KEY", "SOME_PASSWORD"])
def test_no_secret_gets_into_the_log(run: Run, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, CANARY)
    failing(run, ServiceError(f"the server said: bad key {CANARY}"))
    log_event(run, "score", "note", nested=[{"said": f"x{CANARY}y"}])
    assert CANARY not in (run.folder / LOG).read_text()
    assert [entry.get("nested") for entry in read_log(run.folder)][-1] == [{"said": "x[masked]y"}]


@pytest.mark.parametrize(
    "written",
    [
        str.upper,
        lambda key: "".join(f"&#{ord(letter)};" for letter in key),
        lambda key: base64.b64encode(f"Bearer {key}".encode()).decode(),
        lambda key: "".join(f"%{ord(letter):02X}" for letter in key),
    ],
    ids=["upper case", "entities", "base64", "percent"],
)
def test_no_secret_gets_into_the_log_in_another_notation(
    run: Run, monkeypatch: pytest.MonkeyPatch, written: Callable[[str], str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", CANARY)
    shown = written(CANARY)
    failing(run, ServiceError(f"the server said: bad key {shown}"))
    log_event(run, "score", "note", **{shown: [shown]})
    assert shown not in (run.folder / LOG).read_text()


def test_a_variable_that_is_not_text_does_not_end_the_log(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "\udcff" * 20)
    log_event(run, "plan", "note")
    assert [entry["event"] for entry in read_log(run.folder)] == ["note"]


def test_the_log_stays_small(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_log, "MOST_BYTES", 2000)
    for number in range(100):
        log_event(run, "plan", "note", number=number, long="x" * 5000 if number == 50 else "")
    sizes = [path.stat().st_size for path in run.folder.glob("log*.jsonl")]
    assert len(sizes) == 2 and max(sizes) < 5000
    numbers = [entry["number"] for entry in read_log(run.folder)]
    assert numbers == list(range(numbers[0], 100)) and len(numbers) > 10


def test_a_log_that_cannot_be_written_gives_one_warning_and_breaks_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (run.folder / LOG).mkdir()
    assert run_stage(load_stage("plan"), run).status == "ran"
    run_stage(load_stage("plan"), run)
    warning = capsys.readouterr().err
    assert warning == f"warning: {run.folder / LOG}: cannot write: Is a directory; continuing without a log\n"


def test_a_full_disk_costs_the_log_only(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write

    def full(descriptor: int, data: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    log_event(run, "plan", "started")
    monkeypatch.setattr(os, "write", real)
    assert list(read_log(run.folder)) == []


def test_strange_lines_are_passed_over(run: Run) -> None:
    (run.folder / LOG).write_bytes(b'\xff\n[1]\n{"time": 1}\n{"torn')
    log_event(run, "plan", "note")
    assert [entry["event"] for entry in read_log(run.folder)] == []  # the torn line swallowed it
    log_event(run, "plan", "note")
    assert [entry["event"] for entry in read_log(run.folder)] == ["note"]
    assert json.loads((run.folder / LOG).read_bytes().split(b"\n")[-2])["stage"] == "plan"


def test_a_full_disk_that_also_has_standard_error_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "config.yaml").write_text("taxonomy: support-tickets\n")
    (tmp_path / "log.jsonl").mkdir()  # cannot be opened
    (tmp_path / "journal.jsonl").write_bytes(b'{"torn')
    monkeypatch.setattr(sys, "stderr", Full())
    log_event(open_run(tmp_path), "plan", "started")
    with Journal(tmp_path / "journal.jsonl") as journal:
        assert journal.torn_bytes == 6

"""An error that nobody expected has its own exit code, 70, and one line: that it is our fault, where its traceback is,
and where to report it. The log of a run has no texts of such errors, because they may contain data."""

from __future__ import annotations

import errno
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from marginalia.pipeline.annotating import simulated_annotators
from marginalia.pipeline.commands import cli
from marginalia.pipeline.core.run_log import read_log
from marginalia.schemas.exit_codes import run_command
from marginalia.schemas.unexpected_errors import WorkerFault
from marginalia.scoring import command
from marginalia.scoring.config import RayOptions
from marginalia.scoring.engines.ray_actor import INPUT, ScoringActor
from marginalia.scoring.engines.ray_data import RayJob
from marginalia.scoring.score_request import ScoreRequest
from tests.hostile.commands import ROOT

KEY = "sk-canary-0123456789abcdef"
OUR_FAULT = "(this is a bug in Marginalia; please report it on the project's page; its traceback is in "


def fault(*arguments: Any, **named: Any) -> Any:
    raise TypeError(f"the text of a record, and {KEY}")


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    (tmp_path / "config.yaml").write_text("taxonomy: support-tickets\nplan: {records: 12, min_per_label: 0}\n")


def check_message(printed: str) -> Path:
    """Checks the one line, and gives the file that it names."""
    start = "error: unexpected TypeError: the text of a record, and [masked] "
    assert printed.startswith(start + OUR_FAULT) and printed.endswith(")\n") and printed.count("\n") == 1, printed
    return Path(printed.partition(OUR_FAULT)[2].removesuffix(")\n"))


def check_file(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("Traceback") and "in fault" in text and "the text of a record" in text
    assert KEY not in text and path.stat().st_mode & 0o077 == 0


def test_a_stage_keeps_the_traceback_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marginalia.pipeline.core.artifacts.write_frame", fault)
    done = CliRunner().invoke(cli.app, ["plan", "--run", str(tmp_path)])
    assert done.exit_code == 70
    assert check_message(done.stderr) == tmp_path / "log.jsonl"
    last = list(read_log(tmp_path))[-1]
    assert (last["event"], last["error"], last["message"]) == ("failed", "TypeError", "unexpected error")
    assert re.fullmatch(r".*/test_unexpected_errors\.py:\d+ in fault", last["traceback"][-2])
    assert last["traceback"][-1] == "TypeError" and "record" not in "".join(last["traceback"])


def test_a_command_that_writes_nothing_keeps_it_in_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("marginalia.pipeline.core.run_overview.overview", fault)
    done = CliRunner().invoke(cli.app, ["status", "--run", str(tmp_path)])
    assert done.exit_code == 70
    check_file(check_message(done.stderr))
    assert not (tmp_path / "log.jsonl").exists()


ENTRY_POINTS: dict[str, tuple[str, str, Callable[[], Any]]] = {
    "marginalia": ("marginalia.pipeline.commands.cli.app", "", cli.main),
    "demo": ("marginalia.pipeline.demo.run_demo.run_demo", "demo", cli.main),
    "score": ("marginalia.scoring.command.run", "r.jsonl --model m --guard instruct --out o.parquet", command.main),
    "explain": ("marginalia.scoring.command.explain", "explain r.jsonl --model m --guard instruct", command.main),
    "merge": ("marginalia.schemas.input_records.read_records_to_score", "merge r.jsonl --out o.parquet", command.main),
    "simulated annotators": (
        "marginalia.pipeline.annotating.simulated_annotators.open_run",
        "--run runs/x",
        simulated_annotators.main,
    ),
}


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_every_entry_point(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    broken, words, main = ENTRY_POINTS[name]
    monkeypatch.setattr(broken, fault)
    monkeypatch.setattr(sys, "argv", ["command", *words.split()])
    try:
        code = main()
    except SystemExit as ended:
        code = ended.code
    assert code == 70
    check_file(check_message(capsys.readouterr().err))


def test_polars_panics(capsys: pytest.CaptureFixture[str]) -> None:
    """Its PanicException is not an Exception."""

    def panic() -> None:
        raise pl.exceptions.PanicException("index out of bounds")

    assert run_command(panic) == 70
    assert "unexpected PanicException: index out of bounds" in capsys.readouterr().err


def test_a_temporary_folder_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    assert run_command(fault) == 70
    printed = capsys.readouterr().err
    assert printed.startswith("Traceback") and printed.endswith("its traceback is above)\n") and KEY not in printed


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "not enough memory (end other programs, or use a machine with more memory)"),
        (OSError(errno.ENOSPC, "x"), "no space left on the device that the output goes to (free some space)"),
    ],
)
def test_what_the_machine_lacks_is_not_our_fault(
    error: Exception, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        raise error

    assert run_command(command) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def test_a_reader_that_ends_early_gets_no_message() -> None:
    """As in `marginalia config --explain | head -1`."""
    command = [sys.executable, "-m", "marginalia", "config", "--explain"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (141, b"")


def test_a_ray_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error reaches the user as one of this process, with the place in the worker."""
    monkeypatch.setattr(ScoringActor, "_rows", fault)
    request = ScoreRequest(model="m", guard="instruct", taxonomy="support-tickets", folder=tmp_path)
    block = ScoringActor(request, str(tmp_path))(pa.Table.from_pylist([], schema=INPUT))
    job = RayJob(request, [], tmp_path / "journal.jsonl", RayOptions())
    with pytest.raises(WorkerFault, match=r"TypeError: the text of a record, and .* \[on the Ray node") as caught:
        job._read(block.to_pylist())
    assert re.fullmatch(r".*/test_unexpected_errors\.py:\d+ in fault", caught.value.frames[-2])

"""A named pipe or a device never ends. Where a file is expected, each is refused at once, and no lock stays held."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from marginalia.schemas.errors import InputError
from marginalia.schemas.input_records import read_records
from marginalia.schemas.storage.files import read_frame, read_json, sha256
from marginalia.schemas.storage.journal import Journal, read_journal
from marginalia.schemas.storage.run_lock import run_lock
from marginalia.schemas.storage.yaml_files import load_yaml
from marginalia.schemas.tables import GoldRecord
from marginalia.scoring.guard_file import GuardFile

CONFIG = "taxonomy: support-tickets\nplan: {records: 12, min_per_label: 0}\n"
SECONDS = 60  # of a command: a process that hangs fails the test


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text(CONFIG)
    return tmp_path


def pipe(path: Path) -> Path:
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)
    return path


def zeros(path: Path) -> Path:
    path.symlink_to("/dev/zero")
    return path


def command(*arguments: str | Path, module: str = "marginalia") -> str:
    """Runs a command that must refuse its input; returns its standard error."""
    words = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 2, done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("gold.parquet", "evaluate"),
        ("config.yaml", "status"),
        ("taxonomy.yaml", "plan"),
        ("responses.jsonl", "generate"),
        ("manifests/plan.json", "report"),
    ],
)
def test_a_named_pipe_in_a_run_is_refused(run: Path, name: str, stage: str) -> None:
    if name == "taxonomy.yaml":
        (run / "config.yaml").write_text(CONFIG.replace("support-tickets", "taxonomy.yaml"))
    pipe(run / name)
    error = command(stage, "--run", run)
    assert f"{run / name}: is a named pipe, expected a regular file (replace it by a file, or delete it)" in error
    if name != "config.yaml":
        with run_lock(run, "test"):
            pass


def test_a_log_that_is_a_named_pipe_does_not_stop_a_stage(run: Path) -> None:
    pipe(run / "log.jsonl")
    words = [sys.executable, "-m", "marginalia", "plan", "--run", str(run)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=True)
    assert "log.jsonl: is a named pipe" in done.stderr
    assert (run / "plan.parquet").exists()


@pytest.mark.parametrize("make", [pipe, zeros])
def test_each_way_to_read_a_file_refuses_what_never_ends(tmp_path: Path, make: object) -> None:
    assert callable(make)
    for name, read in {
        "gold.parquet": lambda path: read_frame(path, GoldRecord, made_by="marginalia import"),
        "input.parquet": read_records,
        "input.jsonl": read_records,
        "input.json": read_records,
        "input.csv": read_records,
        "input.csv.gz": read_records,
        "guard.yaml": lambda path: load_yaml(path, GuardFile),
        "agreement.json": read_json,
        "hashed": sha256,
        "journal.jsonl": lambda path: list(read_journal(path)),
        "opened.jsonl": Journal,
    }.items():
        path = make(tmp_path / name)
        with pytest.raises(InputError, match=rf"{name}: is a (named pipe|device|symbolic link), expected a regular"):
            read(path)  # type: ignore[operator]


def test_a_lock_that_is_a_named_pipe_is_refused(tmp_path: Path) -> None:
    pipe(tmp_path / ".lock")
    with pytest.raises(InputError, match=r"\.lock: is a named pipe"), run_lock(tmp_path, "test"):
        pass


def test_a_folder_with_a_named_pipe_is_not_hashed(tmp_path: Path) -> None:
    pipe(tmp_path / "release" / "README.md")
    with pytest.raises(InputError, match=r"README\.md: is a named pipe"):
        sha256(tmp_path / "release")


@pytest.mark.parametrize("name", ["records.jsonl", "records.parquet"])
def test_records_from_a_named_pipe_are_refused(tmp_path: Path, name: str) -> None:
    error = command(pipe(tmp_path / name), "--model", "bundled", "--guard", "instruct", "--taxonomy", "support-tickets",
                    "--out", tmp_path / "out.parquet", module="marginalia.scoring")  # fmt: skip
    assert f"{tmp_path / name}: is a named pipe" in error


def test_a_guard_file_that_is_a_named_pipe_is_refused(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_text('{"id": "r1", "text": "hello"}\n')
    guard = pipe(tmp_path / "guard.yaml")
    error = command(tmp_path / "records.jsonl", "--model", "bundled", "--guard", guard, "--out",
                    tmp_path / "out.parquet", module="marginalia.scoring")  # fmt: skip
    assert "guard.yaml" in error

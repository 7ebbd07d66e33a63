"""Folders that cannot be written to, files that cannot be read, and full disks: the whole messages."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bad_input.table import GOOD, Files, Row, check, jsonl, names, run_command, write
from tests.schemas.faults import fail_write

NOBODY = 65534
RUN: Files = {"runs/r/config.yaml": "taxonomy: support-tickets\n"}
ROWS: list[Row] = [
    (
        "no folder",
        {"r.jsonl": jsonl(GOOD)},
        "scoring r.jsonl --out n/o.parquet",
        2,
        "--out n/o.parquet: no such folder: n (create it first)",
    ),
    (
        "a folder that takes no files",
        {"r.jsonl": jsonl(GOOD)},
        "scoring r.jsonl --out /proc/o.parquet",
        2,
        "/proc/.lock: cannot write: No such file or directory (use another folder)",
    ),
    (
        "a folder in the place of a file",
        {**RUN, "runs/r/plan.parquet/x": ""},
        "plan --run runs/r",
        2,
        "runs/r/plan.parquet: cannot write: Is a directory (a file or folder of another kind has this path: move "
        "it away)",
    ),
    (
        "a file in the place of a folder",
        {**RUN, "runs/r/manifests": ""},
        "plan --run runs/r",
        2,
        "runs/r/manifests/plan.json: cannot write: File exists (a file or folder of another kind has this path: "
        "move it away)",
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=names(ROWS))
def test_the_whole_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: Row) -> None:
    monkeypatch.chdir(tmp_path)
    check(tmp_path, row)


DENIED = "cannot write: Permission denied (fix the permissions, or use another folder)"
# command, path whose mode is changed, mode, message
FORBIDDEN = [
    ("plan --run runs/r", "runs/r", 0o555, f"runs/r/.lock: {DENIED}"),
    ("new z --taxonomy support-tickets", "runs", 0o555, f"runs/z: {DENIED}"),
    ("import r.jsonl --run runs/r", "runs/r", 0o555, f"runs/r/.lock: {DENIED}"),
    ("scoring r.jsonl", ".", 0o555, f".lock: {DENIED}"),
    ("scoring r.jsonl", "r.jsonl", 0o000, "r.jsonl: cannot read: Permission denied"),
    (
        "config --run runs/r",
        "runs/r",
        0o000,
        "runs/r/config.yaml: Permission denied (check the path and its permissions)",
    ),
    ("config --run runs/r", "runs/r/config.yaml", 0o000, "runs/r/config.yaml: cannot read: Permission denied"),
]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A working folder that every user may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    write(folder, {**RUN, "r.jsonl": jsonl(GOOD)})
    yield folder
    for path in (folder, *(folder / name for name in ("runs", "runs/r"))):
        path.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.parametrize(("command", "name", "mode", "message"), FORBIDDEN)
def test_without_permission(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch, command: str, name: str, mode: int, message: str
) -> None:
    first = Path(tempfile.mkdtemp())
    write(first, {**RUN, "r.jsonl": jsonl(GOOD)})
    monkeypatch.chdir(first)
    run_command(command)  # imports its modules, which the user nobody may not be allowed to read
    shutil.rmtree(first)
    monkeypatch.chdir(open_folder)
    for folder in (open_folder / "runs", open_folder / "runs/r"):
        folder.chmod(0o755)
    (open_folder / name).chmod(mode)
    root = os.geteuid() == 0  # root may do anything, so nobody runs the command; other users are refused themselves
    if root:
        os.seteuid(NOBODY)
    try:
        result = run_command(command)
    finally:
        if root:
            os.seteuid(0)
    assert result == (2, f"error: {message}\n")


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, RUN)
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        fail_write(patch, 1)
        assert run_command("plan --run runs/r") == (
            2,
            "error: runs/r/plan.parquet: cannot write: No space left on device (free some space, then run the same "
            "command again)\n",
        )
    assert run_command("plan --run runs/r") == (0, "next: marginalia generate --run runs/r\n")

"""Every command that writes into a run is refused while another process works there, and told which one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from marginalia.pipeline.commands.cli import app
from marginalia.pipeline.core.stage_order import STAGES
from marginalia.schemas.storage.run_lock import run_lock
from tests.pipeline.release.labelled_run import make_run
from tests.schemas.test_lock import locking_process

ALONE = ("import", "score")  # with arguments of their own
COMMANDS = [[name] for name in (*STAGES, "preview", "merge", "audit", "verify") if name not in ALONE]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("two"))
    config = run.folder / "config.yaml"
    config.write_text(config.read_text().replace("some/model", "/nowhere/some-model"))
    (run.folder / "records.jsonl").write_text('{"id": "i1", "text": "hello", "labels": []}\n')
    return run.folder


@pytest.fixture(scope="module")
def new_folder(folder: Path) -> Path:
    """With nothing in it that came from elsewhere."""
    made = folder.with_name("imported")
    made.mkdir()
    for name in ("config.yaml", "records.jsonl"):
        shutil.copy(folder / name, made)
    return made


@pytest.mark.parametrize("command", [*COMMANDS, ["score"], ["import", "records.jsonl"]], ids=" ".join)
def test_a_second_process_is_refused_and_names_the_first(
    folder: Path, new_folder: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_folder if command[0] == "import" else folder
    monkeypatch.chdir(run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
    with locking_process(run) as child:
        done = CliRunner().invoke(app, [*command, "--run", str(run)])
    assert done.exit_code == 4, done.stderr
    assert done.stderr.startswith(f"error: {run} is in use by process {child.pid} (marginalia generate, since 20")
    assert done.stderr.endswith("(wait for it, or end it)\n")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"} == before


def test_two_processes_may_score_two_shards_but_not_the_same(folder: Path) -> None:
    shard = folder / "scores/policy-guard.shards/1-of-2"
    shard.mkdir(parents=True)
    with run_lock(shard, "marginalia score --shard 1/2"), run_lock(folder, "marginalia evaluate"):
        same = CliRunner().invoke(app, ["score", "--shard", "1/2", "--run", str(folder)])
        other = CliRunner().invoke(app, ["score", "--shard", "2/2", "--run", str(folder)])
    assert (same.exit_code, other.exit_code) == (4, 2)  # the other one only lacks its model
    assert f"{shard} is in use by process" in same.stderr
    assert "/nowhere/some-model" in other.stderr


@pytest.mark.parametrize("command", ["status", "config", "simulate"])
def test_commands_that_only_read_work_meanwhile(folder: Path, command: str) -> None:
    with locking_process(folder) as child:
        done = CliRunner().invoke(app, [command, "--run", str(folder)])
    assert done.exit_code == (2 if command == "config" else 0), done.stderr  # config only finds no model
    assert "in use" not in done.stderr
    if command == "status":
        assert done.stdout.startswith(f"{folder}: in use by process {child.pid} (marginalia generate, since 20")

"""A run folder that comes from somebody else may contain symbolic links. No stage follows them: nothing outside the run
folder is read, changed, appended to or cut."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from marginalia.annotation.server.server_home import only_one, open_home
from marginalia.pipeline.commands.cli import app
from marginalia.pipeline.core.run import Run, open_run
from marginalia.pipeline.core.stage_order import load_stage
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.schemas.errors import InputError
from marginalia.schemas.storage.files import sha256
from marginalia.schemas.storage.folders import write_folder_whole
from marginalia.schemas.storage.journal import Journal, read_journal
from marginalia.scoring.engines.shards import Shard, shard_path

CONFIG = "taxonomy: support-tickets\nplan: {records: 12, min_per_label: 0}\n"
PRIVATE = b"a private file\nits last line has no end"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text(CONFIG)
    return open_run(folder)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    file = tmp_path / "private.txt"
    file.write_bytes(PRIVATE)
    return file


def refused(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 2, result.output
    assert "is a symbolic link, expected a regular file (replace it by a copy of the file, or delete it)" in (
        result.stderr
    )
    return result.stderr


@pytest.mark.parametrize("stage", ["plan", "generate", "reconcile", "score", "evaluate", "report", "verify"])
def test_the_lock_does_not_overwrite_another_file(run: Run, outside: Path, stage: str) -> None:
    (run.folder / ".lock").symlink_to(outside)
    assert f"{run.folder}/.lock: is a symbolic link" in refused(stage, "--run", run.folder)
    assert outside.read_bytes() == PRIVATE


def test_a_stage_that_is_up_to_date_does_not_overwrite_another_file(run: Run, outside: Path) -> None:
    run_stage(load_stage("plan"), run)
    (run.folder / ".lock").unlink()
    (run.folder / ".lock").symlink_to(outside)
    refused("plan", "--run", run.folder)
    assert outside.read_bytes() == PRIVATE


def test_the_log_does_not_append_to_another_file(run: Run, outside: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (run.folder / "log.jsonl").symlink_to(outside)
    run_stage(load_stage("plan"), run)
    assert outside.read_bytes() == PRIVATE
    assert "log.jsonl: is a symbolic link" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["responses.jsonl", "annotations.jsonl", "scores/guard.journal.jsonl"])
def test_a_journal_neither_appends_to_another_file_nor_cuts_it(run: Run, outside: Path, name: str) -> None:
    path = run.folder / name
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(outside)
    with pytest.raises(InputError, match="is a symbolic link"):
        Journal(path)
    with pytest.raises(InputError, match="is a symbolic link"):
        list(read_journal(path))
    with pytest.raises(InputError, match="is a symbolic link"):
        run.path(name)
    assert outside.read_bytes() == PRIVATE


def test_a_journal_whose_file_is_missing_does_not_create_one_elsewhere(run: Run, tmp_path: Path) -> None:
    (run.folder / "responses.jsonl").symlink_to(tmp_path / "new.jsonl")
    with pytest.raises(InputError, match="is a symbolic link"):
        Journal(run.folder / "responses.jsonl")
    assert not (tmp_path / "new.jsonl").exists()


@pytest.mark.parametrize("name", ["manifests", "scores", "release", "argilla"])
def test_a_folder_of_the_run_does_not_lead_elsewhere(run: Run, tmp_path: Path, name: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / ".left.partial").write_text("not a temporary file of ours")
    (run.folder / name).symlink_to(elsewhere)
    with pytest.raises(InputError, match=f"{name}: is a symbolic link"):
        run.path(f"{name}/plan.json")
    if name in ("manifests", "scores"):
        refused("plan", "--run", run.folder)
    assert [path.name for path in elsewhere.iterdir()] == [".left.partial"]


def test_the_folder_of_the_argilla_server_may_be_that_of_another_run(run: Run, tmp_path: Path) -> None:
    open_home(tmp_path / "other" / "argilla")
    (run.folder / "argilla").symlink_to(tmp_path / "other" / "argilla")
    assert run.path("argilla") == run.folder / "argilla"
    assert run.path("argilla/credentials.json").is_file()


@pytest.mark.parametrize("name", ["control.lock", "server.log", "argilla.db"])
def test_the_argilla_server_does_not_write_to_another_file(run: Run, outside: Path, name: str) -> None:
    home = run.path("argilla")
    home.mkdir()
    (home / name).symlink_to(outside)
    with pytest.raises(InputError, match=f"{name}: is a symbolic link"), only_one(home):
        pass
    assert outside.read_bytes() == PRIVATE


def test_a_shard_is_not_written_elsewhere(run: Run, tmp_path: Path) -> None:
    (run.folder / "scores").mkdir()
    (run.folder / "scores" / "guard.shards").symlink_to(tmp_path)
    with pytest.raises(InputError, match=r"guard\.shards: is a symbolic link"):
        shard_path(run.path("scores/guard.parquet"), Shard(1, 2))


@pytest.mark.parametrize(
    ("name", "stage"), [("config.yaml", "status"), ("taxonomy.yaml", "plan"), ("plan.parquet", "generate")]
)
def test_an_input_of_a_stage_is_not_read_from_elsewhere(run: Run, outside: Path, name: str, stage: str) -> None:
    if name == "taxonomy.yaml":
        (run.folder / "config.yaml").write_text(CONFIG.replace("support-tickets", "taxonomy.yaml"))
    (run.folder / name).unlink(missing_ok=True)
    (run.folder / name).symlink_to(outside)
    assert f"{run.folder}/{name}: is a symbolic link" in refused(stage, "--run", run.folder)


def test_a_release_with_a_link_is_not_published(run: Run, outside: Path) -> None:
    release = run.folder / "release"
    release.mkdir()
    (release / "README.md").symlink_to(outside)
    with pytest.raises(InputError, match=r"README\.md: is a symbolic link"):
        sha256(release)


@pytest.mark.parametrize("link", [".release.previous", ".release.0.partial"])
def test_what_a_killed_release_left_is_not_followed(run: Run, tmp_path: Path, link: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept.txt").write_text("kept")
    (run.folder / link).symlink_to(elsewhere)
    write_folder_whole(run.folder / "release", lambda folder: (folder / "new.txt").write_text("new"))
    assert not (run.folder / "release").is_symlink()
    assert [path.name for path in (run.folder / "release").iterdir()] == ["new.txt"]
    assert (elsewhere / "kept.txt").read_text() == "kept"
    assert not (run.folder / link).is_symlink()


def through_a_link(run: Run, tmp_path: Path) -> Path:
    (tmp_path / "link").symlink_to(run.folder)
    return tmp_path / "link"


def by_its_real_path(run: Run, tmp_path: Path) -> Path:
    return run.folder


@pytest.mark.parametrize("folder", [through_a_link, by_its_real_path])
def test_a_run_folder_may_be_reached_through_a_link(
    run: Run, tmp_path: Path, folder: Callable[[Run, Path], Path]
) -> None:
    assert run_stage(load_stage("plan"), open_run(folder(run, tmp_path))).status == "ran"
    assert (run.folder / "plan.parquet").exists()


def test_an_input_outside_the_run_may_be_a_link(run: Run, tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_text('{"id": "r1", "text": "hello", "labels": []}\n')
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "records.jsonl")
    result = CliRunner().invoke(app, ["import", str(tmp_path / "link.jsonl"), "--run", str(run.folder)])
    assert result.exit_code == 0, result.output
    assert os.fspath(tmp_path / "records.jsonl") in (run.folder / "import.yaml").read_text()

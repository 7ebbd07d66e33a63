from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from marginalia.annotation.server.server_control import accounts, backup, down, restore, up
from marginalia.annotation.server.server_home import CREDENTIALS, DATABASE
from marginalia.schemas.errors import InputError, ServiceError
from tests.annotation.server.rest import LABELS, Dataset, connect, respond
from tests.argilla_fixture import free_port


def submitted(database: Path) -> int:
    with sqlite3.connect(database) as connection:
        count: int = connection.execute("SELECT count(*) FROM responses WHERE status = 'submitted'").fetchone()[0]
    connection.close()
    return count


@pytest.fixture
def saved(argilla_home: Path, ann: httpx.Client, tmp_path: Path, new_dataset: Callable[..., Dataset]) -> Path:
    """A backup of the session's server, made while it runs and has an answer that is in its write-ahead log only."""
    dataset = new_dataset(["a", "b"])
    respond(ann, dataset.records[0], [LABELS[1]])
    return backup(argilla_home, tmp_path / "saved")


def test_a_backup_contains_every_answer_confirmed_before(
    saved: Path, argilla_home: Path, ann: httpx.Client, owner: httpx.Client
) -> None:
    assert sorted(path.name for path in saved.iterdir()) == [DATABASE, CREDENTIALS]
    assert submitted(saved / DATABASE) == submitted(argilla_home / DATABASE) > 0
    assert {path.stat().st_mode & 0o777 for path in saved.iterdir()} == {0o600}


def test_a_backup_restored_elsewhere_is_a_server_with_the_same_accounts_and_answers(
    saved: Path, tmp_path: Path
) -> None:
    home = tmp_path / "elsewhere"
    assert restore(home, saved) is None
    server = up(home, port=free_port())
    try:
        assert accounts(home) == accounts(saved)
        ann = next(account for account in accounts(home) if account.username == "ann")
        with connect(server.url, ann) as client:
            datasets = client.get("/me/datasets").json()["items"]
            progress = [client.get(f"/me/datasets/{d['id']}/metrics").json()["responses"] for d in datasets]
        assert sum(p["submitted"] for p in progress) > 0
    finally:
        down(home)


def test_a_restore_keeps_what_it_replaces_and_removes_its_write_ahead_log(saved: Path, tmp_path: Path) -> None:
    """The replaced database was left by a killed server: its last answers are in the write-ahead log."""
    home = tmp_path / "home"
    restore(home, saved)
    newer = sqlite3.connect(home / DATABASE)
    newer.execute("PRAGMA journal_mode = WAL")
    newer.execute("UPDATE responses SET status = 'discarded'")
    newer.commit()
    for name in (DATABASE, f"{DATABASE}-wal"):
        shutil.copy(home / name, tmp_path / name)
    newer.close()
    for name in (DATABASE, f"{DATABASE}-wal"):
        shutil.copy(tmp_path / name, home / name)
    replaced = restore(home, saved)
    assert replaced is not None
    assert submitted(home / DATABASE) == submitted(saved / DATABASE) > 0
    assert not (home / f"{DATABASE}-wal").exists()
    restore(home, replaced)
    assert submitted(home / DATABASE) == 0


def test_a_damaged_home_can_be_restored_and_its_files_are_kept(saved: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / DATABASE).write_bytes(b"remains")
    (home / CREDENTIALS).write_bytes(b"{")
    replaced = restore(home, saved)
    assert replaced is not None
    assert (replaced / DATABASE).read_bytes() == b"remains"
    assert submitted(home / DATABASE) == submitted(saved / DATABASE)
    assert accounts(home) == accounts(saved)


def test_a_restore_is_refused_while_the_server_runs(saved: Path, argilla_home: Path) -> None:
    with pytest.raises(ServiceError, match="marginalia argilla down --run"):
        restore(argilla_home, saved)


def test_a_backup_does_not_overwrite(saved: Path, argilla_home: Path) -> None:
    with pytest.raises(InputError, match="already exists"):
        backup(argilla_home, saved)


def test_nothing_to_save_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to save"):
        backup(tmp_path / "empty", tmp_path / "saved")


@pytest.mark.parametrize("damage", ["cut", "overwritten", "missing"])
def test_a_damaged_backup_is_refused_and_nothing_is_replaced(saved: Path, tmp_path: Path, damage: str) -> None:
    home = tmp_path / "home"
    restore(home, saved)
    before = (home / DATABASE).read_bytes()
    database = saved / DATABASE
    content = database.read_bytes()
    if damage == "cut":
        database.write_bytes(content[: len(content) // 2])
    elif damage == "overwritten":
        database.write_bytes(b"x" * len(content))
    else:
        database.unlink()
    with pytest.raises(InputError):
        restore(home, saved)
    assert (home / DATABASE).read_bytes() == before

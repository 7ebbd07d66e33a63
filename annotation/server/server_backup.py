"""Save a server's home, also while people are answering, and put it back."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from marginalia.annotation.server.server_home import (
    CREDENTIALS,
    DATABASE,
    only_one,
    read_credentials,
    sync_folder,
    write_credentials,
    write_private,
)
from marginalia.annotation.server.server_process import is_served
from marginalia.schemas.errors import InputError, ServiceError

_LOGS = (f"{DATABASE}-wal", f"{DATABASE}-shm")


def backup(home: Path, to: Path) -> Path:
    """Save database and credentials of `home` as the new folder `to` (mode 0700), whole or not at all.

    The server may run: the copy holds every answer that was confirmed before the call. Raises InputError when `to`
    exists, or there is nothing to save. Returns `to`.
    """
    with only_one(home):
        return _save(home, to)


def restore(home: Path, from_: Path) -> Path | None:
    """Put the backup `from_` in the place of what `home` has.

    What is replaced is saved first, as `home/replaced-<time>`; that folder is returned (None when there was nothing).
    Raises ServiceError while the server runs, InputError when the backup is damaged.
    """
    _check(from_ / DATABASE)
    credentials = read_credentials(from_)
    with only_one(home):
        if is_served(home):
            raise ServiceError(f"the Argilla server of {home} runs: stop it before a restore", hint="make argilla-down")
        home.chmod(0o700)
        with tempfile.TemporaryDirectory(dir=home, prefix=".restored.") as folder:
            restored = Path(folder) / DATABASE
            _copy(from_ / DATABASE, restored)
            replaced = _set_aside(home)
            for log in _LOGS:  # left behind, they would be taken for those of the database that comes in its place
                (home / log).unlink(missing_ok=True)
            restored.replace(home / DATABASE)
        write_credentials(home, credentials)
        return replaced


def _save(home: Path, to: Path) -> Path:
    if to.exists():
        raise InputError.at(to, "exists already", hint="name a new folder")
    if not (home / DATABASE).exists():
        raise InputError.at(home, "no Argilla server was ever started here: there is nothing to save")
    credentials = read_credentials(home)
    to.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=to.parent, prefix=f".{to.name}."))
    try:
        _copy(home / DATABASE, unfinished / DATABASE)
        write_credentials(unfinished, credentials)
        unfinished.rename(to)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    sync_folder(to.parent)
    return to


def _copy(database: Path, to: Path) -> None:
    """Copy a database, which may be in use, with what its write-ahead log holds, into one checked file."""
    with _connected(database) as source, _connected(to) as copy:
        source.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")
    _check(to)
    to.chmod(0o600)


def _set_aside(home: Path) -> Path | None:
    """Copy a stopped server's files as they are, damaged ones too: whoever restores may have good reasons."""
    present = [name for name in (DATABASE, *_LOGS, CREDENTIALS) if (home / name).exists()]
    if not present:
        return None
    folder = home / f"replaced-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}"
    folder.mkdir(mode=0o700)
    for name in present:
        write_private(folder / name, (home / name).read_bytes())
    sync_folder(home)
    return folder


def _check(database: Path) -> None:
    """Raises InputError unless `database` is a whole SQLite file with Argilla's tables."""
    try:
        if not database.is_file():
            raise InputError.at(database, "no such file: this is not a backup")
        with _connected(database) as connection:
            found = connection.execute("PRAGMA integrity_check").fetchone()[0]
            connection.execute("SELECT count(*) FROM responses").fetchone()
    except sqlite3.DatabaseError as error:
        raise InputError.at(database, f"damaged, or not a database of Argilla: {error}") from error
    if found != "ok":
        raise InputError.at(database, f"damaged: {found}")


def _connected(database: Path) -> contextlib.closing[sqlite3.Connection]:
    return contextlib.closing(sqlite3.connect(database, timeout=30, isolation_level=None))

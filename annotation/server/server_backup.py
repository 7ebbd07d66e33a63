"""Back up a server's home, also while annotators are answering, and restore it."""

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
    cli,
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
    """Save database and credentials of `home` as the new folder `to` (mode 0700), completely or not at all. Returns
    `to`.

    The server may be running: the copy contains every answer that was confirmed before the call. Raises InputError when
    `to` exists, or when there is nothing to save.
    """
    with only_one(home):
        return _save(home, to)


def restore(home: Path, from_: Path) -> Path | None:
    """Replace the database and credentials of `home` by those of the backup `from_`.

    The replaced files are saved first, in `home/replaced-<time>`; that folder is returned (None when there were none).
    Raises ServiceError while the server is running, InputError when the backup is damaged.
    """
    _check(from_ / DATABASE)
    credentials = read_credentials(from_)
    with only_one(home):
        if is_served(home):
            raise ServiceError(f"the Argilla server of {home} is running: stop it first", hint=cli("down", home))
        home.chmod(0o700)
        with tempfile.TemporaryDirectory(dir=home, prefix=".restored.") as folder:
            restored = Path(folder) / DATABASE
            _copy(from_ / DATABASE, restored)
            replaced = _set_aside(home)
            for log in _LOGS:  # SQLite would apply them to the restored database
                (home / log).unlink(missing_ok=True)
            restored.replace(home / DATABASE)
        write_credentials(home, credentials)
        return replaced


def _save(home: Path, to: Path) -> Path:
    if to.exists():
        raise InputError.at(to, "already exists", hint="give a new folder")
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
    """Copy a database, which may be in use, with the contents of its write-ahead log, into one checked file."""
    with _connected(database) as source, _connected(to) as copy:
        source.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")
    _check(to)
    to.chmod(0o600)


def _set_aside(home: Path) -> Path | None:
    """Copy a stopped server's files byte by byte, as they may be damaged; returns the new folder, None without
    files."""
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
    """Raises InputError unless `database` is an intact SQLite file with Argilla's tables."""
    try:
        if not database.is_file():
            raise InputError.at(database, "no such file: this is not a backup")
        with _connected(database) as connection:
            integrity = connection.execute("PRAGMA integrity_check").fetchone()[0]
            connection.execute("SELECT count(*) FROM responses").fetchone()
    except sqlite3.DatabaseError as error:
        raise InputError.at(database, f"damaged, or not an Argilla database: {error}") from error
    if integrity != "ok":
        raise InputError.at(database, f"damaged: {integrity}")


def _connected(database: Path) -> contextlib.closing[sqlite3.Connection]:
    return contextlib.closing(sqlite3.connect(database, timeout=30, isolation_level=None))

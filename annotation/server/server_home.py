"""A server's home folder: what lies in it, who may work on it, and its credentials.

credentials.json   the accounts with their passwords and API keys, and the key that signs log-ins
argilla.db         everything people answered (with -wal and -shm beside it while the server runs)
server.json        where the running server listens; serving.lock is held for as long as it lives
server.log
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from marginalia.schemas.errors import InputError

DATABASE = "argilla.db"
CREDENTIALS = "credentials.json"
OWNER = "owner"


@dataclass(frozen=True)
class Account:
    """A person who can log in. `role` is owner or annotator; an empty `api_key` is not known yet."""

    username: str
    role: str
    password: str = field(repr=False)
    api_key: str = field(repr=False)


@dataclass(frozen=True)
class Credentials:
    """All secrets of one server."""

    auth_secret_key: str = field(repr=False)
    accounts: tuple[Account, ...]

    @property
    def owner(self) -> Account:
        return next(account for account in self.accounts if account.role == "owner")

    def account(self, username: str) -> Account | None:
        return next((account for account in self.accounts if account.username == username), None)

    def with_account(self, account: Account) -> Credentials:
        """The same with this account, in the place of the one of its name if there was one."""
        if self.account(account.username) is None:
            return replace(self, accounts=(*self.accounts, account))
        return replace(self, accounts=tuple(account if a.username == account.username else a for a in self.accounts))


def generated_password() -> str:
    """16 letters and digits from 96 random bits: short enough to be typed off a slip of paper."""
    return secrets.token_urlsafe(12)


def open_home(home: Path) -> Credentials:
    """Create `home` (mode 0700) with new credentials, or read those that it has.

    Raises InputError when the folder is another one's, or has a database without credentials.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (home / CREDENTIALS).exists():
        home.chmod(0o700)
        return read_credentials(home)
    if (home / DATABASE).exists():
        raise InputError.at(
            home / CREDENTIALS, "missing, but there is a database beside it", hint="put it back, or restore a backup"
        )
    if any(path.name != "control.lock" for path in home.iterdir()):
        raise InputError.at(home, "is not empty and not an Argilla home", hint="give a folder of its own")
    home.chmod(0o700)
    owner = Account(OWNER, "owner", generated_password(), secrets.token_urlsafe(48))
    credentials = Credentials(secrets.token_hex(32), (owner,))
    write_credentials(home, credentials)
    return credentials


def read_credentials(home: Path) -> Credentials:
    """Raises InputError when they are missing or damaged; its message holds nothing of their content."""
    path = home / CREDENTIALS
    try:
        content = json.loads(path.read_bytes())
        accounts = tuple(Account(**account) for account in content["accounts"])
        credentials = Credentials(str(content["auth_secret_key"]), accounts)
        _ = credentials.owner
    except FileNotFoundError:
        raise InputError.at(path, "no such file: no server was ever started here", hint="make argilla") from None
    except (ValueError, KeyError, TypeError, StopIteration):
        raise InputError.at(path, "damaged", hint="restore a backup") from None
    return credentials


def write_credentials(home: Path, credentials: Credentials) -> None:
    """Write them whole or not at all, readable by their owner only."""
    write_private(home / CREDENTIALS, json.dumps(asdict(credentials), indent=2).encode() + b"\n")


def write_private(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 whole or not at all: temporary file, fsync, rename, fsync of the folder."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and deletions in `folder` last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Wait until no other process starts, stops or changes the server of `home`, and keep others waiting meanwhile."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(home / "control.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

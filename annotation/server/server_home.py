"""A server's home folder, its lock and its credentials. The home is the folder `argilla` of a run.

credentials.json   the accounts with their passwords and API keys, and the key that signs log-ins
argilla.db         all records and answers (with -wal and -shm next to it while the server runs)
server.json        where the running server listens
serving.lock       held as long as the server is alive
control.lock       held while a process starts, stops or changes the server
server.log         the server's output
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
from marginalia.schemas.storage.regular_files import path_inside

DATABASE = "argilla.db"
CREDENTIALS = "credentials.json"
OWNER = "owner"


@dataclass(frozen=True)
class Account:
    """A person who can log in. `role` is owner or annotator; `api_key` is empty until the server has given one."""

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
        """The one account that may do everything. Raises StopIteration when there is none."""
        return next(account for account in self.accounts if account.role == "owner")

    def account(self, username: str) -> Account | None:
        """The account of that name, or None."""
        return next((account for account in self.accounts if account.username == username), None)

    def with_account(self, account: Account) -> Credentials:
        """The same credentials with this account; it replaces an account of the same name."""
        if self.account(account.username) is None:
            return replace(self, accounts=(*self.accounts, account))
        accounts = (account if known.username == account.username else known for known in self.accounts)
        return replace(self, accounts=tuple(accounts))


def cli(command: str, home: Path) -> str:
    """The shell command `marginalia argilla COMMAND` for the run that `home` belongs to."""
    return f"marginalia argilla {command} --run {home.parent}"


def generated_password() -> str:
    """16 characters from 96 random bits: short enough to be typed from a sheet of paper."""
    return secrets.token_urlsafe(12)


def open_home(home: Path) -> Credentials:
    """Create `home` (mode 0700) with new credentials, or read the existing ones.

    Raises InputError when the folder holds other files, or a database without credentials.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (home / CREDENTIALS).exists():
        home.chmod(0o700)
        return read_credentials(home)
    if (home / DATABASE).exists():
        raise InputError.at(
            home / CREDENTIALS, f"missing, but {DATABASE} exists", hint="put the file back, or restore a backup"
        )
    if any(path.name != "control.lock" for path in home.iterdir()):
        raise InputError.at(home, "not empty, and not an Argilla home", hint="use an empty folder")
    home.chmod(0o700)
    owner = Account(OWNER, "owner", generated_password(), secrets.token_urlsafe(48))
    credentials = Credentials(secrets.token_hex(32), (owner,))
    write_credentials(home, credentials)
    return credentials


def read_credentials(home: Path) -> Credentials:
    """The credentials of `home`. Raises InputError when they are missing or damaged, with a message that shows none of
    their content."""
    path = home / CREDENTIALS
    try:
        content = json.loads(path.read_bytes())
        accounts = tuple(Account(**account) for account in content["accounts"])
        credentials = Credentials(str(content["auth_secret_key"]), accounts)
        _ = credentials.owner
    except FileNotFoundError:
        raise InputError.at(path, "no such file: no server was ever started here", hint=cli("up", home)) from None
    except (ValueError, KeyError, TypeError, StopIteration):
        raise InputError.at(path, "damaged", hint="restore a backup") from None
    return credentials


def write_credentials(home: Path, credentials: Credentials) -> None:
    """Write credentials.json completely or not at all, readable only by its owner."""
    write_private(home / CREDENTIALS, json.dumps(asdict(credentials), indent=2).encode() + b"\n")


def write_private(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 completely or not at all: temporary file, fsync, rename, fsync of the folder."""
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
    """Make renames and deletions in `folder` durable (fsync)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Hold the lock under which a process starts, stops or changes the server of `home`; waits until it is free.

    Raises InputError when there is a symbolic link in `home`: the server would write into what it leads to."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in home.iterdir():
        if path.is_symlink():
            path_inside(home, path.name)
    descriptor = os.open(home / "control.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

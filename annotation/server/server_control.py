"""Start and stop a local Argilla server, with its web UI, on SQLite: no Docker, no Elasticsearch, no Redis.

All files of a server are in one folder, its *home* (see `server_home`). The server is a daemon: it keeps running when
the command that started it ends, until `down` or a shutdown of the machine.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
import time
from pathlib import Path

from marginalia.annotation.server.server_accounts import accounts, add_annotators
from marginalia.annotation.server.server_backup import backup, restore
from marginalia.annotation.server.server_home import Account, cli, only_one, open_home
from marginalia.annotation.server.server_process import (
    RunningServer,
    is_served,
    launch,
    server_pid,
    server_python,
    status,
)
from marginalia.schemas.errors import InputError, ServiceError

__all__ = [
    "Account",
    "RunningServer",
    "accounts",
    "add_annotators",
    "backup",
    "down",
    "exposure_warning",
    "restore",
    "status",
    "up",
]

START_TIMEOUT = 180.0  # seconds; a start takes about 10
LOG_LINES_SHOWN = 8


def up(home: Path, *, host: str = "127.0.0.1", port: int | None = None, python: Path | None = None) -> RunningServer:
    """The server of `home`, started if necessary. It answers when this function returns.

    The first start creates the database, and an owner with a generated password and API key. The default `port` is
    6900, or any free one when that is taken. `python` is the Python of the server's environment (see
    `server_process.server_python`). A server that is already running is returned unchanged, even if another host or
    port is given. See `exposure_warning` for `host`.

    Raises InputError for a port that is taken or a home that is not valid, ServiceError when the server does not start.
    """
    interpreter = server_python(python)
    try:
        with only_one(home):
            open_home(home)
            running = status(home)
            if running is not None:
                return running
            if not is_served(home):
                (home / "server.json").unlink(missing_ok=True)
            log = home / "server.log"
            log_start = log.stat().st_size if log.exists() else 0
            launch(home, host, port, interpreter)
            return _answering(home, log_start)
    except OSError as error:
        raise InputError.at(home, f"not usable as an Argilla home: {error.strerror or error}") from error


def down(home: Path, *, grace: float = 20.0) -> bool:
    """Stop the server of `home`; returns whether it was running. Requests in progress are finished first; after `grace`
    seconds it is killed, which loses no confirmed answer. Raises ServiceError when even that does not end it."""
    if not home.is_dir():
        return False
    with only_one(home):
        ran = is_served(home)
        for signal_number, timeout in ((signal.SIGTERM, grace), (signal.SIGKILL, 10.0)):
            if _ended(home, signal_number, timeout):
                (home / "server.json").unlink(missing_ok=True)
                return ran
    raise ServiceError(f"the Argilla server of {home} does not stop (process {server_pid(home)})")


def exposure_warning(host: str) -> str | None:
    """A warning for a server that listens on `host`, or None where only this machine can reach it."""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return None
    if host == "localhost":
        return None
    return (
        f"The Argilla server will listen on {host}: everybody who can reach this machine sees its log-in page, and "
        "passwords and answers travel unencrypted. Use this in a trusted network only, or keep 127.0.0.1 and put a "
        "reverse proxy with HTTPS in front."
    )


def _ended(home: Path, signal_number: signal.Signals, timeout: float) -> bool:
    """Send the signal to the server of `home` and wait up to `timeout` seconds for its end. A server launched a moment
    ago has not written its process id yet: the signal is sent as soon as it has."""
    deadline = time.monotonic() + timeout
    sent = False
    while is_served(home):
        if time.monotonic() > deadline:
            return False
        pid = server_pid(home)
        if pid is not None and not sent:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal_number)
            sent = True
        time.sleep(0.05)
    return True


def _answering(home: Path, log_start: int) -> RunningServer:
    """The server just launched, once it answers. Raises ServiceError with the end of its log when it does not."""
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if not is_served(home):
            raise ServiceError(f"the Argilla server ended while it was starting; {_log_end(home, log_start)}")
        # status would be None without this file as well; this check is cheaper
        if (home / "server.json").exists():
            server = status(home)
            if server is not None:
                return server
        time.sleep(0.1)
    raise ServiceError(
        f"the Argilla server does not answer after {START_TIMEOUT:.0f} seconds; {_log_end(home, log_start)}",
        hint=cli("down", home),
    )


def _log_end(home: Path, start: int) -> str:
    """The last lines that were logged after byte `start`."""
    log = home / "server.log"
    with log.open("rb") as file:
        file.seek(start if log.stat().st_size >= start else 0)
        lines = file.read().decode("utf-8", "replace").strip().split("\n")
    return f"the end of {log}:\n" + "\n".join(lines[-LOG_LINES_SHOWN:])

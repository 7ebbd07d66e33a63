"""The server's process as seen from outside: does it live, does it answer, launch it.

A process id in a file proves nothing: the process may have been killed and its number given to another. Here it
counts only while `serving.lock` is held, which the server takes before anything else and which dies with it.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import httpx2

from marginalia.annotation.server.server_home import read_credentials
from marginalia.schemas.errors import InputError, ServiceError
from marginalia.schemas.http_client import ExchangeLimits, client

REPOSITORY = Path(__file__).parents[2]
LAUNCHER = Path(__file__).parent / "inside" / "serve.py"
ANSWER_TIMEOUT = 10.0  # seconds
_LARGEST_ANSWER = 1_000_000  # bytes

# Exit codes of the launcher (inside/serve.py), which lives in another environment and cannot share them.
_PORT_TAKEN = 11
_ALREADY_SERVED = 12
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ")


@dataclass(frozen=True)
class RunningServer:
    """A server that runs. `url` is how this machine reaches it; `version` is Argilla's."""

    url: str
    host: str
    port: int
    pid: int
    home: Path
    version: str


def status(home: Path) -> RunningServer | None:
    """The server that runs in `home` and answers with our owner's key, or None."""
    if server_pid(home) is None:
        return None
    try:
        said = json.loads((home / "server.json").read_bytes())
        server = RunningServer(
            url_of(said["host"], said["port"]), said["host"], said["port"], said["pid"], home, said["version"]
        )
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return server if server.pid == server_pid(home) and _answers(server) else None


def is_served(home: Path) -> bool:
    """Whether a server process lives in `home`, answering or not."""
    try:
        descriptor = os.open(home / "serving.lock", os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def server_pid(home: Path) -> int | None:
    """Process id of the server that lives in `home`; None when there is none, or it has only just been launched."""
    if not is_served(home):
        return None
    written = (home / "serving.lock").read_text()
    return int(written) if written else None


def launch(home: Path, host: str, port: int | None, python: Path) -> None:
    """Start the server as a daemon; returns as soon as it has its lock and its socket, seconds before it answers.

    It gets nothing of our environment but the few variables a program needs: no tokens, no ARGILLA_ settings.
    """
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    asked = [] if port is None else ["--port", str(port)]
    try:
        launched = subprocess.run(
            [python, "-s", LAUNCHER, home.absolute(), "--host", host, *asked],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServiceError(f"the Argilla server could not be launched: {error}", hint="make argilla-env") from error
    reason = launched.stderr.strip().rpartition("\n")[2]
    if launched.returncode == _PORT_TAKEN:
        raise InputError(f"the Argilla server cannot listen on {reason}", hint="choose another --port or --host")
    if launched.returncode == _ALREADY_SERVED:
        raise ServiceError(f"another process serves {home} but does not answer", hint="make argilla-down")
    if launched.returncode != 0:
        raise ServiceError(f"the Argilla server could not be launched: {reason}", hint="make argilla-env")


def server_python(given: Path | None) -> Path:
    """The server environment's Python: the one given, else $MARGINALIA_ARGILLA_PYTHON, else .venv-argilla's."""
    named = given or os.environ.get("MARGINALIA_ARGILLA_PYTHON")
    python = Path(named) if named else REPOSITORY / ".venv-argilla" / "bin" / "python"
    if not os.access(python, os.X_OK):
        raise ServiceError(f"{python}: no Python of an Argilla server there", hint="make argilla-env")
    return python


def url_of(host: str, port: int) -> str:
    """The address by which this machine reaches a server that listens on `host`."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


def _answers(server: RunningServer) -> bool:
    """Whether the server knows our owner's key: any other program on that port does not."""
    owner = read_credentials(server.home).owner
    try:
        # Proxies of the environment are for the world outside, not for a server of this machine.
        with client(ExchangeLimits(ANSWER_TIMEOUT, _LARGEST_ANSWER), proxies=False) as http:
            answer = http.get(f"{server.url}/api/v1/me", headers={"X-Argilla-Api-Key": owner.api_key})
            return answer.status_code == 200 and answer.json()["username"] == owner.username
    except (httpx2.HTTPError, ValueError, KeyError, TypeError, RecursionError):
        return False

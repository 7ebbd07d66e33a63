"""The server's process seen from outside: whether it is alive, whether it answers, and how it is launched.

A process id in a file proves nothing: the process may have been killed and its id given to another one. Here it counts
only while `serving.lock` is held: the server takes that lock before anything else, and it is released when the server
ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx2

from marginalia.annotation.server.server_home import cli, read_credentials
from marginalia.schemas.errors import InputError, ServiceError
from marginalia.schemas.http_client import ExchangeLimits, client

_ROOT = Path(__file__).resolve().parents[2]
CHECKOUT = _ROOT if (_ROOT / "pyproject.toml").is_file() else None  # None when the package is installed
LAUNCHER = Path(__file__).parent / "inside" / "serve.py"
REQUIREMENTS = Path(__file__).parent / "requirements.txt"
ANSWER_TIMEOUT = 10.0  # seconds
_LARGEST_ANSWER = 1_000_000  # bytes

# Exit codes of the launcher, repeated from inside/serve.py: that runs in another environment and cannot be imported.
_PORT_TAKEN = 11
_ALREADY_SERVED = 12
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ")  # environment variables that the server inherits


@dataclass(frozen=True)
class RunningServer:
    """A running server. `url` is how this machine reaches it; `version` is Argilla's."""

    url: str
    host: str
    port: int
    pid: int
    home: Path
    version: str


def status(home: Path) -> RunningServer | None:
    """The server that runs in `home` and accepts the owner's API key, or None."""
    if server_pid(home) is None:
        return None
    try:
        written = json.loads((home / "server.json").read_bytes())
        host, port = written["host"], written["port"]
        server = RunningServer(url_of(host, port), host, port, written["pid"], home, written["version"])
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return server if server.pid == server_pid(home) and _answers(server) else None


def is_served(home: Path) -> bool:
    """Whether a server process of `home` is alive, answering or not."""
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
    """Process id of the server of `home`; None when there is none, or when it was launched a moment ago."""
    if not is_served(home):
        return None
    written = (home / "serving.lock").read_text()
    return int(written) if written else None


def launch(home: Path, host: str, port: int | None, python: Path) -> None:
    """Start the server as a daemon. Returns as soon as it has its lock and its socket, seconds before it answers.

    The server inherits only the few environment variables that a program needs: no tokens, no ARGILLA_ settings.
    Raises InputError when it cannot listen there, ServiceError when it cannot be launched.
    """
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    port_option = [] if port is None else ["--port", str(port)]
    try:
        launched = subprocess.run(
            [python, "-s", LAUNCHER, home.absolute(), "--host", host, *port_option],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServiceError(f"the Argilla server could not be launched: {error}", hint=install_command()) from error
    reason = launched.stderr.strip().rpartition("\n")[2]
    if launched.returncode == _PORT_TAKEN:
        raise InputError(f"the Argilla server cannot listen on {reason}", hint="choose another --port or --host")
    if launched.returncode == _ALREADY_SERVED:
        raise ServiceError(f"a server of {home} is running but does not answer", hint=cli("down", home))
    if launched.returncode != 0:
        raise ServiceError(f"the Argilla server could not be launched: {reason}", hint=install_command())


def server_python(given: Path | None) -> Path:
    """The Python of the server's environment: the one given, else $MARGINALIA_ARGILLA_PYTHON, else that of
    `environment_folder`. Raises ServiceError, with the command that installs it, when it does not exist."""
    named = given or os.environ.get("MARGINALIA_ARGILLA_PYTHON")
    python = Path(named) if named else environment_folder() / "bin" / "python"
    if not os.access(python, os.X_OK):
        raise ServiceError(
            f"the environment of the Argilla server is not installed: no Python at {python}", hint=install_command()
        )
    return python


def environment_folder() -> Path:
    """Where the server's environment is installed: `.venv-argilla` in a checkout, else `argilla-env` in
    $MARGINALIA_CACHE or in .cache/marginalia in the home folder."""
    if CHECKOUT is not None:
        return CHECKOUT / ".venv-argilla"
    return Path(os.environ.get("MARGINALIA_CACHE") or Path.home() / ".cache" / "marginalia") / "argilla-env"


def install_command() -> str:
    """The shell command that installs the server's environment."""
    if CHECKOUT is not None:
        return "make argilla-env"
    folder = environment_folder()
    pip = [str(folder / "bin" / "pip"), "install", "--requirement", str(REQUIREMENTS)]
    return f"{shlex.join([sys.executable, '-m', 'venv', str(folder)])} && {shlex.join(pip)}"


def url_of(host: str, port: int) -> str:
    """The address by which this machine reaches a server that listens on `host`."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


def _answers(server: RunningServer) -> bool:
    """Whether the server accepts our owner's key; any other program on that port does not."""
    owner = read_credentials(server.home).owner
    try:
        # a proxy set in the environment is not for a server on this machine
        with client(ExchangeLimits(ANSWER_TIMEOUT, _LARGEST_ANSWER), proxies=False) as http:
            answer = http.get(f"{server.url}/api/v1/me", headers={"X-Argilla-Api-Key": owner.api_key})
            return answer.status_code == 200 and answer.json()["username"] == owner.username
    except (httpx2.HTTPError, ValueError, KeyError, TypeError, RecursionError):
        return False

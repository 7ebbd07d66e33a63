"""Start Argilla as a daemon on SQLite, in the server's own environment (none of our packages can be imported here).

    python serve.py HOME [--host 127.0.0.1] [--port 6900]

HOME holds `credentials.json` (written before by the process that starts us) and takes the database, the log and
`server.json`. Everything that can fail early does so before the daemon is born, and is told by the exit code: the
lock that says "this home is being served", and the socket. The lock is held for the daemon's whole life and dies with
it, also at kill -9; no process id is ever believed without it.
"""

import argparse
import contextlib
import fcntl
import json
import logging
import os
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path

PREFERRED_PORT = 6900
EXIT_PORT_TAKEN = 11
EXIT_ALREADY_SERVED = 12
LOCK_PATIENCE = 2.0  # seconds; whoever asks "is it running?" holds the lock for an instant
LOG_LIMIT = 5_000_000  # bytes; a longer log is set aside at the next start

# The only settings Argilla gets. Paths are relative: the daemon works inside HOME, so that no character of HOME's
# own name can upset a database URL.
SETTINGS = {
    "ARGILLA_HOME_PATH": ".",
    "ARGILLA_DATABASE_URL": "sqlite+aiosqlite:///argilla.db?check_same_thread=False",
    "ARGILLA_DATABASE_SQLITE_TIMEOUT": "30",  # seconds a writer waits for another one
    "ARGILLA_SEARCH_ENGINE": "sqlite",
    "ARGILLA_CORS_ORIGINS": "[]",  # the web UI is of the same origin; nobody else's page has business here
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HOME": "cache",
}


def main() -> int:
    """Parse the arguments, take lock and socket, leave the daemon behind. Returns the exit code of the launcher."""
    parser = argparse.ArgumentParser()
    parser.add_argument("home", type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, help="exactly this one; default: 6900, or any free one when that is taken")
    arguments = parser.parse_args()

    os.umask(0o077)
    os.chdir(arguments.home)
    lock = take_lock(Path("serving.lock"))
    if lock is None:
        return EXIT_ALREADY_SERVED
    listener = listen(arguments.host, [arguments.port] if arguments.port else [PREFERRED_PORT, 0])
    if listener is None:
        return EXIT_PORT_TAKEN

    if os.fork() > 0:
        return 0
    os.setsid()
    redirect_output(Path("server.log"))
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    serve(listener)
    return 0


def take_lock(path: Path) -> int | None:
    """An exclusive lock on `path` as a file descriptor to keep open, or None when another server has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + LOCK_PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)  # it may name the process of a server that was killed
            return descriptor
        time.sleep(0.05)
    os.close(descriptor)
    return None


def listen(host: str, ports: list[int]) -> socket.socket | None:
    """A socket bound to the first of `ports` that is free (0: any), or None. The server gets this very socket, so
    that no other program can take the port in between."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in ports:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            print(f"{host}:{port}: {error.strerror}", file=sys.stderr)
            listener.close()
        else:
            return listener
    return None


def redirect_output(log: Path) -> None:
    """Send everything printed from now on to `log`, and let go of the terminal or pipe we were started from."""
    if log.exists() and log.stat().st_size > LOG_LIMIT:
        log.replace(log.with_suffix(".log.1"))
    sys.stdout.flush()
    sys.stderr.flush()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, nothing), (1, output), (2, output)):
        os.dup2(source, target)
    os.close(output)
    os.close(nothing)


def serve(listener: socket.socket) -> None:
    """Configure, import and run Argilla. The order matters: Argilla reads its settings and opens its job queue while
    it is being imported."""
    credentials = json.loads(Path("credentials.json").read_text(encoding="utf-8"))
    os.environ.update(SETTINGS, ARGILLA_AUTH_SECRET_KEY=credentials["auth_secret_key"])
    use_private_temporary_folder(Path("tmp"))
    # Argilla would else log through rich, which wraps every line as if the file were a narrow terminal.
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)

    import jobs

    jobs.replace_redis()

    import application

    application.run(listener, credentials)


def use_private_temporary_folder(folder: Path) -> None:
    """Argilla copies its web UI (14 MB) to a new temporary folder at every start and never removes it: keep those
    copies in one place and clear away the last one."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    tempfile.tempdir = str(folder.absolute())


if __name__ == "__main__":
    sys.exit(main())

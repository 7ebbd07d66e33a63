"""Start Argilla as a daemon on SQLite, in the server's own environment (Marginalia cannot be imported here).

    python serve.py HOME [--host 127.0.0.1] [--port 6900]

HOME contains `credentials.json`, written by the process that starts this one; the database, the log and `server.json`
are written there. What can fail early does so before the daemon is forked, and is reported by the exit code: the lock
`serving.lock`, which means that a server uses this home, and the socket. The daemon holds the lock until it ends, also
by kill -9; a process id in a file is trusted only while the lock is held."""

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
LOCK_TIMEOUT = 2.0  # seconds; a process that checks whether the server is running holds the lock for a moment
LOG_LIMIT = 5_000_000  # bytes; a longer log is renamed to server.log.1 at the next start

# All settings that Argilla gets. Paths are relative to HOME, the daemon's working directory: no character in HOME's own
# path can then break the database URL.
SETTINGS = {
    "ARGILLA_HOME_PATH": ".",
    "ARGILLA_DATABASE_URL": "sqlite+aiosqlite:///argilla.db?check_same_thread=False",
    "ARGILLA_DATABASE_SQLITE_TIMEOUT": "30",  # seconds that a writer waits for another one
    "ARGILLA_SEARCH_ENGINE": "sqlite",
    "ARGILLA_CORS_ORIGINS": "[]",  # the web UI has the same origin; no other page may call the API
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HOME": "cache",
}


def main() -> int:
    """Parse the arguments, take lock and socket, and fork the daemon. Returns the exit code of the launcher."""
    parser = argparse.ArgumentParser()
    parser.add_argument("home", type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, help="default: 6900, or any free port when that is taken")
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
    """A file descriptor with an exclusive lock on `path`, to be kept open; None when another server holds the lock."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + LOCK_TIMEOUT
    while time.monotonic() < deadline:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)  # it may contain the process id of a server that was killed
            return descriptor
        time.sleep(0.05)
    os.close(descriptor)
    return None


def listen(host: str, ports: list[int]) -> socket.socket | None:
    """A socket bound to the first of `ports` that is free (0: any), or None. The server uses this socket, so that no
    other program can take the port in between."""
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
    """Redirect stdout and stderr to `log`, and release the terminal or pipe of the process that started this one."""
    if log.exists() and log.stat().st_size > LOG_LIMIT:
        log.replace(log.with_suffix(".log.1"))
    sys.stdout.flush()
    sys.stderr.flush()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    empty_input = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, empty_input), (1, output), (2, output)):
        os.dup2(source, target)
    os.close(output)
    os.close(empty_input)


def serve(listener: socket.socket) -> None:
    """Configure, import and run Argilla, in this order: Argilla reads its settings and opens its job queue at
    import."""
    credentials = json.loads(Path("credentials.json").read_text(encoding="utf-8"))
    os.environ.update(SETTINGS, ARGILLA_AUTH_SECRET_KEY=credentials["auth_secret_key"])
    use_private_temporary_folder(Path("tmp"))
    # Otherwise Argilla logs through rich, which wraps every line as if the file were a narrow terminal.
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)

    import jobs

    jobs.replace_redis()

    import application

    application.run(listener, credentials)


def use_private_temporary_folder(folder: Path) -> None:
    """Use `folder` for temporary files, and empty it first: Argilla copies its web UI (14 MB) to a new temporary folder
    at every start and never removes it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    tempfile.tempdir = str(folder.absolute())


if __name__ == "__main__":
    sys.exit(main())

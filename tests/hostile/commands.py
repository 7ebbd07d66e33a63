"""Commands in processes of their own, to be stopped by signals, and the processes that they start."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
MARK = "MARGINALIA_TEST_PROCESS"
PATIENCE = 120.0  # seconds


def heed_hangups() -> None:
    """For a new process: tests that run under nohup hand on that SIGHUP is ignored."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@dataclass
class Command:
    """A running command. All processes that it starts have its `mark` in their environment."""

    words: tuple[str, ...]
    folder: Path
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", MARK: self.mark}
        self.process = subprocess.Popen(
            [sys.executable, "-m", *self.words],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=heed_hangups,
        )

    def wait_until(self, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not ready():
            if time.monotonic() > deadline:
                self.process.kill()
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.01)

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Exit code and last line of stderr."""
        self.process.send_signal(number)
        try:
            _, errors = self.process.communicate(timeout=60)
        finally:
            self.process.kill()
            self.process.communicate()  # closes its pipes
        return self.process.returncode, errors.strip().split("\n")[-1]

    def left_behind(self, *, seconds: float = 3.0) -> list[str]:
        """The command lines of its processes that are still alive after `seconds`."""
        deadline = time.monotonic() + seconds
        while (found := list(marked(self.mark))) and time.monotonic() < deadline:
            time.sleep(0.05)
        return [" ".join(process.cmdline()) for process in found]


def marked(mark: str) -> Iterator[psutil.Process]:
    """The living processes with this mark."""
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except psutil.Error:
            continue


@contextmanager
def silent_server() -> Iterator[tuple[str, list[bytes]]]:
    """A server that accepts connections and never answers: its address, and the first bytes of each request."""
    heard: list[bytes] = []
    connections: list[socket.socket] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def read(connection: socket.socket) -> None:
        try:
            while data := connection.recv(65536):
                heard.append(data)
        except OSError:
            pass

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connections.append(connection)
            threading.Thread(target=read, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", heard
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)
        for connection in connections:
            connection.close()

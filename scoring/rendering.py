"""Templates rendered with limits on time, memory and size.

Guard files and model folders come from anywhere, and what their templates do is only known when they are run: a loop or
a string without end would hang or kill the process. So they are rendered in a process of their own, which is started
once, kept for all templates, and stopped when a template takes too long."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SECONDS = 10.0  # for one template; real ones take a millisecond
START = 60.0  # seconds that the process may take to start, on a machine that is busy
KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")  # of the environment: no key is given away


class RenderingError(Exception):
    """Why a template could not be rendered: what it raised, or the limit that it went beyond."""


class Renderer:
    """A process that renders templates, for all threads of this one. It is started when it is first needed, and again
    after a template that had to be stopped."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def render(self, template: str, variables: Mapping[str, Any], *, chat: bool = False) -> str:
        """The text of a Jinja template. `chat`: with the functions that tokenizers' chat templates may use.

        `variables` are what JSON can hold. Raises RenderingError."""
        request = {"template": template, "variables": variables, "chat": chat, "seconds": self._seconds}
        with self._lock:
            answer = self._ask(json.dumps(request).encode() + b"\n")
        if "error" in answer:
            raise RenderingError(answer["error"])
        return str(answer["text"])

    def close(self) -> None:
        """Ends the process."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        _close_pipes(process)

    def after_fork(self) -> None:
        """In a copy of this process: what was started belongs to the original."""
        self._lock = threading.Lock()
        process, self._process = self._process, None
        if process is not None:
            process.returncode = 0  # not ours to wait for
            _close_pipes(process)

    def _ask(self, request: bytes) -> dict[str, Any]:
        process = self._running()
        assert process.stdin is not None
        try:
            process.stdin.write(request)
            process.stdin.flush()
            line = _read_line(process, self._seconds)
        except TimeoutError:
            self.close()
            raise RenderingError(f"it takes longer than {self._seconds:g} seconds, and was stopped") from None
        except BrokenPipeError:
            line = b""
        except BaseException:  # an answer that nobody has read would be taken for the next one's
            self.close()
            raise
        if not line:
            self.close()
            raise RenderingError("the process that renders it ended, probably for lack of memory")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = _started()
            try:
                ready = _read_line(self._process, START)
            except TimeoutError:
                ready = b""
            if not ready:
                self.close()
                raise RenderingError("the process that renders templates does not start")
        return self._process


def _started() -> subprocess.Popen[bytes]:
    here = str(Path(__file__).parents[1])
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join([here, *(path for path in sys.path if path)])
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "marginalia.scoring.rendering_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
    except OSError as error:
        raise RenderingError(f"the process that renders templates does not start: {error}") from error


def _close_pipes(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):  # a request that nobody read
                pipe.close()


def _read_line(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    """The next line of its output, empty when there is none any more. Raises TimeoutError."""
    assert process.stdout is not None
    descriptor, end = process.stdout.fileno(), time.monotonic() + seconds
    parts: list[bytes] = []
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while not parts or not parts[-1].endswith(b"\n"):
            if not selector.select(max(end - time.monotonic(), 0)):
                raise TimeoutError
            parts.append(os.read(descriptor, 1 << 16))
            if not parts[-1]:
                return b""
    return b"".join(parts)


RENDERER = Renderer()
atexit.register(RENDERER.close)
os.register_at_fork(after_in_child=RENDERER.after_fork)

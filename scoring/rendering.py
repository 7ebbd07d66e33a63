"""Renders templates with limits on time, memory and size.

Guard files and model folders may come from anywhere, and an endless loop or string in their templates would hang or
kill the process. So templates are rendered in a separate process, which is started once, used for all templates, and
stopped when a template takes too long."""

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

SECONDS = 10.0  # for one template; normal ones take a millisecond
START_SECONDS = 60.0  # for the start of the process, on a busy machine
PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")  # environment variables; no keys among them


class RenderingError(Exception):
    """A template could not be rendered. The message is the template's error or the limit that it exceeded."""


class Renderer:
    """Renders templates in a separate process, for all threads of this one.

    The process is started when it is first needed, and again after it had to be stopped. `seconds`: time limit for one
    template."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def render(self, template: str, variables: Mapping[str, Any], *, chat: bool = False) -> str:
        """The rendered text of a Jinja template. `variables`: JSON values; `chat`: also provide the functions that
        tokenizers' chat templates may use. Raises RenderingError."""
        return self._render(template, variables, chat=chat)[0]

    def render_chat(self, template: str, variables: Mapping[str, Any]) -> tuple[str, bool]:
        """The rendered text of a chat template, and whether the template asked for the current date. Raises
        RenderingError."""
        return self._render(template, variables, chat=True)

    def _render(self, template: str, variables: Mapping[str, Any], *, chat: bool) -> tuple[str, bool]:
        request = {"template": template, "variables": variables, "chat": chat, "seconds": self._seconds}
        with self._lock:
            answer = self._ask(json.dumps(request).encode() + b"\n")
        if "error" in answer:
            raise RenderingError(answer["error"])
        return str(answer["text"]), bool(answer["dated"])

    def close(self) -> None:
        """Stops the process, if it runs."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        _close_pipes(process)

    def after_fork(self) -> None:
        """For a forked copy of this process: forgets the rendering process, which belongs to the original."""
        self._lock = threading.Lock()
        process, self._process = self._process, None
        if process is not None:
            process.returncode = 0  # the original process waits for it
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
            raise RenderingError(f"it takes longer than {self._seconds:g} seconds and was stopped") from None
        except BrokenPipeError:
            line = b""
        except BaseException:  # an unread answer would be taken for the answer to the next request
            self.close()
            raise
        if not line:
            self.close()
            raise RenderingError("the rendering process ended, probably because it ran out of memory")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = _start()
            try:
                ready = _read_line(self._process, START_SECONDS)
            except TimeoutError:
                ready = b""
            if not ready:
                self.close()
                raise RenderingError("the rendering process does not start")
        return self._process


def _start() -> subprocess.Popen[bytes]:
    package_folder = str(Path(__file__).parents[1])
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join([package_folder, *(path for path in sys.path if path)])
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "marginalia.scoring.rendering_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
    except OSError as error:
        raise RenderingError(f"the rendering process does not start: {error}") from error


def _close_pipes(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):  # an unread request cannot be flushed
                pipe.close()


def _read_line(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    """The next line of the process's output; empty at its end. Raises TimeoutError after `seconds`."""
    assert process.stdout is not None
    descriptor, deadline = process.stdout.fileno(), time.monotonic() + seconds
    parts: list[bytes] = []
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while not parts or not parts[-1].endswith(b"\n"):
            if not selector.select(max(deadline - time.monotonic(), 0)):
                raise TimeoutError
            parts.append(os.read(descriptor, 1 << 16))
            if not parts[-1]:
                return b""
    return b"".join(parts)


RENDERER = Renderer()
atexit.register(RENDERER.close)
os.register_at_fork(after_in_child=RENDERER.after_fork)

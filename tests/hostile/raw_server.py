"""A loopback server that sends exactly the bytes that a test orders, at the times that it orders."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

Script = Callable[[str, bytes], Iterable[bytes | float]]


class RawServer:
    """For each request `script(path, body)` gives what to send: bytes, and seconds to wait. The connection stays open
    for further requests. `connections` counts them, `requests` holds path and body of each request, `heads` its header
    lines in small letters."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._over = threading.Event()
        self.requests: list[tuple[str, bytes]] = []
        self.heads: list[list[bytes]] = []

    @property
    def connections(self) -> int:
        return len(self._open)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._over.set()
        for opened in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
            opened.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), connection.makefile("rb") as incoming:
            while line := incoming.readline():
                length, head = 0, []
                while header := incoming.readline().strip().lower():
                    head.append(header)
                    if header.startswith(b"content-length:"):
                        length = int(header.partition(b":")[2])
                request = (line.split()[1].decode(), incoming.read(length))
                self.requests.append(request)
                self.heads.append(head)
                for step in self._script(*request):
                    if self._over.is_set():
                        return
                    if isinstance(step, float):
                        time.sleep(step)
                    else:
                        connection.sendall(step)


def answer(body: bytes, *headers: bytes, status: int = 200) -> bytes:
    """A whole HTTP answer."""
    lines = [f"HTTP/1.1 {status} X".encode(), b"Content-Type: application/json", *headers]
    return b"\r\n".join([*lines, f"Content-Length: {len(body)}".encode(), b"", body])

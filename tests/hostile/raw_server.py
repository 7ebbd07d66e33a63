"""A loopback server that sends exactly the bytes that a test orders, at the times that it orders."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

Script = Callable[[str, bytes], Iterable[bytes | float]]

# a self-signed certificate for 127.0.0.1 with its private key, valid until 2126
CERTIFICATE = Path(__file__).with_name("certificate.pem")


class RawServer:
    """For each request `script(path, body)` gives what to send: bytes, and seconds to wait. The connection stays open
    for further requests. `connections` counts them, `requests` holds path and body of each request, `heads` its header
    lines in small letters. `tls`: with the certificate CERTIFICATE. `greeting`: sent before the first
    request, after which `has_greeted` is set."""

    def __init__(self, script: Script, *, tls: bool = False, greeting: bytes = b"") -> None:
        self._script = script
        self._greeting = greeting
        self.has_greeted = threading.Event()
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if tls else None
        if self._tls is not None:
            self._tls.load_cert_chain(CERTIFICATE)
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
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"

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
                # a copy that outlives the TLS connection, which takes the socket over
                self._open.append(connection if self._tls is None else connection.dup())
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError, IndexError), contextlib.ExitStack() as stack:
            if self._tls is not None:
                connection = stack.enter_context(self._tls.wrap_socket(connection, server_side=True))
            incoming = stack.enter_context(connection.makefile("rb"))
            connection.sendall(self._greeting)
            self.has_greeted.set()
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

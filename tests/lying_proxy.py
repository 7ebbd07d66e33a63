"""A loopback proxy in front of a real server: it passes calls on, but answers some of them with a fault.

    with LyingProxy(server.url, rates={"500": 0.1, "reset": 0.1}) as proxy: … proxy.url, proxy.calls
    with LyingProxy(server.url, at={3: "reset"}) as proxy: the third call alone

With `rates`, a fault is drawn from a hash of the request and of how often the same request came before. So a run is
reproducible, and a retried call has a new chance. The server does not see a call that is answered with `429` or `503`.
With all other faults the server has done the work, but the client does not learn of it."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import random
import socket
import struct
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

FAULTS = ("429", "500", "503", "reset", "hang", "cut", "truncated", "html")
PAGE = b"<!doctype html><title>Gateway</title><p>Please sign in"
CONNECTION_HEADERS = ("connection", "content-length", "transfer-encoding", "keep-alive", "date", "server")


class LyingProxy:
    """Serves on a free port. With `status`, every call is answered with it, and none is passed on.

    `calls` lists the method and path of every call, `faults` counts the faults by name, `passed` counts the calls that
    reached the server."""

    def __init__(
        self,
        target: str,
        *,
        rates: dict[str, float] | None = None,
        at: dict[int, str] | None = None,
        status: int | None = None,
        retry_after: str = "0",
    ) -> None:
        parts = urlsplit(target)
        self.rates, self.at, self.status = rates or {}, at or {}, status
        assert {*self.rates, *self.at.values()} <= set(FAULTS)
        self.retry_after = retry_after
        self.calls: list[tuple[str, str]] = []
        self.faults: Counter[str] = Counter()
        self.passed = 0
        self.host, self.port = str(parts.hostname), parts.port
        self.over = threading.Event()
        self._times: Counter[bytes] = Counter()
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}{parts.path}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.over.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def fault(self, method: str, path: str, body: bytes) -> str | None:
        """The fault for the next call; None: no fault."""
        with self._lock:
            self.calls.append((method, path))
            number = len(self.calls)
            identity = hashlib.sha256(f"{method} {path}\0".encode() + body).digest()
            self._times[identity] += 1
            fault = self.at.get(number)
            draw = random.Random(f"{identity.hex()}:{self._times[identity]}").random()
            for name, rate in self.rates.items():
                draw -= rate
                if draw < 0 and fault is None:
                    fault = name
            if fault is not None:
                self.faults[fault] += 1
            return fault


def _handler(proxy: LyingProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            fault = proxy.fault(self.command, self.path, body)
            if proxy.status is not None:
                self.answer(proxy.status, b'{"detail": "set by the test"}')
            elif fault == "429":
                self.answer(429, b"slow down", {"Retry-After": proxy.retry_after})
            elif fault == "503":
                self.answer(503, b"no healthy upstream", {"content-type": "text/plain"})
            else:
                self.answer_with(fault, *self.pass_on(body))

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do

        def pass_on(self, body: bytes) -> tuple[int, bytes, dict[str, str]]:
            left_out = ("host", "connection", "content-length", "accept-encoding")
            headers = {name: value for name, value in self.headers.items() if name.lower() not in left_out}
            connection = http.client.HTTPConnection(proxy.host, proxy.port, timeout=60)
            try:
                connection.request(self.command, self.path, body or None, headers)
                answer = connection.getresponse()
                proxy.passed += 1
                returned = {
                    name: value for name, value in answer.headers.items() if name.lower() not in CONNECTION_HEADERS
                }
                return answer.status, answer.read(), returned
            finally:
                connection.close()

        def answer_with(self, fault: str | None, status: int, body: bytes, headers: dict[str, str]) -> None:
            if fault is None:
                self.answer(status, body, headers)
            elif fault == "500":
                self.answer(500, b"upstream trouble", {"content-type": "text/plain"})
            elif fault == "html":
                self.answer(200, PAGE, {"content-type": "text/html"})
            elif fault == "truncated":
                self.answer(status, body[: len(body) // 2], headers)
            elif fault == "cut":
                self.answer(status, body[: len(body) // 2], {**headers, "Content-Length": str(len(body) + 1)})
                self.close_connection = True
            elif fault == "hang":
                proxy.over.wait(60)
                self.close_connection = True
            else:
                # an abortive close: the client sees the connection reset
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True

        def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            lines = {"Content-Length": str(len(body)), **(headers or {})}
            if status == 204:
                lines.pop("Content-Length")
            self.send_response(status)
            for name, value in lines.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD" and status != 204:
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):  # a client that has given up
                super().handle()

    return Handler

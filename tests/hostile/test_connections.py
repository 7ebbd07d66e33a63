"""Connections end with their request's deadline, and are neither used again nor left open after an error."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from marginalia.schemas.http_client import BodyTooLarge, ExchangeLimits, async_client, client
from marginalia.scoring.models.endpoint_calls import Caller
from tests.hostile.conftest import KEY
from tests.hostile.raw_server import CERTIFICATE, RawServer, answer

ESTABLISHED = "01"  # in /proc/net/tcp
HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 50


def open_connections(server: RawServer) -> int:
    """How many connections to the server this process holds open."""
    port = f"{int(server.url.rpartition(':')[2]):04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    return sum(row[2].endswith(f":{port}") and row[3] == ESTABLISHED for row in rows)


@pytest.fixture
def slow_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Looking up any name takes until the end of the test."""
    is_over = threading.Event()

    def look_up(*_: Any, **__: Any) -> list[Any]:
        is_over.wait(10)
        raise OSError("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield
    is_over.set()


@pytest.mark.usefixtures("slow_names")
def test_a_name_lookup_that_never_ends() -> None:
    started = time.monotonic()
    with client(ExchangeLimits(0.3, 100), proxies=False) as http, pytest.raises(httpx2.ConnectTimeout):
        http.get("http://slow.invalid")
    assert time.monotonic() - started < 5


@pytest.mark.usefixtures("slow_names")
def test_a_name_lookup_that_never_ends_in_asyncio() -> None:
    async def ask() -> None:
        async with async_client(ExchangeLimits(0.3, 100), proxies=False) as http:
            with pytest.raises(httpx2.ConnectTimeout):
                await http.get("http://slow.invalid")

    started = time.monotonic()
    asyncio.run(ask())
    assert time.monotonic() - started < 5


def test_a_cancelled_call_leaves_no_connection_behind() -> None:
    async def ask() -> None:
        async with async_client(ExchangeLimits(10.0, 1000)) as http:
            for _ in range(5):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(http.get(f"{server.url}/half"), 0.1)
            assert (await http.get(server.url)).text == "right"
            assert open_connections(server) == 1, "the last one is kept"

    with RawServer(lambda path, _: [HALF, 5.0] if path == "/half" else [answer(b"right")]) as server:
        asyncio.run(ask())


def test_a_failed_call_leaves_no_connection_behind() -> None:
    with (
        RawServer(lambda path, _: [answer(b"x" * 2000 if path == "/long" else b"right")]) as server,
        client(ExchangeLimits(10.0, 1000)) as http,
    ):
        for _ in range(5):
            with pytest.raises(BodyTooLarge):
                http.get(f"{server.url}/long")
        assert http.get(server.url).text == "right"
        assert server.connections == 6
        assert open_connections(server) == 1, "the last one is kept"


def get_all(is_async: bool, urls: list[str], before_sending: Callable[[], None], seconds: float = 0.0) -> list[str]:
    """The answers of one client, which calls `before_sending` between taking a connection and sending a request. The
    event loop then runs for `seconds`."""
    limits = ExchangeLimits(10.0, 1000)

    def on_event(event: str, _: Any) -> None:
        if event == "http11.send_request_headers.started":
            before_sending()

    async def on_event_async(event: str, information: Any) -> None:
        on_event(event, information)
        await asyncio.sleep(seconds)

    async def ask() -> list[str]:
        async with async_client(limits) as http:
            return [(await http.get(url, extensions={"trace": on_event_async})).text for url in urls]

    if is_async:
        return asyncio.run(ask())
    with client(limits) as http:
        return [http.get(url, extensions={"trace": on_event}).text for url in urls]


@pytest.mark.parametrize(
    ("is_async", "seconds"),
    [(False, 0.0), (True, 0.0), (True, 0.05)],
    ids=["blocking", "asyncio, not yet read", "asyncio, read by the event loop"],
)
def test_an_answer_that_arrives_just_before_the_next_request(is_async: bool, seconds: float) -> None:
    has_stale, may_send, has_sent = threading.Event(), threading.Event(), threading.Event()

    def script(path: str, _: bytes) -> Iterator[bytes]:
        has_stale.set()
        yield answer(path.encode())
        may_send.wait(5)
        may_send.clear()
        yield answer(b"stale")
        has_sent.set()

    def send_stale() -> None:
        if has_stale.is_set():
            has_stale.clear()
            may_send.set()
            assert has_sent.wait(5)
            has_sent.clear()

    with RawServer(script) as server:
        urls = [f"{server.url}/{number}" for number in range(4)]
        assert get_all(is_async, urls, send_stale, seconds) == ["/0", "/1", "/2", "/3"]
        assert server.connections == 4


@pytest.mark.parametrize("is_async", [False, True], ids=["blocking", "asyncio"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_an_answer_before_the_first_request(monkeypatch: pytest.MonkeyPatch, is_async: bool, tls: bool) -> None:
    context = ssl.create_default_context(cafile=str(CERTIFICATE))
    monkeypatch.setattr("marginalia.schemas.http_client._certificates", lambda: context)

    def wait() -> None:
        assert server.has_greeted.wait(5)

    with (
        RawServer(lambda *_: [answer(b"right")], tls=tls, greeting=answer(b"stale")) as server,
        pytest.raises(httpx2.RemoteProtocolError, match="the server answered before it was asked"),
    ):
        get_all(is_async, [server.url], wait, 0.05)


@pytest.mark.parametrize("is_async", [False, True], ids=["blocking", "asyncio"])
def test_failed_handshakes_behind_a_proxy_do_not_use_up_the_connections(
    monkeypatch: pytest.MonkeyPatch, is_async: bool
) -> None:
    monkeypatch.setattr("marginalia.schemas.http_client.proxy_for", lambda url: proxy.url)
    monkeypatch.setattr("marginalia.schemas.http_client._certificates", ssl.create_default_context)
    limits, url = ExchangeLimits(2.0, 1000), "https://server.invalid"

    async def ask() -> None:
        async with async_client(limits, connections=1) as http:
            for _ in range(3):
                with pytest.raises(httpx2.ConnectError):
                    await http.get(url)

    with RawServer(lambda *_: [b"HTTP/1.1 200 OK\r\n\r\n", 0.05, b"this is not TLS\r\n"]) as proxy:
        if is_async:
            asyncio.run(ask())
        else:
            with client(limits, connections=1) as http:
                for _ in range(3):
                    with pytest.raises(httpx2.ConnectError):
                        http.get(url)
        tunnels = [path for path, _ in proxy.requests if path.endswith(":443")]  # a client may still send TLS bytes
        assert tunnels == ["server.invalid:443"] * 3


@pytest.fixture
def caller() -> Iterator[Caller]:
    with RawServer(lambda *_: [5.0]) as server:
        yield Caller([f"{server.url}/v1"], KEY, concurrency=1, retries=0, timeout_seconds=30.0)


def test_a_waiting_call_ends_when_its_client_is_closed(caller: Caller) -> None:
    errors: list[BaseException] = []

    def call() -> None:
        try:
            caller.get("models")
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    time.sleep(0.2)
    caller.close()
    thread.join(3)
    assert not thread.is_alive() and len(errors) == 1
    with pytest.raises(RuntimeError, match="this client was closed"):
        caller.get("models")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_client_in_a_forked_process_says_so(caller: Caller) -> None:
    child = os.fork()
    if child == 0:
        try:
            caller.get("models")
        except RuntimeError:
            os._exit(7)
        finally:
            os._exit(1)
    started = time.monotonic()
    while (done := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < started + 3:
        time.sleep(0.02)
    if done[0] == 0:
        os.kill(child, 9)
        os.waitpid(child, 0)
    caller.close()
    assert done[0] and os.waitstatus_to_exitcode(done[1]) == 7

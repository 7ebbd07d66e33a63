"""Encrypted connections, blocking (annotate) and asyncio (generate, score): the rules of plain ones apply."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterable, Iterator

import pytest

from marginalia.schemas import http_client
from tests.hostile.conftest import OWN_ERRORS, Client
from tests.hostile.raw_server import CERTIFICATE, RawServer
from tests.hostile.test_hostile_servers import HEAD, ME, asked, endless, reply


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.create_default_context(cafile=str(CERTIFICATE))
    monkeypatch.setattr(http_client, "_certificates", lambda: context)


def right_answers(path: str, body: bytes) -> Iterator[bytes | float]:
    yield ME if path.endswith("/me") else reply(f"to {asked(path, body)}")


@pytest.mark.usefixtures("trusted")
def test_a_connection_is_kept_for_several_calls(ask: Client) -> None:
    with RawServer(right_answers, tls=True) as server:
        assert ask(server.url, ["one", "two", "three"]) == ["to one", "to two", "to three"]
        assert server.connections == 1


def test_a_certificate_that_is_not_trusted(ask: Client) -> None:
    with RawServer(right_answers, tls=True) as server:
        with pytest.raises(OWN_ERRORS, match="certificate verify failed"):
            ask(server.url, ["one"])
        assert server.requests == []


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    "steps",
    [
        lambda: endless(b"x", 0.02, first=b"HTTP/1.1 200 OK\r\nX-Slow: "),
        lambda: endless(b" ", 0.02, first=HEAD + b"Content-Length: 900000\r\n\r\n"),
    ],
    ids=["header", "body"],
)
def test_an_answer_that_never_ends(ask: Client, steps: object) -> None:
    started = time.monotonic()
    with (
        RawServer(lambda path, _: [ME] if path.endswith("/me") else steps(), tls=True) as server,  # type: ignore[operator]
        pytest.raises(OWN_ERRORS, match=r"no (complete )?answer in"),
    ):
        ask(server.url, ["one"], seconds=0.5)
    assert time.monotonic() - started < 5


@pytest.mark.usefixtures("trusted")
def test_a_handshake_that_never_ends(ask: Client) -> None:
    started = time.monotonic()
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(OWN_ERRORS, match=r"no answer in 0.5 s|the TLS handshake timed out"),
    ):
        ask(f"https://127.0.0.1:{silent.getsockname()[1]}", ["one"], seconds=0.5)
    assert time.monotonic() - started < 5


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("pause", [None, 0.03], ids=["in one piece", "a little later"])
def test_an_answer_that_nobody_asked_for(ask: Client, pause: float | None) -> None:
    def script(path: str, body: bytes) -> Iterable[bytes | float]:
        if path.endswith("/me"):
            return [ME]
        right, stale = reply(f"to {asked(path, body)}"), reply("to nothing")
        return [right + stale] if pause is None else [right, pause, stale]

    with RawServer(script, tls=True) as server:
        assert ask(server.url, ["one", "two", "three"], retries=2) == ["to one", "to two", "to three"]
        assert server.connections > 1

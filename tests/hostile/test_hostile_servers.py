"""Servers that break HTTP on purpose: every client ends in time with its own error, or with the right answer."""

from __future__ import annotations

import json
import time
import tracemalloc
import zlib
from collections.abc import Iterable
from pathlib import Path

import httpx2
import pytest

from marginalia.schemas.errors import InputError, MarginaliaError, ModelError, ServiceError
from marginalia.schemas.http_client import BodyTooLarge, ExchangeLimits, check_proxy, client
from marginalia.schemas.hub_client import check_downloads, upload_to
from marginalia.scoring.models.completions_api import check_numbers, read_answer
from tests.hostile.conftest import KEY, OWN_ERRORS, Client
from tests.hostile.raw_server import RawServer, answer

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
ME = answer(b'{"role": "owner", "username": "o", "text": "me"}')


def reply(text: str) -> bytes:
    """An answer that all three clients read `text` from."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return answer(json.dumps({"text": text, "choices": [choice]}).encode())


def asked(path: str, body: bytes) -> str:
    """The question that a request holds."""
    if not body:
        return path.rpartition("/")[2].partition("?")[0]
    value = json.loads(body)
    return str(value["prompt"] if "prompt" in value else value["messages"][0]["content"])


def packed(zeros: int) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(zeros >> 20)), packer.flush()])


BOMB = answer(packed(100 << 20), b"Content-Encoding: gzip")


@pytest.mark.parametrize("pause", [None, 0.03], ids=["in one piece", "a little later"])
def test_an_answer_that_nobody_asked_for_is_not_the_next_ones(ask: Client, pause: float | None) -> None:
    def script(path: str, body: bytes) -> Iterable[bytes | float]:
        if path.endswith("/me"):
            return [ME]
        right, stale = reply(f"to {asked(path, body)}"), reply("to nothing")
        return [right + stale] if pause is None else [right, pause, stale]

    with RawServer(script) as server:
        assert ask(server.url, ["one", "two", "three", "four"], retries=2) == [
            "to one",
            "to two",
            "to three",
            "to four",
        ]
        assert server.connections > 1


@pytest.mark.parametrize("ask", ["generate", "score"], indirect=True)
def test_an_answer_that_names_another_request(ask: Client) -> None:
    """A gateway that repeats the request's id and has mixed up two answers."""

    def script(path: str, body: bytes) -> Iterable[bytes | float]:
        number = len(server.heads) - 1
        names = [line for head in server.heads for line in head if line.startswith(b"x-request-id: marginalia-")]
        assert len(set(names)) == number + 1
        named = names[0] if number == 1 else names[number]
        content = reply(asked(path, body)).partition(b"\r\n\r\n")[2]
        return [answer(content, named)]

    with RawServer(script) as server:
        assert ask(server.url, ["one", "two", "three"], retries=1) == ["one", "two", "three"]
        assert len(server.requests) == 4
        server.heads.clear()
        with pytest.raises(OWN_ERRORS, match="belongs to another request"):
            ask(server.url, ["one", "two"])


@pytest.mark.parametrize("ask", ["generate", "score"], indirect=True)
@pytest.mark.parametrize("is_first", [True, False])
def test_a_proxy_that_adds_a_request_id_of_its_own(ask: Client, is_first: bool) -> None:
    def script(path: str, body: bytes) -> Iterable[bytes | float]:
        ids = [line for line in server.heads[-1] if line.startswith(b"x-request-id: ")]
        ids.insert(0 if is_first else 1, b"X-Request-Id: 7f3c")
        return [answer(reply(asked(path, body)).partition(b"\r\n\r\n")[2], *ids)]

    with RawServer(script) as server:
        assert ask(server.url, ["one", "two"]) == ["one", "two"]
        assert len(server.requests) == 2


def test_a_part_of_an_answer_that_nobody_asked_for(ask: Client) -> None:
    def script(path: str, body: bytes) -> Iterable[bytes | float]:
        stale = reply("to nothing")
        return [ME] if path.endswith("/me") else [reply(f"to {asked(path, body)}") + stale[:30], 0.03, stale[30:]]

    with RawServer(script) as server:
        assert ask(server.url, ["one", "two", "three"], retries=2) == ["to one", "to two", "to three"]


def test_an_answer_that_nobody_asked_for_ends_after_the_next_request(ask: Client) -> None:
    stale, answers = reply("to nothing"), 0

    def script(path: str, body: bytes) -> Iterable[bytes | float]:
        nonlocal answers
        if path.endswith("/me"):
            return [ME]
        answers += 1
        right = reply(f"to {asked(path, body)}")
        return [right + stale[:30]] if answers % 2 else [stale[30:] + right]

    with RawServer(script) as server:
        assert ask(server.url, ["one", "two", "three"], retries=2) == ["to one", "to two", "to three"]


def test_a_connection_is_kept_where_nothing_is_wrong(ask: Client) -> None:
    with RawServer(lambda path, body: [ME] if path.endswith("/me") else [reply(asked(path, body))]) as server:
        assert ask(server.url, ["one", "two", "three"]) == ["one", "two", "three"]
        assert server.connections == 1


LATE = r"no (complete )?answer in"  # of httpx2's errors, and of the clients' own


def endless(part: bytes, pause: float | None = None, *, first: bytes = b"") -> Iterable[bytes | float]:
    yield first
    while True:
        yield part
        if pause is not None:
            yield pause


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (lambda: endless(b"x", 0.02, first=b"HTTP/1.1 200 OK\r\nX-Slow: "), LATE),
        (lambda: endless(b" ", 0.02, first=HEAD + b"Content-Length: 900000\r\n\r\n"), LATE),
        (lambda: endless(b"X: y\r\n", 0.02, first=HEAD), LATE),
        (lambda: endless(b"HTTP/1.1 100 Continue\r\n\r\n", 0.001), LATE),
        (lambda: endless(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000), LATE),
        (lambda: endless(b" " * 65536, first=HEAD + b"\r\n"), "an answer of more than 2,000,000 bytes"),
        (
            lambda: endless(b"10000\r\n" + b" " * 65536 + b"\r\n", first=HEAD + b"Transfer-Encoding: chunked\r\n\r\n"),
            "an answer of more than 2,000,000 bytes",
        ),
        (
            lambda: endless(b"x" * 65536, first=HEAD + b"Content-Encoding: gzip\r\n\r\n" + packed(0)),
            "bytes follow the end of its packed data",
        ),
        (lambda: [BOMB], "an answer of more than 2,000,000 bytes"),
        (lambda: [answer(packed(1 << 20)[:-9], b"Content-Encoding: gzip")], "cannot be unpacked"),
        (lambda: [answer(b"{}", b"Content-Encoding: zstd")], "packed as 'zstd', which was not asked for"),
    ],
    ids=[
        *(
            "header",
            "body",
            "headers",
            "100 slowly",
            "100 flood",
            "endless",
            "endless chunks",
            "endless after gzip",
            "gzip bomb",
        ),
        *("cut gzip", "zstd"),
    ],
)
def test_a_server_that_never_ends(ask: Client, steps: object, message: str) -> None:
    started = time.monotonic()
    with (
        RawServer(lambda path, _: [ME] if path.endswith("/me") else steps()) as server,  # type: ignore[operator]
        pytest.raises(OWN_ERRORS, match=message),
    ):
        ask(server.url, ["one"], seconds=0.5 if message == LATE else 10.0)
    assert time.monotonic() - started < 5


def test_a_gzip_bomb_is_never_whole_in_memory() -> None:
    with RawServer(lambda path, body: [BOMB]) as server, client(ExchangeLimits(5.0, 1_000_000)) as http:
        tracemalloc.start()
        try:
            with pytest.raises(BodyTooLarge):
                http.get(server.url)
            assert tracemalloc.get_traced_memory()[1] < 8_000_000
        finally:
            tracemalloc.stop()


def test_gzip_that_nobody_asked_for_is_read_where_it_is_small(ask: Client) -> None:
    def script(path: str, body: bytes) -> Iterable[bytes | float]:
        content = reply(asked(path, body)).partition(b"\r\n\r\n")[2]
        packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
        small = packer.compress(content) + packer.flush()
        return [ME] if path.endswith("/me") else [answer(small, b"Content-Encoding: gzip")]

    with RawServer(script) as server:
        assert ask(server.url, ["one", "two"]) == ["one", "two"]


@pytest.mark.parametrize("status", [200, 400, 500])
@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"error":' * 100_000, b'{"choices":[' + b"[" * 100_000])
def test_deeply_nested_json(ask: Client, status: int, body: bytes) -> None:
    with (
        RawServer(lambda path, _: [ME] if path.endswith("/me") else [answer(body, status=status)]) as server,
        pytest.raises(OWN_ERRORS),
    ):
        ask(server.url, ["one"])


def test_the_first_answer_is_deeply_nested_json() -> None:
    from marginalia.annotation.client.connection import Connection

    with (
        RawServer(lambda *_: [answer(b"[" * 100_000)]) as server,
        pytest.raises(MarginaliaError, match="deeply nested JSON"),
    ):
        Connection(server.url, KEY, key_hint="")


@pytest.mark.parametrize(
    ("proxy", "message"),
    [
        ("socks5://127.0.0.1:9", "a proxy of kind socks5; only http proxies can be used"),
        ("https://127.0.0.1:9", "a proxy of kind https; only http proxies can be used"),
        ("socks4://127.0.0.1:9", "a proxy of kind socks4; only http proxies can be used"),
        ("http://127.0.0.1:99999", "is not an address"),
        ("http://user:secret-word@host:port", "is not an address"),
        ("http://", "is not an address"),
    ],
)
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
def test_a_proxy_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, ask: Client, proxy: str, message: str, variable: str
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, proxy)
    with pytest.raises(InputError, match=message) as raised:
        check_proxy("http://server.invalid")
    assert "secret-word" not in str(raised.value) and "NO_PROXY" in str(raised.value)
    with RawServer(lambda path, body: [ME] if path.endswith("/me") else [reply(asked(path, body))]) as server:
        assert ask(server.url, ["one"]) == ["one"], "this machine is reached without it"


@pytest.mark.parametrize(
    ("value", "message"),
    [(10**400, "add up to"), (-(10**400), "only tokens with probability 0")],
    ids=["plus", "minus"],
)
def test_a_log_probability_of_400_digits(value: int, message: str) -> None:
    body = {"choices": [{"logprobs": {"top_logprobs": [{"token_id:1": value}]}}]}
    with pytest.raises(ModelError, match=message):
        check_numbers(read_answer(body))


def test_the_hub_answers_with_deeply_nested_json(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfApi, set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    try:
        with RawServer(lambda *_: [answer(b"[" * 100_000)]) as server:
            upload_to(server.url, timeout=5.0, allow_http=False)
            with pytest.raises(ServiceError, match="does not answer as the Hub does: deeply nested JSON"):
                HfApi(endpoint=server.url).repo_info("owner/name")
    finally:
        set_client_factory(default_client_factory)


def test_the_hub_offers_xet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants, hf_hub_download, set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    xet = [b"X-Xet-Hash: " + b"a" * 64, b"X-Xet-Refresh-Route: /xet"]
    file = answer(b"content", b'ETag: "e1"', b"X-Linked-Size: 7", b"X-Repo-Commit: " + b"0" * 40, *xet)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    try:
        with RawServer(lambda *_: [file]) as server:
            check_downloads()
            path = hf_hub_download("owner/name", "f.bin", endpoint=server.url, cache_dir=tmp_path)
            assert Path(path).read_bytes() == b"content"
            assert {path for path, _ in server.requests} == {"/owner/name/resolve/main/f.bin"}
    finally:
        set_client_factory(default_client_factory)


@pytest.mark.parametrize(
    ("steps", "error"),
    [
        (lambda: endless(b"x", 0.02, first=b"HTTP/1.1 200 OK\r\nX-Slow: "), httpx2.ReadTimeout),
        (lambda: endless(b"x", 0.02, first=HEAD + b"Content-Length: 900000\r\n\r\n"), httpx2.ReadTimeout),
        (lambda: [BOMB], BodyTooLarge),
    ],
)
def test_the_hub_is_slow_or_never_ends(monkeypatch: pytest.MonkeyPatch, steps: object, error: type[Exception]) -> None:
    from huggingface_hub import get_session, set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    monkeypatch.setattr("marginalia.schemas.hub_client._LARGEST_ANSWER", 1_000_000)
    try:
        with RawServer(lambda *_: steps()) as server:  # type: ignore[operator]
            upload_to(server.url, timeout=0.5 if error is httpx2.ReadTimeout else 10.0, allow_http=False)
            with pytest.raises(error):
                get_session().get(f"{server.url}/api/datasets/owner/name")
    finally:
        set_client_factory(default_client_factory)


def test_a_transfer_may_take_as_long_as_its_bytes_need() -> None:
    pieces = [step for _ in range(15) for step in (b"x" * 20_000, 0.05)]
    head = HEAD + b"Content-Length: 300000\r\n\r\n"
    with RawServer(lambda *_: [head, *pieces]) as server:
        with client(ExchangeLimits(0.4, 10**6, slowest_rate=10_000.0)) as http:
            assert len(http.get(server.url).content) == 300_000
        with client(ExchangeLimits(0.4, 10**6)) as http, pytest.raises(httpx2.ReadTimeout):
            http.get(server.url)

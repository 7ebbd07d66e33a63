"""The HTTP clients of all parts: those of httpx2, protected against hostile and broken servers.

- One deadline covers the whole exchange: name lookup, connection, TLS handshake, request and answer.
- The body of an answer is limited in bytes, counted after decompression.
- An answer that no request asked for is never taken for the answer to the next request.
- Redirects are followed only where a caller allows it, cookies are ignored, compressed answers are not asked for.
- Proxies come from the environment, except for addresses of this machine (marginalia.schemas.server_addresses).

Errors are those of httpx2. `request.extensions[ANSWERED]` holds the status of the answer as soon as that has arrived:
after an error it shows whether the error came before the answer or in the middle of its body."""

from __future__ import annotations

import functools
import ssl
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, ClassVar

import httpcore2
import httpx2

from marginalia.schemas.async_http_connections import AsyncConnectionBackend
from marginalia.schemas.errors import InputError
from marginalia.schemas.http_connections import UNREQUESTED, ConnectionBackend, Deadline
from marginalia.schemas.server_addresses import proxy_for

ANSWERED = "marginalia.status"
_IDLE_SECONDS = 15.0  # that a connection is kept after its last request
_UNPACKED_BYTES = 1 << 16  # at once

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class ExchangeLimits:
    """Limits of one request and its answer: `seconds` for both together, `body_bytes` for the body of the answer.

    Where `slowest_rate` (bytes per second) is given, each byte that is transferred adds the time that it needs at that
    rate to `seconds`."""

    seconds: float
    body_bytes: int
    slowest_rate: float | None = None

    def largest_body(self, request: httpx2.Request, status: int, headers: httpx2.Headers) -> int | None:
        """The most bytes that the body of this answer may have; None for any number."""
        return self.body_bytes


class BodyTooLarge(httpx2.RequestError):
    """The body of an answer is longer than allowed."""


def client(limits: ExchangeLimits, *, proxies: bool = True, connections: int = 10, **options: Any) -> httpx2.Client:
    """A blocking client. `options` are those of httpx2.Client. Without `proxies` no proxy is used whatever the
    environment names; with them, a request raises InputError for a proxy that cannot be used."""
    return httpx2.Client(transport=_Transport(limits, proxies, connections), **_settings(options))


def async_client(
    limits: ExchangeLimits, *, proxies: bool = True, connections: int = 10, **options: Any
) -> httpx2.AsyncClient:
    """The same for asyncio."""
    return httpx2.AsyncClient(transport=_AsyncTransport(limits, proxies, connections), **_settings(options))


def check_proxy(url: str) -> None:
    """Raises InputError when `url` would be reached through a proxy of the environment that cannot be used."""
    if (proxy := proxy_for(url)) is not None:
        _proxy_settings(proxy)


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    return {
        "follow_redirects": False,
        "trust_env": False,  # the transport chooses the proxy
        "cookies": CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        **options,
        "headers": {"Accept-Encoding": "identity", **options.get("headers", {})},
    }


@functools.cache
def _certificates() -> ssl.SSLContext:
    """The certificates that are trusted: loading them takes longer than a request."""
    return httpx2.create_ssl_context()


class _Pools:
    """The connection pools of a client: for direct connections and each proxy, encrypted or not."""

    _direct_pool: ClassVar[Any]
    _proxy_pool: ClassVar[Any]
    _backend: ClassVar[Any]

    def __init__(self, limits: ExchangeLimits, proxies: bool, connections: int) -> None:
        self._limits = limits
        self._proxies = proxies
        self._settings: dict[str, Any] = {
            "network_backend": self._backend(),
            "max_connections": connections,
            "max_keepalive_connections": connections,
            "keepalive_expiry": _IDLE_SECONDS,
        }
        self._pools: dict[tuple[str | None, bool], Any] = {}
        self._proxy_of: dict[tuple[str, str], str | None] = {}  # the environment is asked once for each server

    def _pool(self, url: httpx2.URL) -> Any:
        server = (url.scheme, url.netloc.decode("ascii"))
        if server not in self._proxy_of:
            self._proxy_of[server] = proxy_for(str(url)) if self._proxies else None
        proxy, secure = self._proxy_of[server], url.scheme == "https"
        if (pool := self._pools.get((proxy, secure))) is None:
            opened = self._opened(proxy, _certificates() if secure else None)
            pool = self._pools.setdefault((proxy, secure), opened)  # another thread may have been faster
        return pool

    def _opened(self, proxy: str | None, certificates: ssl.SSLContext | None) -> Any:
        if proxy is None:
            return self._direct_pool(ssl_context=certificates, **self._settings)
        return self._proxy_pool(ssl_context=certificates, **_proxy_settings(proxy), **self._settings)

    def _core_request(self, request: httpx2.Request) -> httpcore2.Request:
        limits = self._limits
        deadline = Deadline(limits.seconds, slowest_rate=limits.slowest_rate)
        # our network backends take the deadline in place of seconds
        waits = {"connect": deadline, "read": deadline, "write": deadline, "pool": limits.seconds}
        return httpcore2.Request(
            method=request.method,
            url=_core_url(request.url),
            headers=request.headers.raw,
            content=request.stream,
            extensions={**request.extensions, "timeout": waits},
        )

    def _body(self, request: httpx2.Request, answer: httpcore2.Response) -> tuple[Headers, _Body]:
        """The headers of the unpacked body, and the check of its bytes. Raises for an answer that no request asked for,
        and for one that is packed in an unknown way."""
        request.extensions[ANSWERED] = answer.status
        stream = answer.extensions.get("network_stream")
        if stream is not None and stream.get_extra_info(UNREQUESTED):
            raise httpcore2.RemoteProtocolError("an answer arrived that belongs to no request")
        headers = httpx2.Headers(answer.headers)
        encoding = headers.get("content-encoding", "identity").strip().lower()
        raw: Headers = list(answer.headers)
        if request.method == "HEAD" or encoding in ("", "identity"):
            encoding = "identity"
        else:
            raw = [(name, value) for name, value in raw if name.lower() not in (b"content-encoding", b"content-length")]
        return raw, _Body(encoding, self._limits.largest_body(request, answer.status, headers))


class _ProxyPool(httpcore2.HTTPProxy):
    """Closes a tunnel whose TLS handshake fails: httpcore2 would count it as one of its open connections forever."""

    def create_connection(self, origin: httpcore2.Origin) -> Any:
        connection: Any = super().create_connection(origin)
        handle_request = connection.handle_request

        def handle_or_close(request: httpcore2.Request) -> Any:
            try:
                return handle_request(request)
            except httpcore2.ConnectionNotAvailable:
                raise
            except BaseException:
                connection.close()
                raise

        connection.handle_request = handle_or_close
        return connection


class _AsyncProxyPool(httpcore2.AsyncHTTPProxy):
    """The same for asyncio."""

    def create_connection(self, origin: httpcore2.Origin) -> Any:
        connection: Any = super().create_connection(origin)
        handle_request = connection.handle_async_request

        async def handle_or_close(request: httpcore2.Request) -> Any:
            try:
                return await handle_request(request)
            except httpcore2.ConnectionNotAvailable:
                raise
            except BaseException:
                await connection.aclose()
                raise

        connection.handle_async_request = handle_or_close
        return connection


class _Transport(_Pools, httpx2.BaseTransport):
    _direct_pool = httpcore2.ConnectionPool
    _proxy_pool = _ProxyPool
    _backend = ConnectionBackend

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        pool = self._pool(request.url)
        with _translated():
            answer = pool.handle_request(self._core_request(request))
            try:
                headers, body = self._body(request, answer)
            except BaseException:
                answer.close()
                raise
        stream = _CheckedStream(answer.stream, body)
        return httpx2.Response(answer.status, headers=headers, stream=stream, extensions=answer.extensions)

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()


class _AsyncTransport(_Pools, httpx2.AsyncBaseTransport):
    _direct_pool = httpcore2.AsyncConnectionPool
    _proxy_pool = _AsyncProxyPool
    _backend = AsyncConnectionBackend

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        pool = self._pool(request.url)
        with _translated():
            answer = await pool.handle_async_request(self._core_request(request))
            try:
                headers, body = self._body(request, answer)
            except BaseException:
                await answer.aclose()
                raise
        stream = _CheckedAsyncStream(answer.stream, body)
        return httpx2.Response(answer.status, headers=headers, stream=stream, extensions=answer.extensions)

    async def aclose(self) -> None:
        for pool in self._pools.values():
            await pool.aclose()


class _CheckedStream(httpx2.SyncByteStream):
    def __init__(self, stream: Any, body: _Body) -> None:
        self._stream = stream
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        with _translated():
            for chunk in self._stream:
                yield from self._body.unpacked(chunk)
            self._body.check_complete()

    def close(self) -> None:
        with _translated():
            self._stream.close()


class _CheckedAsyncStream(httpx2.AsyncByteStream):
    def __init__(self, stream: Any, body: _Body) -> None:
        self._stream = stream
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _translated():
            async for chunk in self._stream:
                for piece in self._body.unpacked(chunk):
                    yield piece
            self._body.check_complete()

    async def aclose(self) -> None:
        with _translated():
            await self._stream.aclose()


class _Body:
    """Unpacks a body piece by piece and counts its bytes. Some servers compress without being asked."""

    def __init__(self, encoding: str, largest: int | None) -> None:
        self._left = largest
        self._largest = largest
        self._unpacker = None
        if encoding in ("gzip", "x-gzip"):
            self._unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
        elif encoding == "deflate":
            self._unpacker = zlib.decompressobj()
        elif encoding != "identity":
            raise httpx2.DecodingError(f"the answer is packed as {encoding[:40]!r}, which was not asked for")
        self._began = False

    def unpacked(self, chunk: bytes) -> Iterator[bytes]:
        """The unpacked bytes of `chunk`. Raises BodyTooLarge, and DecodingError."""
        self._began = True
        if self._unpacker is None:
            yield self._counted(chunk)
            return
        while chunk:
            try:
                piece = self._unpacker.decompress(chunk, _UNPACKED_BYTES)
            except zlib.error as error:
                raise httpx2.DecodingError(f"the answer cannot be unpacked: {error}") from None
            chunk = self._unpacker.unconsumed_tail
            yield self._counted(piece)
            if self._unpacker.unused_data:  # zlib would collect it in memory without limit
                raise httpx2.DecodingError("the answer cannot be unpacked: bytes follow the end of its packed data")

    def check_complete(self) -> None:
        """Raises DecodingError when the end of the packed body is missing."""
        if self._unpacker is not None and self._began and not self._unpacker.eof:
            raise httpx2.DecodingError("the answer cannot be unpacked: it is not complete")

    def _counted(self, piece: bytes) -> bytes:
        if self._left is not None:
            self._left -= len(piece)
            if self._left < 0:
                raise BodyTooLarge(f"an answer of more than {self._largest:,} bytes")
        return piece


@contextmanager
def _translated() -> Iterator[None]:
    """Raises httpcore2's errors as those of httpx2, which have the same names."""
    try:
        yield
    except (
        httpcore2.TimeoutException,
        httpcore2.NetworkError,
        httpcore2.ProtocolError,
        httpcore2.ProxyError,
        httpcore2.UnsupportedProtocol,
    ) as error:
        raise getattr(httpx2, type(error).__name__)(str(error)) from error


def _core_url(url: httpx2.URL) -> httpcore2.URL:
    return httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)


def _proxy_settings(address: str) -> dict[str, Any]:
    """The arguments of httpcore2's proxy pools. Raises InputError, which repeats no password."""
    hint = "set HTTP_PROXY, HTTPS_PROXY or ALL_PROXY to http://HOST:PORT, or NO_PROXY to the servers reached without"
    scheme, separator, _ = address.partition("://")
    if separator and scheme.lower() != "http":
        name = scheme[:20] if scheme.isalnum() else "unknown"
        raise InputError(f"the environment names a proxy of kind {name}; only http proxies can be used", hint=hint)
    try:
        proxy = httpx2.Proxy(address if separator else f"http://{address}")
        is_usable = bool(proxy.url.host) and 0 < (proxy.url.port or 80) < 65536
    except (ValueError, httpx2.InvalidURL):
        is_usable = False
    if not is_usable:
        raise InputError("the proxy that the environment names is not an address", hint=hint)
    return {"proxy_url": _core_url(proxy.url), "proxy_auth": proxy.raw_auth, "proxy_headers": proxy.headers.raw}

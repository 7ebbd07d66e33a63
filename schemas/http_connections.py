"""TCP and TLS connections of the HTTP clients: the network backends of httpcore2, the library below httpx2.

Every wait ends at the deadline of the whole request, and an answer that no request asked for is never read as the
answer to the next one."""

from __future__ import annotations

import asyncio
import enum
import select
import socket
import ssl
import sys
import time
from collections.abc import Iterable
from typing import Any

import httpcore2

_READ_AHEAD = 1 << 18  # bytes that may wait unread in an asynchronous connection
_WRITE_AT_ONCE = 1 << 16  # bytes

_ONE_ADDRESS = 5.0  # seconds for a connection to an address of a server that has others

UNREQUESTED = "unrequested"  # get_extra_info: whether the answer that was just read came before its request


class Deadline:
    """When the exchange of one request and its answer must be complete.

    `slowest_rate`: bytes per second. Where given, each byte that is sent or received moves the deadline by that much:
    a long transfer may take long, a slow one fails."""

    def __init__(self, seconds: float, *, slowest_rate: float | None = None) -> None:
        self.seconds = seconds
        self._slowest_rate = slowest_rate
        self._started = time.monotonic()
        self._at = self._started + seconds

    def left(self, error: type[Exception]) -> float:
        """Seconds that are left, more than 0. Raises `error` when there are none."""
        now = time.monotonic()
        if now >= self._at:
            raise error(f"no complete answer in {now - self._started:.3g} s")
        return self._at - now

    def moved(self, count: int) -> None:
        """Notes that `count` bytes were sent or received."""
        if self._slowest_rate is not None:
            self._at += count / self._slowest_rate


class _Turn(enum.Enum):
    NEW = enum.auto()
    ASKING = enum.auto()
    ANSWERING = enum.auto()


class _Turns:
    """Whose turn it is on a connection: a request is written only when everything that had arrived was read, and an
    answer begins only after its request was written."""

    _turn = _Turn.NEW

    def _has_unread(self) -> bool:
        raise NotImplementedError

    def _before_write(self) -> None:
        if self._turn is not _Turn.ASKING and self._has_unread():
            if self._turn is _Turn.NEW:
                raise httpcore2.RemoteProtocolError("the server answered before it was asked")
            raise httpcore2.ConnectionNotAvailable  # the pool takes another connection, or opens one
        self._turn = _Turn.ASKING

    def _after_read(self, data: bytes) -> None:
        if data and self._turn is not _Turn.ANSWERING:
            self._turn = _Turn.ANSWERING
            if not data.startswith(b"HTTP/"[: len(data)]):
                raise httpcore2.RemoteProtocolError("the answer does not begin as HTTP does")


class HttpConnection(_Turns, httpcore2.NetworkStream):
    """A blocking connection. The `timeout` of its methods is a Deadline."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def read(self, max_bytes: int, timeout: Any = None) -> bytes:
        """Bytes that arrived, at most `max_bytes`; none when the server has closed the connection."""
        try:
            self._socket.settimeout(timeout.left(httpcore2.ReadTimeout))
            data = self._socket.recv(max_bytes)
        except TimeoutError:
            timeout.left(httpcore2.ReadTimeout)
            raise httpcore2.ReadTimeout("the read timed out") from None
        except OSError as error:
            raise httpcore2.ReadError(str(error)) from error
        timeout.moved(len(data))
        self._after_read(data)
        return data

    def write(self, buffer: bytes, timeout: Any = None) -> None:
        """Sends all of `buffer`."""
        self._before_write()
        unsent = memoryview(buffer)
        try:
            while unsent:
                self._socket.settimeout(timeout.left(httpcore2.WriteTimeout))
                sent = self._socket.send(unsent[:_WRITE_AT_ONCE])
                timeout.moved(sent)
                unsent = unsent[sent:]
        except TimeoutError:
            raise httpcore2.WriteTimeout("the write timed out") from None
        except OSError as error:
            raise httpcore2.WriteError(str(error)) from error

    def close(self) -> None:
        """Closes the connection at once."""
        self._socket.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: Any = None
    ) -> HttpConnection:
        """The encrypted connection over this one."""
        if isinstance(self._socket, ssl.SSLSocket):
            raise httpcore2.ConnectError("an https:// address cannot be reached through an https:// proxy")
        try:
            self._socket.settimeout(timeout.left(httpcore2.ConnectTimeout))
            return HttpConnection(ssl_context.wrap_socket(self._socket, server_hostname=server_hostname))
        except BaseException as error:
            self.close()
            if isinstance(error, TimeoutError):
                raise httpcore2.ConnectTimeout("the TLS handshake timed out") from None
            if isinstance(error, OSError):
                raise httpcore2.ConnectError(str(error)) from error
            raise

    def get_extra_info(self, info: str) -> Any:
        """What httpcore2 asks: `ssl_object`, `is_readable`, `socket`; and UNREQUESTED."""
        match info:
            case "ssl_object":
                return self._socket if isinstance(self._socket, ssl.SSLSocket) else None
            case "is_readable":
                return self._has_unread()
            case "socket":
                return self._socket
            case _:
                return self._turn is _Turn.ASKING if info == UNREQUESTED else None

    def _has_unread(self) -> bool:
        if isinstance(self._socket, ssl.SSLSocket):
            if self._socket.pending():
                return True
            if self._turn is _Turn.NEW:
                return False  # what can be read may be TLS's own messages that end the handshake
        return is_readable(self._socket)


class ConnectionBackend(httpcore2.NetworkBackend):
    """Opens blocking connections. Looking up a name is left to the system's own time-out."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: Any = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> HttpConnection:
        """A connection to the first address of `host` that answers."""
        try:
            addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore2.ConnectError(str(error)) from error
        reason: OSError = OSError(f"no address for {host}")
        for number, (family, kind, protocol, _, address) in enumerate(addresses, 1):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(_share(timeout, is_last=number == len(addresses)))
                sock.connect(address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return HttpConnection(sock)
            except OSError as error:
                sock.close()
                reason = error
            except BaseException:
                sock.close()
                raise
        raise _not_connected(reason, timeout)


def _share(deadline: Deadline, *, is_last: bool) -> float:
    """Seconds for one of a server's addresses: the next one gets a chance where this one does not answer."""
    left = deadline.left(httpcore2.ConnectTimeout)
    return left if is_last else min(left, _ONE_ADDRESS)


def _not_connected(reason: OSError, deadline: Deadline) -> Exception:
    if isinstance(reason, TimeoutError):
        return httpcore2.ConnectTimeout(f"no connection in {deadline.seconds:g} s")
    return httpcore2.ConnectError(str(reason))


class _Arrivals(asyncio.Protocol):
    """What the event loop has received on one connection and nobody has read yet."""

    def __init__(self) -> None:
        self.unread = bytearray()
        self.is_over = False
        self.error: Exception | None = None
        self.may_write = True
        self.transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def change(self, deadline: Deadline, error: type[Exception]) -> None:
        """Returns when something has changed. Raises `error` at the deadline."""
        seconds = deadline.left(error)
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(seconds):
                await self._waiter
        except TimeoutError:
            deadline.left(error)
            raise error("timed out") from None
        finally:
            self._waiter = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.unread += data
        if len(self.unread) > _READ_AHEAD and self.transport is not None:
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self.is_over = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_over, self.error = True, exc
        self._wake()

    def pause_writing(self) -> None:
        self.may_write = False

    def resume_writing(self) -> None:
        self.may_write = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class AsyncHttpConnection(_Turns, httpcore2.AsyncNetworkStream):
    """A connection of an asyncio event loop. The `timeout` of its methods is a Deadline.

    The loop reads and decrypts what arrives at once, also between requests, so that nothing unread is overlooked."""

    def __init__(self, transport: asyncio.Transport, arrivals: _Arrivals) -> None:
        self._transport = transport
        self._arrivals = arrivals
        self._held = b""

    async def read(self, max_bytes: int, timeout: Any = None) -> bytes:
        """Bytes that arrived, at most `max_bytes`; none when the server has closed the connection."""
        arrivals = self._arrivals
        if self._held:
            await self._send(timeout)
        timeout.left(httpcore2.ReadTimeout)  # also a server that never pauses meets the deadline
        while not arrivals.unread and not arrivals.is_over:
            await arrivals.change(timeout, httpcore2.ReadTimeout)
        if not arrivals.unread and arrivals.error is not None:
            raise httpcore2.ReadError(str(arrivals.error)) from arrivals.error
        data = bytes(arrivals.unread[:max_bytes])
        del arrivals.unread[:max_bytes]
        if len(arrivals.unread) <= _READ_AHEAD:
            self._transport.resume_reading()
        timeout.moved(len(data))
        self._after_read(data)
        return data

    async def write(self, buffer: bytes, timeout: Any = None) -> None:
        """Sends `buffer`, and returns when little of it waits to be sent.

        The head of a request is sent together with what follows it: one packet costs half of two."""
        is_head = self._turn is not _Turn.ASKING
        self._before_write()
        self._held += buffer
        if not is_head:
            await self._send(timeout)

    async def _send(self, timeout: Any) -> None:
        arrivals, buffer, self._held = self._arrivals, self._held, b""
        if not arrivals.is_over:
            self._transport.write(buffer)
        while not arrivals.may_write and not arrivals.is_over:
            await arrivals.change(timeout, httpcore2.WriteTimeout)
        if arrivals.is_over:
            raise httpcore2.WriteError("the server has closed the connection")
        timeout.moved(len(buffer))

    async def aclose(self) -> None:
        """Closes the connection at once."""
        self._transport.abort()
        await asyncio.sleep(0)  # the loop closes the socket at its next turn

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: Any = None
    ) -> AsyncHttpConnection:
        """The encrypted connection over this one."""
        arrivals = _Arrivals()
        try:
            if self._arrivals.unread:
                raise httpcore2.RemoteProtocolError("the server sent bytes before the TLS handshake")
            seconds = timeout.left(httpcore2.ConnectTimeout)
            async with asyncio.timeout(seconds):
                transport = await asyncio.get_running_loop().start_tls(
                    self._transport,
                    arrivals,
                    ssl_context,
                    server_hostname=server_hostname,
                    ssl_handshake_timeout=seconds + 1,  # the deadline comes first
                )
            if transport is None:
                raise httpcore2.ConnectError("the server has closed the connection")
        except BaseException as error:
            self._transport.abort()
            if isinstance(error, TimeoutError):
                raise httpcore2.ConnectTimeout("the TLS handshake timed out") from None
            if isinstance(error, OSError):
                raise httpcore2.ConnectError(str(error)) from error
            raise
        arrivals.transport = transport
        return AsyncHttpConnection(transport, arrivals)

    def get_extra_info(self, info: str) -> Any:
        """What httpcore2 asks: `ssl_object`, `is_readable`, `socket`; and UNREQUESTED."""
        match info:
            case "is_readable":  # asked for all idle connections at once: the socket itself is asked before a write
                return bool(self._arrivals.unread) or self._arrivals.is_over
            case "ssl_object" | "socket":
                return self._transport.get_extra_info(info)
            case _:
                return self._turn is _Turn.ASKING if info == UNREQUESTED else None

    def _has_unread(self) -> bool:
        if self._arrivals.unread or self._arrivals.is_over or self._transport.is_closing():
            return True
        if self._turn is _Turn.NEW and self._transport.get_extra_info("ssl_object") is not None:
            return False  # what can be read may be TLS's own messages that end the handshake
        return is_readable(self._transport.get_extra_info("socket"))


class AsyncConnectionBackend(httpcore2.AsyncNetworkBackend):
    """Opens connections of the running asyncio event loop."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: Any = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> AsyncHttpConnection:
        """A connection to the first address of `host` that answers."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout.left(httpcore2.ConnectTimeout)):
                addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except TimeoutError:
            raise httpcore2.ConnectTimeout(f"no address for {host} in {timeout.seconds:g} s") from None
        except (OSError, UnicodeError) as error:
            raise httpcore2.ConnectError(str(error)) from error
        reason: OSError = OSError(f"no address for {host}")
        for number, (family, kind, protocol, _, address) in enumerate(addresses, 1):
            # not create_connection's own race of addresses, which leaves sockets open when it is cancelled
            sock = socket.socket(family, kind, protocol)
            try:
                sock.setblocking(False)
                async with asyncio.timeout(_share(timeout, is_last=number == len(addresses))):
                    await loop.sock_connect(sock, address)
                transport, arrivals = await loop.create_connection(_Arrivals, sock=sock)
                return AsyncHttpConnection(transport, arrivals)
            except OSError as error:
                sock.close()
                reason = error
            except BaseException:
                sock.close()
                raise
        raise _not_connected(reason, timeout)


def is_readable(sock: Any) -> bool:
    """Whether bytes have arrived that nobody has read, or the other side has closed. `sock` has a fileno."""
    if sock is None or sock.fileno() < 0:
        return True
    if sys.platform == "win32":
        return bool(select.select([sock.fileno()], [], [], 0)[0])
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))

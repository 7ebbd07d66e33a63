"""The connections of asyncio HTTP clients, with the rules of marginalia.schemas.http_connections."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterable
from typing import Any

import httpcore2

from marginalia.schemas.http_connections import (
    UNREQUESTED,
    ConnectionState,
    Deadline,
    RequestTurns,
    addresses_of,
    is_readable,
    not_connected,
    seconds_for_address,
)

# bytes that a connection receives before they are read: after these, a read waits and so meets the deadline
_READ_AHEAD = 1 << 18


class _ReceivedBytes(asyncio.Protocol):
    """The bytes of one connection that the event loop has received and that have not been read."""

    def __init__(self) -> None:
        self.unread = bytearray()
        self.is_closed = False
        self.error: Exception | None = None
        self.may_write = True
        self.transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def wait(self, deadline: Deadline, error: type[Exception]) -> None:
        """Returns at the next event of the connection. Raises `error` at the deadline."""
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
        self.is_closed = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed, self.error = True, exc
        self._wake()

    def pause_writing(self) -> None:
        self.may_write = False

    def resume_writing(self) -> None:
        self.may_write = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class AsyncHttpConnection(RequestTurns, httpcore2.AsyncNetworkStream):
    """A connection of an asyncio event loop. The `timeout` of its methods is a Deadline.

    The loop reads and decrypts what arrives at once, also between requests, so that nothing unread is overlooked."""

    def __init__(self, transport: asyncio.Transport, received: _ReceivedBytes) -> None:
        self._transport = transport
        self._received = received
        self._unsent = b""

    async def read(self, max_bytes: int, timeout: Any = None) -> bytes:
        """Bytes that arrived, at most `max_bytes`; none when the server has closed the connection."""
        received = self._received
        if self._unsent:
            await self._send(timeout)
        while not received.unread and not received.is_closed:
            await received.wait(timeout, httpcore2.ReadTimeout)
        if not received.unread and received.error is not None:
            raise httpcore2.ReadError(str(received.error)) from received.error
        data = bytes(received.unread[:max_bytes])
        del received.unread[:max_bytes]
        if len(received.unread) <= _READ_AHEAD:
            self._transport.resume_reading()
        timeout.moved(len(data))
        self._after_read(data)
        return data

    async def write(self, buffer: bytes, timeout: Any = None) -> None:
        """Sends `buffer`, and returns when little of it waits to be sent.

        The head of a request is sent together with what follows it: one packet costs half of two."""
        is_head = self._state is not ConnectionState.ASKING
        self._before_write()
        self._unsent += buffer
        if not is_head:
            await self._send(timeout)

    async def _send(self, timeout: Any) -> None:
        received, buffer, self._unsent = self._received, self._unsent, b""
        if not received.is_closed:
            self._transport.write(buffer)
        while not received.may_write and not received.is_closed:
            await received.wait(timeout, httpcore2.WriteTimeout)
        if received.is_closed:
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
        received = _ReceivedBytes()
        try:
            if self._received.unread:
                raise httpcore2.RemoteProtocolError("the server sent bytes before the TLS handshake")
            seconds = timeout.left(httpcore2.ConnectTimeout)
            async with asyncio.timeout(seconds):
                transport = await asyncio.get_running_loop().start_tls(
                    self._transport,
                    received,
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
        received.transport = transport
        return AsyncHttpConnection(transport, received)

    def get_extra_info(self, info: str) -> Any:
        """What httpcore2 asks: `ssl_object`, `is_readable`, `socket`; and UNREQUESTED."""
        match info:
            case "is_readable":  # asked for all idle connections at once: the socket itself is asked before a write
                return bool(self._received.unread) or self._received.is_closed
            case "ssl_object" | "socket":
                return self._transport.get_extra_info(info)
            case _:
                return self._state is ConnectionState.ASKING if info == UNREQUESTED else None

    def _has_unread(self) -> bool:
        if self._received.unread or self._received.is_closed or self._transport.is_closing():
            return True
        if self._state is ConnectionState.NEW and self._transport.get_extra_info("ssl_object") is not None:
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
                addresses = await asyncio.wrap_future(addresses_of(host, port))
        except (OSError, UnicodeError) as error:
            raise not_connected(error, timeout) from error
        reason: OSError = OSError(f"no address for {host}")
        for number, (family, kind, protocol, _, address) in enumerate(addresses, 1):
            # not create_connection's own race of addresses, which leaves sockets open when it is cancelled
            sock = socket.socket(family, kind, protocol)
            try:
                sock.setblocking(False)
                async with asyncio.timeout(seconds_for_address(timeout, is_last=number == len(addresses))):
                    await loop.sock_connect(sock, address)
                transport, received = await loop.create_connection(_ReceivedBytes, sock=sock)
                return AsyncHttpConnection(transport, received)
            except OSError as error:
                sock.close()
                reason = error
            except BaseException:
                sock.close()
                raise
        raise not_connected(reason, timeout)

"""TCP and TLS connections of the HTTP clients: a network backend of httpcore2, the library below httpx2.

Every wait ends at the deadline of the whole request, and an answer that no request asked for is never read as the
answer to the next one."""

from __future__ import annotations

import enum
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Any

import httpcore2

_WRITE_BYTES = 1 << 16  # at once
_ADDRESS_SECONDS = 5.0  # for a connection to one address of a server that has several

UNREQUESTED = "unrequested"  # get_extra_info: whether the answer that was just read came before its request

Addresses = Sequence[tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]]


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


class ConnectionState(enum.Enum):
    """Whether a connection is new, sends a request, or has received at least the start of its answer."""

    NEW = enum.auto()
    ASKING = enum.auto()
    ANSWERING = enum.auto()


class RequestTurns:
    """Whose turn it is on a connection: a request is written only when everything that had arrived was read, and an
    answer begins only after its request was written."""

    _state = ConnectionState.NEW

    def _has_unread(self) -> bool:
        raise NotImplementedError

    def _before_write(self) -> None:
        if self._state is not ConnectionState.ASKING and self._has_unread():
            if self._state is ConnectionState.NEW:
                raise httpcore2.RemoteProtocolError("the server answered before it was asked")
            raise httpcore2.ConnectionNotAvailable  # the pool takes another connection, or opens one
        self._state = ConnectionState.ASKING

    def _after_read(self, data: bytes) -> None:
        if data and self._state is not ConnectionState.ANSWERING:
            self._state = ConnectionState.ANSWERING
            if not data.startswith(b"HTTP/"[: len(data)]):
                raise httpcore2.RemoteProtocolError("the answer does not begin as HTTP does")


class HttpConnection(RequestTurns, httpcore2.NetworkStream):
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
                sent = self._socket.send(unsent[:_WRITE_BYTES])
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
                return self._state is ConnectionState.ASKING if info == UNREQUESTED else None

    def _has_unread(self) -> bool:
        if not isinstance(self._socket, ssl.SSLSocket):
            return is_readable(self._socket)
        try:  # only reading distinguishes an answer from TLS's own messages; a connection with an answer is not used
            self._socket.settimeout(0)
            self._socket.recv(1)
        except ssl.SSLWantReadError:
            return False
        except OSError:
            return True
        return True


class ConnectionBackend(httpcore2.NetworkBackend):
    """Opens blocking connections."""

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
            addresses = addresses_of(host, port).result(timeout.left(httpcore2.ConnectTimeout))
        except (OSError, UnicodeError) as error:
            raise not_connected(error, timeout) from error
        reason: OSError = OSError(f"no address for {host}")
        for number, (family, kind, protocol, _, address) in enumerate(addresses, 1):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(seconds_for_address(timeout, is_last=number == len(addresses)))
                sock.connect(address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return HttpConnection(sock)
            except OSError as error:
                sock.close()
                reason = error
            except BaseException:
                sock.close()
                raise
        raise not_connected(reason, timeout)


def addresses_of(host: str, port: int) -> Future[Addresses]:
    """The addresses of a server. They are looked up in a thread of their own, which does not keep Python from ending:
    the system's resolver may take minutes and cannot be interrupted."""
    addresses: Future[Addresses] = Future()
    addresses.set_running_or_notify_cancel()

    def look_up() -> None:
        try:
            addresses.set_result(list[Any](socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
        except Exception as error:
            addresses.set_exception(error)

    threading.Thread(target=look_up, name="look-up", daemon=True).start()
    return addresses


def seconds_for_address(deadline: Deadline, *, is_last: bool) -> float:
    """Seconds to wait for one of a server's addresses before the next one is tried."""
    left = deadline.left(httpcore2.ConnectTimeout)
    return left if is_last else min(left, _ADDRESS_SECONDS)


def not_connected(reason: Exception, deadline: Deadline) -> Exception:
    """The error when a server has no address, or its last address failed with `reason`."""
    if isinstance(reason, TimeoutError):
        return httpcore2.ConnectTimeout(f"no connection in {deadline.seconds:g} s")
    return httpcore2.ConnectError(str(reason))


def is_readable(sock: Any) -> bool:
    """Whether bytes have arrived that nobody has read, or the other side has closed. `sock` has a fileno."""
    if sock is None or sock.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))

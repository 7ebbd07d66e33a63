"""Calls to an OpenAI-compatible server, many in flight: what is tried again, what fails one record, what ends the run.

The calls run on an event loop in a thread of their own, so that scoring can be called from anywhere, a notebook's
running loop included."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx

from marginalia.schemas.errors import ModelError, ServiceError
from marginalia.schemas.server_addresses import direct, key_headers, route
from marginalia.scoring.models.endpoint_dialects import streamed
from marginalia.scoring.models.replicas import OF_THE_SERVER, Replica, Replicas

_LONGEST_WAIT = 300.0  # seconds that a Retry-After may ask for
_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.25, 30.0
_MANY_FAILURES = 10  # records that fail one after the other, without any answer between, before the run ends
_LARGEST_BODY = 64_000_000  # bytes

T = TypeVar("T")


class CallFailed(ModelError):
    """There was no usable answer to one request after all retries. The message says what came instead."""

    passing = True


class Malformed(Exception):
    """An answer that is not of the form asked for: a proxy's page, a cut body. It may come right when asked again."""


class Refused(Exception):
    """The server refused a request for what it says; asked again it would refuse again."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"status {status}: {said}")
        self.status = status
        self.said = said

    @property
    def of_length(self) -> bool:
        """Whether it is about the length of one prompt, and no other request need be refused."""
        words = ("context", "too long", "too large", "maximum", "exceed")
        return self.status in (400, 413, 422) and any(word in self.said.lower() for word in words)


class _TryAgain(Exception):
    def __init__(self, what: str, *, wait: float | None = None, unreachable: bool = False) -> None:
        super().__init__(what)
        self.wait = wait
        self.unreachable = unreachable


class Caller:
    """A server, or replicas of one, at `urls`. `key` is sent in a header and shown nowhere."""

    def __init__(
        self, urls: Sequence[str], key: str | None, *, concurrency: int, retries: int, timeout_seconds: float
    ) -> None:
        self.replicas = Replicas(urls)
        self.url = self.replicas.url
        self.headers: dict[str, str] = {}  # of the latest answer
        self._key = key
        self._retries = retries
        self._timeout = timeout_seconds
        self._slots = asyncio.Semaphore(concurrency)
        self._not_before = 0.0
        self._failures = 0
        self._client = httpx.AsyncClient(
            timeout=timeout_seconds,
            follow_redirects=False,  # prompts and key are for the servers that the config names
            mounts=direct(urls),
            limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
        )
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=_serve, args=(self._loop, self._client), name="endpoint-calls", daemon=True)
        thread.start()
        self.close = weakref.finalize(self, _stop, self._loop, thread)

    def get(self, path: str) -> dict[str, Any]:
        """The JSON object at `path`. Raises Refused and CallFailed."""
        return self._run(self._with_retries("GET", path, None, dict))

    def post(self, path: str, body: dict[str, Any], read: Callable[[dict[str, Any]], T]) -> T:
        """What `read` makes of the answer to `body`. Raises Refused and CallFailed."""
        return self._run(self._with_retries("POST", path, body, read))

    def post_each(
        self, path: str, body: dict[str, Any], read: Callable[[dict[str, Any]], T]
    ) -> list[tuple[Replica, T | None]]:
        """Every replica's answer to the same `body`, None from those that give none at the first try."""

        async def one(replica: Replica) -> T | None:
            try:
                return await self._ask(replica, "POST", path, body, read)
            except (_TryAgain, Malformed, Refused):
                return None

        async def each() -> list[tuple[Replica, T | None]]:
            return list(zip(self.replicas.all, await asyncio.gather(*map(one, self.replicas.all)), strict=True))

        return self._run(each())

    def post_all(
        self, path: str, bodies: Sequence[tuple[int, dict[str, Any]]], read: Callable[[dict[str, Any]], T]
    ) -> list[T | CallFailed | Refused]:
        """An answer for each (record, body), all under way at once; a negative record is none. When a call of a record
        has failed, its other calls are not made any more.

        Raises ServiceError when many records fail one after the other, and Refused for what concerns all records."""
        return self._run(self._post_all(path, bodies, read))

    def safe(self, text: str, *, limit: int | None = 300) -> str:
        """`text` without the key, which some servers repeat."""
        hidden = text.replace(self._key, "***") if self._key else text
        return hidden if limit is None else hidden[:limit]

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def _post_all(
        self, path: str, bodies: Sequence[tuple[int, dict[str, Any]]], read: Callable[[dict[str, Any]], T]
    ) -> list[T | CallFailed | Refused]:
        failed: dict[int, CallFailed | Refused] = {}

        async def one(record: int, body: dict[str, Any]) -> T | CallFailed | Refused:
            async with self._slots:
                if record in failed:
                    return failed[record]
                try:
                    return await self._with_retries("POST", path, body, read)
                except CallFailed as error:
                    return failed.setdefault(record, error)
                except Refused as error:
                    if not error.of_length:
                        raise
                    return failed.setdefault(record, error)

        tasks = [asyncio.create_task(one(record, body)) for record, body in bodies]
        try:
            found = await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
        self._count(found, failed)
        return found

    def _count(self, found: Sequence[object], failed: dict[int, CallFailed | Refused]) -> None:
        lost = [error for record, error in failed.items() if isinstance(error, CallFailed) and record >= 0]
        answered = any(not isinstance(answer, CallFailed) for answer in found)
        self._failures = 0 if answered else self._failures + len(lost)
        if self._failures >= _MANY_FAILURES:
            raise ServiceError(
                f"{self.url}: no answer for {self._failures} records in a row; the last: {lost[-1]}",
                hint="look at the server; what was scored is kept, the same command goes on",
            )

    async def _with_retries(
        self, method: str, path: str, body: dict[str, Any] | None, read: Callable[[dict[str, Any]], T]
    ) -> T:
        for retry in range(self._retries + 1):
            await asyncio.sleep(max(0.0, self._not_before - time.monotonic()))
            replica = self.replicas.take()
            try:
                return await self._ask(replica, method, path, body, read)
            except (_TryAgain, Malformed) as problem:
                elsewhere = self.replicas.is_any_ready()
                wait = problem.wait if isinstance(problem, _TryAgain) and not elsewhere else None
                if retry == self._retries or (wait or 0.0) > _LONGEST_WAIT:
                    calls = f"{retry + 1} call{'s' * (retry > 0)}"
                    raise CallFailed(f"{replica.url}: {self.safe(str(problem), limit=None)} ({calls})") from None
                if not elsewhere:
                    await self._back_off(wait, retry)
        raise AssertionError("unreachable")

    async def _ask(
        self,
        replica: Replica,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        read: Callable[[dict[str, Any]], T],
    ) -> T:
        """One call to one replica, and what it says of that replica."""
        replica.in_flight += 1
        try:
            answer = read(await self._call(replica.url, method, path, body))
        except _TryAgain as problem:
            unreachable = problem.unreachable
            self.replicas.note_failure(replica, str(problem), unreachable=unreachable, wait=problem.wait)
            raise
        except Malformed as problem:
            self.replicas.note_failure(replica, str(problem), unreachable=False)
            raise
        except Refused as error:
            if error.status in OF_THE_SERVER and len(self.replicas.all) > 1:
                self.replicas.note_failure(replica, str(error), unreachable=True)
                if self.replicas.is_any_ready():
                    raise _TryAgain(str(error)) from None
            raise
        finally:
            replica.in_flight -= 1
        self.replicas.note_answer(replica)
        return answer

    async def _back_off(self, wait: float | None, retry: int) -> None:
        if wait is not None:
            # a server that names a time means all of our calls
            self._not_before = max(self._not_before, time.monotonic() + wait)
            return
        # jitter only spreads calls in time; it has no part in the result
        await asyncio.sleep(min(_LONGEST_BACKOFF, _FIRST_BACKOFF * 2**retry) * random.uniform(0.5, 1.0))

    async def _call(self, url: str, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        try:
            # httpx's own time-out starts anew with each byte: a server that trickles would never meet it
            async with asyncio.timeout(self._timeout):
                headers = key_headers(url, self._key)
                response = await self._client.request(method, route(url, path), json=body, headers=headers)
        except (TimeoutError, httpx.TimeoutException):
            raise _TryAgain(f"no answer in {self._timeout:g} s", unreachable=True) from None
        except httpx.RequestError as error:
            what = f"connection failed: {self.safe(str(error)) or type(error).__name__}"
            raise _TryAgain(what, unreachable=True) from None
        self.headers = dict(response.headers)
        if not response.is_success:
            self._refuse(response)
        return self._parse(response.content)

    def _refuse(self, response: httpx.Response) -> None:
        status, said = response.status_code, self.safe(_said(response))
        if response.has_redirect_location:
            said = f"redirected to {self.safe(response.headers['location'])}"
        passing = status in (408, 409, 425, 429) or (status >= 500 and status != 501)
        if passing and "insufficient_quota" not in said:
            raise _TryAgain(f"status {status}: {said}", wait=_retry_after(response.headers))
        raise Refused(status, said)

    def _parse(self, body: bytes) -> dict[str, Any]:
        if len(body) > _LARGEST_BODY:
            raise Malformed(f"an answer of {len(body):,} bytes")
        try:
            text = self.safe(body.decode(), limit=None)
        except UnicodeDecodeError:
            raise Malformed(f"not JSON: {self.safe(body.decode('utf-8', 'replace'), limit=None)[:120]!r}") from None
        if (events := streamed(text)) is not None:
            raise Malformed(events.error) if events.error else Refused(200, events.said)
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            raise Malformed(f"not JSON: {text[:120]!r}") from None
        if not isinstance(value, dict):
            raise Malformed(f"not a JSON object: {str(value)[:120]}")
        return value


def _serve(loop: asyncio.AbstractEventLoop, client: httpx.AsyncClient) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    loop.run_until_complete(client.aclose())
    loop.close()


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    loop.call_soon_threadsafe(loop.stop)
    if threading.current_thread() is not thread:
        thread.join(10)


def _said(response: httpx.Response) -> str:
    """The server's own words, from the forms that vLLM, llama.cpp, SGLang and FastAPI give errors."""
    try:
        value = response.json()
    except ValueError:
        value = None
    error = value.get("error", value) if isinstance(value, dict) else value
    if isinstance(error, dict):
        code, message = error.get("code"), error.get("message", error.get("detail"))
        if message is not None:
            error = f"{message} ({code})" if isinstance(code, str) else message
    text = response.text if error is None else error if isinstance(error, str) else json.dumps(error)
    return " ".join(text.split())


def _retry_after(headers: httpx.Headers) -> float | None:
    """Seconds that the server asks to wait, from retry-after-ms or Retry-After (seconds or a date)."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) * scale
        except ValueError:
            try:
                seconds = parsedate_to_datetime(value).timestamp() - time.time()
            except (ValueError, TypeError, OverflowError):
                continue
        if seconds == seconds:
            return max(0.0, seconds)
    return None

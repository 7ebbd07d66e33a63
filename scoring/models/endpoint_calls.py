"""Calls of the scorer to an OpenAI-compatible server, many in flight: what fails one record, what ends the run.

The calls run on an event loop in a thread of their own, so that scoring can be called from anywhere, a notebook's
running loop included."""

from __future__ import annotations

import asyncio
import json
import threading
import weakref
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any, TypeVar

from marginalia.schemas.errors import ModelError, ServiceError
from marginalia.schemas.key_masking import KeyMask
from marginalia.schemas.retries import RetryPolicy
from marginalia.scoring.models.endpoint_client import EndpointClient
from marginalia.scoring.models.endpoint_dialects import streamed
from marginalia.scoring.models.replicas import Replica
from marginalia.scoring.models.retried_calls import MANY_FAILURES, GaveUp, Refused, RetriedCalls, TryAgain

POLICY = RetryPolicy(first_backoff=0.25)
_LARGEST_BODY = 64_000_000  # bytes

T = TypeVar("T")


class CallFailed(ModelError):
    """There was no usable answer to one request after all retries. The message says what came instead."""

    is_temporary = True


class Malformed(TryAgain):
    """An answer that is not of the form asked for: a proxy's page, a cut body."""


class Caller:
    """A server, or replicas of one, at `urls`. `key` is sent in a header and shown nowhere.

    Raises InputError for a proxy of the environment that cannot be used."""

    def __init__(
        self, urls: Sequence[str], key: str | None, *, concurrency: int, retries: int, timeout_seconds: float
    ) -> None:
        self.safe = KeyMask(key)
        self._calls = RetriedCalls(urls, POLICY)
        self.replicas = self._calls.replicas
        self.url = self.replicas.url
        self.headers: dict[str, str] = {}  # of the latest answer
        self._retries = retries
        self._slots = asyncio.Semaphore(concurrency)
        self._failures = 0
        self._clients = {
            replica.url: EndpointClient(
                replica.url,
                key,
                self.safe,
                POLICY,
                concurrency=concurrency,
                timeout_seconds=timeout_seconds,
                largest_body=_LARGEST_BODY,
            )
            for replica in self.replicas.all
        }
        self._loop = asyncio.new_event_loop()
        arguments = (self._loop, self._clients.values())
        self._thread = threading.Thread(target=_serve, args=arguments, name="endpoint-calls", daemon=True)
        self._thread.start()
        self.close = weakref.finalize(self, _stop, self._loop, self._thread)

    def get(self, path: str) -> dict[str, Any]:
        """The JSON object at `path`. Raises Refused and CallFailed."""
        return self._run(self._ask(path, None, dict))

    def post(self, path: str, body: dict[str, Any], read: Callable[[dict[str, Any]], T]) -> T:
        """What `read` makes of the answer to `body`. Raises Refused and CallFailed."""
        return self._run(self._ask(path, body, read))

    def post_each(
        self, path: str, body: dict[str, Any], read: Callable[[dict[str, Any]], T]
    ) -> list[tuple[Replica, T | None]]:
        """Every replica's answer to the same `body`, None from those that give none at the first try."""

        async def ask(replica: Replica) -> T | None:
            try:
                return await self._calls.once(replica, lambda _: self._call(replica, path, body, read))
            except (TryAgain, Refused):
                return None

        async def ask_all() -> list[tuple[Replica, T | None]]:
            return list(zip(self.replicas.all, await asyncio.gather(*map(ask, self.replicas.all)), strict=True))

        return self._run(ask_all())

    def post_all(
        self, path: str, bodies: Sequence[tuple[int, dict[str, Any]]], read: Callable[[dict[str, Any]], T]
    ) -> list[T | CallFailed | Refused]:
        """An answer for each (record, body), all under way at once; negative numbers belong to no record. When a call
        of a record has failed, its other calls are not made any more.

        Raises ServiceError when many records fail one after the other, and Refused for what concerns all records."""
        return self._run(self._post_all(path, bodies, read))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if not self._thread.is_alive():
            work.close()
            raise RuntimeError("this client was closed, or belongs to the process that this one was forked from")
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

        async def ask(record: int, body: dict[str, Any]) -> T | CallFailed | Refused:
            async with self._slots:
                if record in failed:
                    return failed[record]
                try:
                    return await self._ask(path, body, read)
                except CallFailed as error:
                    return failed.setdefault(record, error)
                except Refused as error:
                    if not error.is_about_length:
                        raise
                    return failed.setdefault(record, error)

        tasks = [asyncio.create_task(ask(record, body)) for record, body in bodies]
        try:
            answers = await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
        self._count(answers, failed)
        return answers

    def _count(self, answers: Sequence[object], failed: dict[int, CallFailed | Refused]) -> None:
        lost = [error for record, error in failed.items() if isinstance(error, CallFailed) and record >= 0]
        answered = any(not isinstance(answer, CallFailed) for answer in answers)
        self._failures = 0 if answered else self._failures + len(lost)
        if self._failures >= MANY_FAILURES:
            raise ServiceError(
                f"{self.url}: no answer for {self._failures} records in a row; the last: {lost[-1]}",
                hint="check the server; scored records are kept; run the same command to continue",
            )

    async def _ask(self, path: str, body: dict[str, Any] | None, read: Callable[[dict[str, Any]], T]) -> T:
        try:
            return await self._calls.run(lambda replica: self._call(replica, path, body, read), retries=self._retries)
        except GaveUp as end:
            raise CallFailed(f"{end.replica.url}: {self.safe(str(end), limit=None)}") from None

    async def _call(
        self, replica: Replica, path: str, body: dict[str, Any] | None, read: Callable[[dict[str, Any]], T]
    ) -> T:
        await self._calls.until_allowed(replica)
        client = self._clients[replica.url]
        response = await (client.get(path) if body is None else client.post(path, body))
        self.headers = dict(response.headers)
        return read(self._object(replica.url, response.content))

    def _object(self, url: str, body: bytes) -> dict[str, Any]:
        """The JSON object that an answer consists of."""
        try:
            text = self.safe(body.decode(), limit=None)
        except UnicodeDecodeError:
            raise Malformed(f"not JSON: {self.safe(body.decode('utf-8', 'replace'), limit=None)[:120]!r}") from None
        if (events := streamed(text)) is not None:
            raise Malformed(events.error) if events.error else Refused(url, 200, events.text)
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            raise Malformed(f"not JSON: {text[:120]!r}") from None
        if not isinstance(value, dict):
            raise Malformed(f"not a JSON object: {str(value)[:120]}")
        return value


def _serve(loop: asyncio.AbstractEventLoop, clients: Collection[EndpointClient]) -> None:
    async def close() -> None:
        calls = asyncio.all_tasks() - {asyncio.current_task()}
        for call in calls:  # a thread that waits for a call would wait forever
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        for client in clients:
            await client.close()

    asyncio.set_event_loop(loop)
    loop.run_forever()
    loop.run_until_complete(close())
    loop.close()


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    loop.call_soon_threadsafe(loop.stop)
    if threading.current_thread() is not thread:
        thread.join(10)

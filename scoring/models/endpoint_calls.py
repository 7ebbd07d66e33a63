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
        self._failures = 0  # records in a row without an answer
        # a call that the server has answered: whether it still does shows if a failure concerns one record or all
        self._known: Callable[[], Coroutine[Any, Any, object]] | None = None
        self._record_answered = False
        self._checking = asyncio.Lock()
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

    def remember(self, path: str, body: dict[str, Any], read: Callable[[dict[str, Any]], T]) -> None:
        """Keeps a call that the server has answered. When it refuses a record's call, this one is made again: if it is
        answered, the refusal concerns that record alone."""
        self._known = lambda: self._ask(path, body, read)

    def post_all(
        self, path: str, bodies: Sequence[tuple[int, dict[str, Any]]], read: Callable[[dict[str, Any]], T]
    ) -> list[T | CallFailed | Refused]:
        """An answer for each (record, body), all under way at once; negative numbers belong to no record. When a call
        of a record has failed, its other calls are not made any more.

        Raises Refused, and ServiceError when many records in a row have no answer, unless the server still answers a
        call that it has answered before: then these failures concern their records alone."""
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
                    if not error.is_about_length and (record < 0 or not await self._serves()):
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
        await self._count(path, bodies, answers, failed, read)
        return answers

    async def _count(
        self,
        path: str,
        bodies: Sequence[tuple[int, dict[str, Any]]],
        answers: Sequence[object],
        failed: dict[int, CallFailed | Refused],
        read: Callable[[dict[str, Any]], Any],
    ) -> None:
        lost = [error for record, error in failed.items() if record >= 0 and not _is_about_length(error)]
        answered = next((body for (_, body), one in zip(bodies, answers, strict=True) if _is_answer(one)), None)
        if answered is not None:
            self.remember(path, answered, read)
            self._record_answered = True
        has_reply = answered is not None or any(map(_is_about_length, failed.values()))
        self._failures = 0 if has_reply else self._failures + len(lost)
        if self._failures < MANY_FAILURES:
            return
        # if no record ever had an answer, the test question's answer does not show that any record can have one
        if self._record_answered and await self._serves():
            self._failures = 0
            return
        raise ServiceError(
            f"{self.url}: no answer for {self._failures} records in a row; the last: {lost[-1]}",
            hint="check the server; scored records are kept; run the same command to continue",
        )

    async def _serves(self) -> bool:
        """Whether the server still answers a call that it has answered before."""
        if self._known is None:
            return False
        async with self._checking:
            try:
                await self._known()
            except (CallFailed, Refused):
                return False
        return True

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


def _is_about_length(error: CallFailed | Refused) -> bool:
    return isinstance(error, Refused) and error.is_about_length


def _is_answer(answer: object) -> bool:
    return not isinstance(answer, CallFailed | Refused)


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


def refused_all(caller: Caller, error: Refused) -> ServiceError:
    """The error for a server that refuses what concerns all records."""
    return ServiceError(
        f"{caller.url}: {error}",
        hint="the server refuses a request of the kind that it accepted before; finished records are kept: "
        "run the same command to continue",
    )

"""Calls to the replicas of a server: which replica is asked, which failures are tried again and when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from marginalia.schemas.retries import RetryPolicy
from marginalia.scoring.models.replicas import SERVER_STATUSES, Replica, Replicas

MANY_FAILURES = 10  # questions in a row without an answer before a server counts as down

T = TypeVar("T")


class TryAgain(Exception):
    """A call had no usable answer; made again it may have one. The message says what came instead.

    `status` is the answer's, None where none came. `wait`: seconds that the server asks to wait. `unreachable`: the
    server did not answer, or not completely. `charged`: the answer had a status of 2xx, so that it may have to be paid
    for. `streams`: it came in pieces, as it would again. `is_final`: no other call may be made for this question."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        wait: float | None = None,
        unreachable: bool = False,
        charged: bool = False,
        streams: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.wait = wait
        self.unreachable = unreachable
        self.charged = charged
        self.streams = streams
        self.is_final = streams


class Refused(Exception):
    """The server at `url` refused a request and would refuse it again. `text`: the server's message, followed by its
    error code in brackets where there is one; `message`: without the code."""

    def __init__(self, url: str, status: int, message: str, code: str | None = None) -> None:
        self.text = f"{message} ({code})" if code else message
        super().__init__(f"status {status}: {self.text}")
        self.url = url
        self.status = status
        self.message = message
        self.code = code

    @property
    def is_about_length(self) -> bool:
        """Whether it is about the length of one prompt, and no other request need be refused."""
        words = ("context", "too long", "too large", "maximum", "exceed")
        return self.status in (400, 413, 422) and any(word in self.text.lower() for word in words)


class NoCall(Exception):
    """A call was not made, for a reason that also holds for all others."""


class GaveUp(Exception):
    """There was no usable answer after all retries. The message says what came last, and after how many calls."""

    def __init__(self, problem: TryAgain, replica: Replica, calls: int) -> None:
        super().__init__(f"{problem} ({calls} call{'s' * (calls > 1)})")
        self.problem = problem
        self.replica = replica


class RetriedCalls:
    """Asks the servers at `urls`, which give the same answers. All calls are made in one event loop."""

    def __init__(self, urls: Sequence[str], policy: RetryPolicy) -> None:
        self.replicas = Replicas(urls)
        self._policy = policy

    async def run(self, call: Callable[[Replica], Awaitable[T]], *, retries: int) -> T:
        """What `call` returns for one of the replicas, called again while it raises TryAgain.

        Raises GaveUp, and Refused and NoCall as `call` does. Other replicas are asked at once, the same one after a
        pause."""
        last: TryAgain | None = None
        for retry in range(retries + 1):
            replica = self.replicas.take()
            try:
                return await self.once(replica, call)
            except NoCall:
                if last is None:
                    raise
                raise GaveUp(last, replica, retry) from None
            except TryAgain as problem:
                last = problem
                has_other = self.replicas.is_any_ready()
                too_long = not has_other and (problem.wait or 0.0) > self._policy.longest_wait
                if retry == retries or too_long or problem.is_final:
                    raise GaveUp(problem, replica, retry + 1) from None
                if not has_other:
                    await self._pause(replica, problem, retry)
        raise AssertionError("unreachable")

    async def once(self, replica: Replica, call: Callable[[Replica], Awaitable[T]]) -> T:
        """One call to `replica`, which is counted there with its outcome."""
        replicas = self.replicas
        replica.in_flight += 1
        try:
            answer = await call(replica)
        except TryAgain as problem:
            replicas.note_failure(replica, str(problem), unreachable=problem.unreachable, wait=problem.wait)
            raise
        except Refused as refusal:
            if refusal.status in SERVER_STATUSES and len(replicas.all) > 1:
                replicas.note_failure(replica, str(refusal), unreachable=True)
                if replicas.is_any_ready():
                    raise TryAgain(str(refusal)) from None
            raise
        finally:
            replica.in_flight -= 1
        replicas.note_answer(replica)
        return answer

    async def until_allowed(self, replica: Replica) -> None:
        """Waits until the replica may be called again, where it named a time."""
        if (seconds := replica.not_before - time.monotonic()) > 0:
            await asyncio.sleep(seconds)

    async def _pause(self, replica: Replica, problem: TryAgain, retry: int) -> None:
        if problem.wait is None:
            await asyncio.sleep(self._policy.backoff(retry))
        else:  # a server that names a time means all calls
            replica.not_before = max(replica.not_before, time.monotonic() + problem.wait)

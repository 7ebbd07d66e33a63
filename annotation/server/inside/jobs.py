"""Argilla's background jobs without Redis and without a worker: they run on the server's own event loop.

Argilla puts jobs into two `rq.Queue`s on a Redis connection, and its API reads a job's state back from Redis. Here the
connection is fakeredis, in memory, and the queues start an asyncio task instead of storing the job for a worker.
Nothing that must be durable is a job: a submitted answer changes its record's status inline. Jobs are the recount after
a change of `min_submitted`, webhooks, and the UI's import from and export to the Hub. Argilla calls a webhook's
receiver synchronously, so that a slow receiver slows down all requests.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import fakeredis
import redis
import rq
from rq.job import Job, JobStatus

STATE_KEPT = 3600  # seconds for which a job's state can be queried
DRAIN_TIMEOUT = 10.0  # seconds that running jobs get to finish when the server stops

log = logging.getLogger("argilla")
_running: set[asyncio.Task[None]] = set()
_stopping = asyncio.Event()


def replace_redis() -> None:
    """Must be called before `argilla_server` is imported, which opens the connection and the queues at import."""
    redis.from_url = lambda url, **options: fakeredis.FakeRedis(**options)
    rq.Queue = InlineQueue


class InlineQueue(rq.Queue):
    """A queue that runs a job immediately, retries it as its `retry` says, and logs why it failed."""

    def enqueue_call(
        self,
        func: Callable[..., Coroutine[Any, Any, None]],
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        timeout: int | None = None,
        retry: rq.Retry | None = None,
        **_options: Any,
    ) -> Job:
        job = self.create_job(func, args=args, kwargs=kwargs, timeout=timeout, status=JobStatus.QUEUED)
        job.save()
        job.connection.expire(job.key, STATE_KEPT)
        task = asyncio.get_running_loop().create_task(_run(job, func, tuple(args or ()), dict(kwargs or {}), retry))
        # The event loop keeps only a weak reference: without this one, a job could be garbage-collected while it runs.
        _running.add(task)
        task.add_done_callback(_running.discard)
        return job


async def _run(
    job: Job,
    func: Callable[..., Coroutine[Any, Any, None]],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    retry: rq.Retry | None,
) -> None:
    job.set_status(JobStatus.STARTED)
    pauses = _pauses(retry)
    for attempt, pause in enumerate([*pauses, None], start=1):
        try:
            await func(*args, **kwargs)
        except Exception:
            log.exception("Job %s (%s) failed, attempt %d of %d", job.id, func.__name__, attempt, len(pauses) + 1)
        else:
            job.set_status(JobStatus.FINISHED)
            return
        if pause is not None and await _stops_within(pause):
            log.error("The server is stopping: job %s (%s) is not retried", job.id, func.__name__)
            break
    job.set_status(JobStatus.FAILED)


async def _stops_within(seconds: float) -> bool:
    """Sleep; returns True, and early, when the server stops in the meantime."""
    try:
        await asyncio.wait_for(_stopping.wait(), seconds)
    except TimeoutError:
        return False
    return True


def _pauses(retry: rq.Retry | None) -> list[float]:
    """Seconds to wait before each retry. Like rq, the last interval is repeated when there are more retries."""
    if retry is None:
        return []
    intervals = list(retry.intervals) or [0]
    return [float(intervals[min(i, len(intervals) - 1)]) for i in range(retry.max)]


async def drain() -> None:
    """Wait for the running jobs. Those that take longer than DRAIN_TIMEOUT are logged and cancelled."""
    _stopping.set()
    if not _running:
        return
    _, late = await asyncio.wait(_running, timeout=DRAIN_TIMEOUT)
    for task in late:
        log.error("The server is stopping with an unfinished job: %r", task)
        task.cancel()

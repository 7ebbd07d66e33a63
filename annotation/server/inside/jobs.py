"""Argilla's background jobs without Redis and without a worker: they run on the server's own event loop.

Argilla hands jobs to two `rq.Queue`s on a Redis connection, and its API reads a job's state back from Redis. Here the
connection is fakeredis, in memory, and the queues start an asyncio task instead of storing the job for a worker.
Nothing that must last passes through here: a submitted answer changes its record's status inline. What does: the
recount after a change of `min_submitted`, webhooks, and the UI's import from and export to the Hub.
A webhook's receiver is called synchronously by Argilla, so that a slow one slows everybody.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import fakeredis
import redis
import rq
from rq.job import Job, JobStatus

STATE_KEPT = 3600  # seconds a job's state can still be asked for
DRAIN_PATIENCE = 10.0  # seconds that running jobs get when the server stops

log = logging.getLogger("argilla")
_running: set[asyncio.Task[None]] = set()
_stopping = asyncio.Event()


def replace_redis() -> None:
    """To be called before `argilla_server` is imported: it opens connection and queues at import."""
    redis.from_url = lambda url, **options: fakeredis.FakeRedis(**options)
    rq.Queue = InlineQueue


class InlineQueue(rq.Queue):
    """A queue that runs a job at once, repeats it as often as its `retry` says, and logs why it failed."""

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
        # The loop itself keeps only a weak reference: without ours a job could be collected half-way.
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
            log.error("The server stops: job %s (%s) is not tried again", job.id, func.__name__)
            break
    job.set_status(JobStatus.FAILED)


async def _stops_within(seconds: float) -> bool:
    """Sleep; returns True at once when the server stops meanwhile."""
    try:
        await asyncio.wait_for(_stopping.wait(), seconds)
    except TimeoutError:
        return False
    return True


def _pauses(retry: rq.Retry | None) -> list[float]:
    """Seconds to wait before each repetition. rq repeats the last interval when there are fewer than repetitions."""
    if retry is None:
        return []
    intervals = list(retry.intervals) or [0]
    return [float(intervals[min(i, len(intervals) - 1)]) for i in range(retry.max)]


async def drain() -> None:
    """Wait for the jobs under way; those that take too long are cancelled, and named in the log."""
    _stopping.set()
    if not _running:
        return
    _, late = await asyncio.wait(_running, timeout=DRAIN_PATIENCE)
    for task in late:
        log.error("The server stops with a job unfinished: %r", task)
        task.cancel()

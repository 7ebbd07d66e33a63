"""Calls to the endpoint by concurrent workers: each answer is journalled and charged to the budget."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Protocol

from marginalia.pipeline.generation.budget import Budget
from marginalia.pipeline.generation.endpoint.llm_endpoint import AttemptFailed, Unreadable
from marginalia.pipeline.generation.response_journal import AnswerLog, JournalledAnswer, Reply
from marginalia.pipeline.generation.writer_requests import WriterRequest
from marginalia.schemas.errors import MarginaliaError


class Writer(Protocol):
    """Something that answers requests, such as an endpoint that is opened at the first request."""

    async def ask(self, payload: dict[str, Any], unreadable: Unreadable) -> Reply:
        """The answer to a request. `unreadable` is called with each answer that cannot be read.

        Raises AttemptFailed when only this request has no answer; any other error ends the stage."""


async def journalled_call(
    writer: Writer,
    question: WriterRequest,
    *,
    budget: Budget,
    log: AnswerLog,
    on_disk: Callable[[JournalledAnswer], None],
) -> JournalledAnswer | AttemptFailed:
    """Asks the question, for which `budget` must have reserved the cost, and settles that reservation.

    The answer is in the journal when this returns; `on_disk` is called when it may be used. Raises what `writer` raises
    apart from AttemptFailed, which is returned, and InputError when the journal cannot be written."""
    try:
        reply = await writer.ask(question.payload, partial(budget.unreadable, question))
    except AttemptFailed as failure:
        budget.settle(question, None)
        return failure
    answer = log.keep(question, reply, on_disk=on_disk)
    budget.settle(question, answer)
    return answer


@asynccontextmanager
async def worker_group() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group for workers. Raises one MarginaliaError where all failed tasks raised such errors: several workers
    may meet the same failure, and the user needs it once."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as errors:
        known = [error for error in errors.exceptions if isinstance(error, MarginaliaError)]
        if len(known) == len(errors.exceptions):
            raise known[0] from None
        raise

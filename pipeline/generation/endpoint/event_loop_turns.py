"""Answers that come together are worked on one by one, each until its successor's request has gone out."""

from __future__ import annotations

import asyncio
from collections import deque


class EventLoopTurns:
    """Lets one waiter through in each round of the event loop.

    A request is written in the round after the one in which it is made. Without this, answers that arrive together
    would all be worked on before the first of the next requests is written: these would be answered together again,
    and every call would wait for the work on all others, to the end of the run."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._running = False

    async def turn(self) -> None:
        """Returns when all that came before had a round of their own."""
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        self._waiting.append(waiter)
        if not self._running:
            self._running = True
            self._next(loop)
        await waiter

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():  # else it was cancelled
                waiter.set_result(None)
                loop.call_soon(self._next, loop)
                return
        self._running = False

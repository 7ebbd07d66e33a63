"""What answers cost, and whether the budget allows the next call."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

from marginalia.pipeline.config.generation import GenerateSection, PricesSection
from marginalia.pipeline.generation.response_journal import JournalledAnswer, prompt_bytes, read_answers
from marginalia.pipeline.generation.unreadable_answers import UnreadableAnswers
from marginalia.pipeline.generation.writer_requests import WriterRequest

_BYTES_PER_TOKEN = 2  # of UTF-8: a low number, so that a prompt's cost is overestimated rather than underestimated


def cost(prompt_tokens: int, completion_tokens: int, prices: PricesSection) -> float:
    """The cost of tokens in the currency of `prices`."""
    return (prompt_tokens * prices.prompt + completion_tokens * prices.completion) / 1e6


def paid_for(section: GenerateSection, journal: Path) -> float:
    """What the answers in a journal cost; 0 when there is no generate.budget to compare it with."""
    if section.budget is None or not journal.exists():
        return 0.0
    return Budget(section, read_answers(journal).values(), UnreadableAnswers(journal)).spent


class Budget:
    """Counts what was paid (for the answers `paid` of earlier calls of the stage, and `spent` on calls of other kinds)
    and reserves the highest cost of each call in flight. Amounts are in the currency of generate.prices.

    An answer without token counts, and one that cannot be read, count with the highest cost that they can have had.
    Without generate.budget every call is allowed."""

    def __init__(
        self,
        section: GenerateSection,
        paid: Iterable[JournalledAnswer],
        unreadable: UnreadableAnswers,
        *,
        spent: float = 0.0,
    ) -> None:
        self._unreadable = unreadable
        self._limit = section.budget
        self._prices = section.prices
        self._max_tokens = section.max_tokens
        self._reserved = 0.0
        self._in_flight = 0
        self._one_at_a_time = asyncio.Lock()
        self._settled = asyncio.Event()
        self._spent = 0.0
        if self._limit is not None:
            self._spent = spent + sum(map(self._cost_of, paid)) + self.guessed_unreadable
        self.stopped = False

    @property
    def spent(self) -> float:
        """What was paid so far; 0 without generate.budget, because then nothing is counted."""
        return self._spent

    async def allows(self, question: WriterRequest) -> bool:
        """Reserves the call's highest cost and returns True. When that could exceed the limit, waits for the calls in
        flight, which usually cost less than was reserved. With none in flight, returns False from then on and sets
        `stopped`."""
        if self._limit is None:
            return True
        highest = self._highest_cost(prompt_bytes(question.payload))
        # one at a time, so that no cheaper question overtakes: only the end of the plan is left out
        async with self._one_at_a_time:
            while not self.stopped and self._spent + self._reserved + highest > self._limit:
                if not self._in_flight:
                    self.stopped = True
                    break
                await self._settled.wait()
            if self.stopped:
                return False
            self._reserved += highest
            self._in_flight += 1
            return True

    def settle(self, question: WriterRequest, answer: JournalledAnswer | None) -> None:
        """Replaces the call's reservation by what it cost; `answer` is None for a call without one."""
        if self._limit is None:
            return
        self._in_flight -= 1
        # reset to zero when nothing is in flight: rounding errors would add up
        reserved = self._highest_cost(prompt_bytes(question.payload))
        self._reserved = self._reserved - reserved if self._in_flight else 0.0
        if answer is not None:
            self._spent += self._cost_of(answer)
        self._settled.set()
        self._settled = asyncio.Event()

    def unreadable(self, question: WriterRequest, body: str) -> bool:
        """Notes that a call got the answer `body`, which cannot be read, and counts its highest cost. Returns whether
        the call may be tried again; its reservation stays for that."""
        highest = self._highest_cost(self._unreadable.note(question, body))
        if self._limit is None:
            return True
        self._spent += highest
        return self._spent + self._reserved <= self._limit

    def guessed(self, answer: JournalledAnswer) -> float:
        """What an answer can have cost beyond the tokens that it reports: 0 when it reports all of them."""
        if self._prices is None or (answer.prompt_tokens is not None and answer.completion_tokens is not None):
            return 0.0
        reported = cost(answer.prompt_tokens or 0, answer.completion_tokens or 0, self._prices)
        return max(0.0, self._cost_of(answer) - reported)

    @property
    def guessed_unreadable(self) -> float:
        """The highest cost that the unreadable answers can have had."""
        return sum(map(self._highest_cost, self._unreadable.prompt_bytes))

    def _highest_cost(self, size: int) -> float:
        """Of a call whose prompt has `size` bytes; 16 tokens are for the chat format."""
        if self._prices is None:
            return 0.0
        return cost(size // _BYTES_PER_TOKEN + 16, self._max_tokens, self._prices)

    def _cost_of(self, answer: JournalledAnswer) -> float:
        if self._prices is None or answer.prompt_tokens is None or answer.completion_tokens is None:
            return self._highest_cost(answer.prompt_bytes)
        return cost(answer.prompt_tokens, answer.completion_tokens, self._prices)

"""What answers cost, and whether the next call may still be made."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

from marginalia.pipeline.config.generation import GenerateSection, PricesSection
from marginalia.pipeline.generation.response_journal import JournalledAnswer, prompt_bytes, read_answers
from marginalia.pipeline.generation.unreadable_answers import UnreadableAnswers
from marginalia.pipeline.generation.writer_requests import WriterRequest

_BYTES_PER_TOKEN = 2  # of UTF-8: few, so that a prompt's cost is guessed too high rather than too low


def cost(prompt_tokens: int, completion_tokens: int, prices: PricesSection) -> float:
    """In the currency of the prices, which are per million tokens."""
    return (prompt_tokens * prices.prompt + completion_tokens * prices.completion) / 1e6


def paid_for(section: GenerateSection, journal: Path) -> float:
    """What the answers in a journal cost, where a budget has to know."""
    if section.budget is None or not journal.exists():
        return 0.0
    return Budget(section, read_answers(journal).values(), UnreadableAnswers(journal)).spent


class Budget:
    """Counts what was paid (the answers `paid` for before, and what was `spent` beside them) and reserves the most that
    each call in flight can cost.

    An answer that tells no usage counts with the most that it can have cost, and so does one that cannot be read.
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
        self._in_turn = asyncio.Lock()
        self._settled = asyncio.Event()
        self._spent = 0.0
        if self._limit is not None:
            self._spent = spent + sum(map(self._cost_of, paid)) + sum(map(self._most, unreadable.prompt_bytes))
        self.stopped = False

    @property
    def spent(self) -> float:
        """What was paid so far; 0 without a limit, for then nobody counts."""
        return self._spent

    async def allows(self, question: WriterRequest) -> bool:
        """Reserves the call's highest cost. When that could go over the limit, waits for calls in flight, which nearly
        always cost less than the most they could; with none in flight, stops for good."""
        if self._limit is None:
            return True
        most = self._most(prompt_bytes(question.payload))
        async with self._in_turn:  # a cheaper question must not overtake: what is left out is the end of the plan
            while not self.stopped and self._spent + self._reserved + most > self._limit:
                if not self._in_flight:
                    self.stopped = True
                    break
                await self._settled.wait()
            if self.stopped:
                return False
            self._reserved += most
            self._in_flight += 1
            return True

    def settle(self, question: WriterRequest, answer: JournalledAnswer | None) -> None:
        """Puts what the call cost in place of what was reserved for it; None for a call without an answer."""
        if self._limit is None:
            return
        self._in_flight -= 1
        # from zero again when nothing is in flight: sums of fractions drift
        self._reserved = self._reserved - self._most(prompt_bytes(question.payload)) if self._in_flight else 0.0
        if answer is not None:
            self._spent += self._cost_of(answer)
        self._settled.set()
        self._settled = asyncio.Event()

    def unreadable(self, question: WriterRequest, said: str) -> bool:
        """Notes that a call was answered by something that cannot be read, which may have cost the most it could; the
        reservation stays for another try. Whether that may be made."""
        most = self._most(self._unreadable.note(question, said))
        if self._limit is None:
            return True
        self._spent += most
        return self._spent + self._reserved <= self._limit

    def guessed(self, answer: JournalledAnswer) -> float:
        """What an answer can have cost beyond the tokens that it tells: 0 when it tells them all."""
        if self._prices is None or (answer.prompt_tokens is not None and answer.completion_tokens is not None):
            return 0.0
        told = cost(answer.prompt_tokens or 0, answer.completion_tokens or 0, self._prices)
        return max(0.0, self._cost_of(answer) - told)

    @property
    def guessed_unreadable(self) -> float:
        """What the unreadable answers cost at most."""
        return sum(map(self._most, self._unreadable.prompt_bytes))

    def _most(self, prompt: int) -> float:
        if self._prices is None:
            return 0.0
        return cost(prompt // _BYTES_PER_TOKEN + 16, self._max_tokens, self._prices)

    def _cost_of(self, answer: JournalledAnswer) -> float:
        if self._prices is None or answer.prompt_tokens is None or answer.completion_tokens is None:
            return self._most(answer.prompt_bytes)
        return cost(answer.prompt_tokens, answer.completion_tokens, self._prices)

"""What answers cost, and whether the next call may still be made."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.generation.answers import Answer
from pipeline.generation.config import GenerateSection, PricesSection
from pipeline.generation.questions import Question

_CHARACTERS_PER_TOKEN = 2  # few, so that a prompt's cost is guessed too high rather than too low


def cost(prompt_tokens: int, completion_tokens: int, prices: PricesSection) -> float:
    """In the currency of the prices, which are per million tokens."""
    return (prompt_tokens * prices.prompt + completion_tokens * prices.completion) / 1e6


class Budget:
    """Counts what was paid (the journal's answers included) and reserves the most that each call in flight can cost.

    An answer that tells no usage counts with what was reserved for it. Without generate.budget every call is allowed.
    """

    def __init__(self, section: GenerateSection, paid: Iterable[Answer]) -> None:
        self._limit = section.budget
        self._prices = section.prices
        self._max_tokens = section.max_tokens
        self._reserved = 0.0
        self._spent = sum(self._cost_of(answer, guess=0.0) for answer in paid) if self._limit is not None else 0.0
        self.stopped = False

    def allows(self, question: Question) -> bool:
        """Reserves the call's highest cost, or, when that could go over the limit, stops for good."""
        if self._limit is None:
            return True
        most = self._most(question)
        if self.stopped or self._spent + self._reserved + most > self._limit:
            self.stopped = True
            return False
        self._reserved += most
        return True

    def settle(self, question: Question, answer: Answer | None) -> None:
        """Puts what the call cost in place of what was reserved for it; None for a call without an answer."""
        if self._limit is None:
            return
        most = self._most(question)
        self._reserved -= most
        if answer is not None:
            self._spent += self._cost_of(answer, guess=most)

    def _most(self, question: Question) -> float:
        if self._prices is None:
            return 0.0
        characters = sum(len(message["content"]) for message in question.payload["messages"])
        return cost(characters // _CHARACTERS_PER_TOKEN + 16, self._max_tokens, self._prices)

    def _cost_of(self, answer: Answer, *, guess: float) -> float:
        if self._prices is None or answer.prompt_tokens is None or answer.completion_tokens is None:
            return guess
        return cost(answer.prompt_tokens, answer.completion_tokens, self._prices)

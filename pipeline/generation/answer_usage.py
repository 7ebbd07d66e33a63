"""What the calls of a stage used: tokens, money, and requests without an answer."""

from __future__ import annotations

from dataclasses import dataclass

from marginalia.pipeline.config.generation import PricesSection
from marginalia.pipeline.generation.budget import Budget, cost
from marginalia.pipeline.generation.response_journal import JournalledAnswer


@dataclass(kw_only=True)
class AnswerUsage:
    """Totals over all answers of a stage, whether paid for in this call or read from the journal.

    `asked_now` counts the requests that were sent in this call. `unreadable` answers could not be parsed. `guessed`
    (in the currency of the prices) is the most that the unreadable answers and those without token counts can have
    cost. `unanswered` requests got no answer, the last of them because of `last_failure`; `not_allowed` ones were not
    sent because the budget was used up."""

    asked_now: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    unreadable: int = 0
    guessed: float = 0.0
    unanswered: int = 0
    not_allowed: int = 0
    last_failure: str | None = None

    def count(self, answer: JournalledAnswer, budget: Budget) -> None:
        """Adds the tokens of one answer."""
        self.prompt_tokens += answer.prompt_tokens or 0
        self.completion_tokens += answer.completion_tokens or 0
        self.guessed += budget.guessed(answer)

    def cost(self, prices: PricesSection) -> float:
        """What the answers cost, in the currency of `prices`; an upper bound where no usage was reported."""
        return cost(self.prompt_tokens, self.completion_tokens, prices) + self.guessed

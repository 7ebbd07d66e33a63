"""Measures how much a server's answers to the same question vary, by repeating questions alone and in batches.

Servers batch requests that arrive together, and sums of another shape round differently; a prompt from the prefix cache
is computed differently from a new one. The variation is measured on the first prompts of a run, before any record is
finished, and measured again as the run goes on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from marginalia.scoring.models.completions_api import TokenAnswer
from marginalia.scoring.models.logprob_floors import IMPLAUSIBLE

QUESTIONS = 8  # of the first batch, each repeated twice
COPIES = 4  # of a question that was alone in its batch
TRIES = 3  # batches on which the measurement is tried when no answer comes
LOWEST_COMPARED = math.log(1e-6)  # nats: differences of less probable tokens move no bound by more than 1e-6
ROUNDING = 1e-6  # probability: rounding of a sum over some dozen 32-bit log-probabilities

Body = dict[str, Any]
Ask = Callable[[Sequence[Body]], Sequence[TokenAnswer | None]]


@dataclass(frozen=True)
class Spread:
    """How much answers differ. `nats`: the largest difference of a log-probability. `stray`: the largest difference,
    beyond what `nats` explains, of the total probability of the tokens that are not returned; 0 for a server whose
    probabilities add up to 1."""

    nats: float = 0.0
    stray: float = 0.0

    def __or__(self, other: Spread) -> Spread:
        return Spread(max(self.nats, other.nats), max(self.stray, other.stray))


def spread_between(first: TokenAnswer, second: TokenAnswer) -> Spread | None:
    """How much two answers to one question differ, over the tokens that both contain; None when there is none."""
    pairs = [(value, second.by_id[name]) for name, value in first.by_id.items() if name in second.by_id]
    pairs += [(value, second.by_text[name]) for name, value in first.by_text.items() if name in second.by_text]
    # leave out floors and invalid values
    pairs = [pair for pair in pairs if min(pair) > IMPLAUSIBLE and max(pair) < 1.0]
    if not pairs:
        return None
    nats = max((abs(one - other) for one, other in pairs if max(one, other) > LOWEST_COMPARED), default=0.0)
    hidden_first, hidden_second = (1.0 - math.fsum(map(math.exp, values)) for values in zip(*pairs, strict=True))
    stray = abs(hidden_first - hidden_second) - math.expm1(nats) * max(min(hidden_first, hidden_second), 0.0)
    return Spread(nats, stray if stray > ROUNDING else 0.0)


@dataclass
class Repeats:
    """The repeated questions of a run. `spread`: the largest so far; `first`: the one that was measured before any
    record was finished, None until then; `compared`: number of repeated answers that were compared."""

    spread: Spread = Spread()
    first: Spread | None = None
    compared: int = 0
    _kept: list[tuple[Body, TokenAnswer]] = field(default_factory=list, repr=False)
    _batches: int = 0
    _tries: int = 0

    @property
    def needs_measuring(self) -> bool:
        """Whether the next batch should be measured."""
        return self.first is None and self._tries < TRIES

    def questions_due(self) -> list[Body]:
        """The questions to repeat with the next batch: one after 64 batches, 512, 4096 and so on, else none."""
        self._batches += 1
        power = round(math.log(self._batches, 8))
        if not self._kept or power < 2 or self._batches != 8**power:
            return []
        return [self._kept[power % len(self._kept)][0]]

    def measure(self, bodies: Sequence[Body], answers: Sequence[TokenAnswer | None], ask: Ask) -> None:
        """Repeats some questions of a batch, each alone and then all together. `answers`: those to the batch."""
        self._tries += 1
        answered = [(body, answer) for body, answer in zip(bodies, answers, strict=True) if answer is not None]
        step = max(len(answered) // QUESTIONS, 1)
        self._kept = answered[::step][:QUESTIONS]
        for body, _ in self._kept:
            self.compare([body], ask([body]))
        if len(self._kept) == 1:
            self.compare([self._kept[0][0]] * COPIES, ask([self._kept[0][0]] * COPIES))
        else:
            repeated = [body for body, _ in self._kept]
            self.compare(repeated, ask(repeated))
        if self.compared:
            self.first = self.spread

    def compare(self, bodies: Sequence[Body], answers: Sequence[TokenAnswer | None]) -> None:
        """Compares repeated answers with the first answers to the same questions."""
        for body, answer in zip(bodies, answers, strict=True):
            known = next((first for kept, first in self._kept if kept is body), None)
            spread = spread_between(known, answer) if known is not None and answer is not None else None
            if spread is not None:
                self.spread |= spread
                self.compared += 1

    @property
    def summary(self) -> str:
        """What was measured, as the end of a note on the variation."""
        if self.first is None:
            return "; the variation was not measured and is not included in the bounds"
        text = f" (up to {self.spread.nats:.2g} nats in {self.compared} repeated questions); the bounds include this"
        if self.spread != self.first:
            text += f", those of the first records only {self.first.nats:.2g} nats per token: later answers varied more"
        return text

"""By how much a server's answers to one and the same question differ: it is asked again, alone and in company.

Servers batch what arrives together, and sums of other shapes round differently; a prompt that lies in the prefix cache
is computed another way than a new one. What differs is measured on the first prompts of a run, before any record is
finished, and looked at again as the run goes on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from marginalia.scoring.models.completions_api import TokenAnswer
from marginalia.scoring.models.logprob_floors import HIDDEN

QUESTIONS = 8  # of the first batch, asked again: each twice more
COPIES = 4  # of a question that came without company
TRIES = 3  # batches on which it is tried, where no answer comes
FAINTEST = math.log(1e-6)  # what differs below it moves no bound by more than that
ROUNDED = 1e-6  # probability: sums of some dozen 32-bit log-probabilities

Body = dict[str, Any]
Ask = Callable[[Sequence[Body]], Sequence[TokenAnswer | None]]


@dataclass(frozen=True)
class Spread:
    """The largest difference of a log-probability (`nats`), and of the probability of all tokens that are not shown
    beyond what that explains (`stray`: 0 for a server whose probabilities add up to 1)."""

    nats: float = 0.0
    stray: float = 0.0

    def __or__(self, other: Spread) -> Spread:
        return Spread(max(self.nats, other.nats), max(self.stray, other.stray))


def between(one: TokenAnswer, other: TokenAnswer) -> Spread | None:
    """How far two answers to one question are apart, over the tokens that both tell; None when there is none."""
    pairs = [(value, other.by_id[name]) for name, value in one.by_id.items() if name in other.by_id]
    pairs += [(value, other.by_text[name]) for name, value in one.by_text.items() if name in other.by_text]
    pairs = [pair for pair in pairs if min(pair) > HIDDEN and max(pair) < 1.0]  # neither a floor nor nonsense
    if not pairs:
        return None
    nats = max((abs(ours - theirs) for ours, theirs in pairs if max(ours, theirs) > FAINTEST), default=0.0)
    ours, theirs = (1.0 - math.fsum(map(math.exp, values)) for values in zip(*pairs, strict=True))
    stray = abs(ours - theirs) - math.expm1(nats) * max(min(ours, theirs), 0.0)
    return Spread(nats, stray if stray > ROUNDED else 0.0)


@dataclass
class Repeats:
    """Questions that were asked several times, and what that showed. `first` is the spread that was measured before
    any record was finished, None before that; `spread` the largest so far."""

    spread: Spread = Spread()
    first: Spread | None = None
    compared: int = 0
    _kept: list[tuple[Body, TokenAnswer]] = field(default_factory=list, repr=False)
    _batches: int = 0
    _tries: int = 0

    @property
    def is_due(self) -> bool:
        """Whether the next batch is to be measured."""
        return self.first is None and self._tries < TRIES

    def due(self) -> list[Body]:
        """What should be asked along with the next batch: a known question after 64 batches, 512, 4096 …"""
        self._batches += 1
        power = round(math.log(self._batches, 8))
        if not self._kept or power < 2 or self._batches != 8**power:
            return []
        return [self._kept[power % len(self._kept)][0]]

    def measure(self, bodies: Sequence[Body], answers: Sequence[TokenAnswer | None], ask: Ask) -> None:
        """Asks the first few of a batch again: each alone, then all together. `answers`: what the batch was told."""
        self._tries += 1
        told = [(body, answer) for body, answer in zip(bodies, answers, strict=True) if answer is not None]
        step = max(len(told) // QUESTIONS, 1)
        self._kept = told[::step][:QUESTIONS]
        for body, _ in self._kept:
            self.hear([body], ask([body]))
        if len(self._kept) == 1:
            self.hear([self._kept[0][0]] * COPIES, ask([self._kept[0][0]] * COPIES))
        else:
            again = [body for body, _ in self._kept]
            self.hear(again, ask(again))
        if self.compared:
            self.first = self.spread

    def hear(self, bodies: Sequence[Body], answers: Sequence[TokenAnswer | None]) -> None:
        """Compares new answers with the first ones to the same questions."""
        for body, answer in zip(bodies, answers, strict=True):
            known = next((first for kept, first in self._kept if kept is body), None)
            apart = between(known, answer) if known is not None and answer is not None else None
            if apart is not None:
                self.spread |= apart
                self.compared += 1

    @property
    def told(self) -> str:
        """What was measured, for the notes."""
        if self.first is None:
            return "; by how much was not measured, and is not in the bounds"
        said = f" (here by {self.spread.nats:.2g} nats in {self.compared} repeated questions, alone and in company)"
        said += "; the bounds are wider by what that can change"
        if self.spread != self.first:
            said += f", those of the first records by {self.first.nats:.2g} nats a token only: it was more later"
        return said

"""What became of the slots: texts and reasons lie on disk, for each slot a few bytes in memory."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl

from marginalia.schemas.storage.temporary_rows import TemporaryRows

_TOGETHER = 256  # rows of the plan that are made into dicts at once
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Slot = dict[str, Any]


class Slots:
    """The rows of a plan, by their place in it; as dicts only while they are needed."""

    def __init__(self, plan: pl.DataFrame) -> None:
        self._plan = plan
        self._rows = lru_cache(maxsize=32)(self._read)

    def __len__(self) -> int:
        return self._plan.height

    def __getitem__(self, place: int) -> Slot:
        return self._rows(place // _TOGETHER)[place % _TOGETHER]

    def _read(self, number: int) -> list[Slot]:
        return self._plan.slice(number * _TOGETHER, _TOGETHER).to_dicts()


@dataclass(frozen=True)
class Accepted:
    slot: Slot
    text: str
    created_at: datetime


class AcceptedTexts:
    """The accepted text of each slot that has one, in the plan's order."""

    def __init__(self, slots: Slots, spill: TemporaryRows) -> None:
        self._slots = slots
        self._spill = spill
        self._places = array("q", [-1]) * len(slots)  # in the spill, by place in the plan
        self._created = array("q", [0]) * len(slots)  # microseconds since 1970
        self._count = 0

    def add(self, place: int, text: str, created_at: datetime) -> None:
        self._count += self._places[place] < 0
        self._places[place] = self._spill.add(text.encode())
        self._created[place] = (created_at - _EPOCH) // timedelta(microseconds=1)

    def get(self, place: int) -> Accepted | None:
        if self._places[place] < 0:
            return None
        created_at = _EPOCH + timedelta(microseconds=self._created[place])
        return Accepted(self._slots[place], self._spill.read(self._places[place]).decode(), created_at)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Accepted]:
        for place in range(len(self._slots)):
            if (accepted := self.get(place)) is not None:
                yield accepted


class RejectedAttempts:
    """(place in the plan, attempt, reason, detail), in the plan's order."""

    def __init__(self, spill: TemporaryRows) -> None:
        self._spill = spill
        self._slots, self._attempts, self._places = array("q"), array("q"), array("q")
        self._reasons: Counter[str] = Counter()

    def add(self, place: int, attempt: int, reason: str, detail: str) -> None:
        self._slots.append(place)
        self._attempts.append(attempt)
        self._places.append(self._spill.add(f"{reason}\n{detail}".encode("utf-8", "surrogatepass")))
        self._reasons[reason] += 1

    def reasons(self) -> dict[str, int]:
        return dict(sorted(self._reasons.items()))

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[tuple[int, int, str, str]]:
        for number in np.lexsort((self._attempts, self._slots)).tolist() if self._places else ():
            reason, _, detail = self._spill.read(self._places[number]).decode("utf-8", "surrogatepass").partition("\n")
            yield self._slots[number], self._attempts[number], reason, detail


@dataclass
class GenerationResult:
    """A slot that is not accepted is open: `unanswered` ones because the endpoint gave no answer (the last reason is
    `last_failure`), `not_allowed` ones because the budget ended before, the others because all their attempts were
    rejected. Tokens are of all answers that were judged, whether paid for now or read
    from the journal; `models` counts answers by the model that the endpoint named; `stopped` says why the stage ended
    early (budget, outage), `torn_bytes` what a killed process left half written, `endpoints` who of several
    answered how much. `guessed` is the most that answers without usage and `unreadable` ones can have cost."""

    slots: Slots
    accepted: AcceptedTexts
    rejected: RejectedAttempts
    asked_now: int = 0
    from_journal: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    without_usage: int = 0
    unreadable: int = 0
    guessed: float = 0.0
    models: Counter[str] = field(default_factory=Counter)
    torn_bytes: int = 0
    stopped: str | None = None
    endpoints: str | None = None
    unanswered: int = 0
    not_allowed: int = 0
    last_failure: str | None = None

    @property
    def planned(self) -> int:
        return len(self.slots)

    @property
    def open(self) -> int:
        return self.planned - len(self.accepted)

    def reasons(self) -> dict[str, int]:
        return self.rejected.reasons()

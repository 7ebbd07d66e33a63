"""What became of the slots. Texts and rejection reasons are on disk; memory holds a few bytes per slot."""

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

from marginalia.pipeline.generation.answer_usage import AnswerUsage
from marginalia.schemas.storage.temporary_rows import TemporaryRows

_BLOCK = 256  # rows of the plan that are converted to dicts at once
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Slot = dict[str, Any]


class Slots:
    """The rows of a plan by their index. A row is a dict only while it is needed."""

    def __init__(self, plan: pl.DataFrame) -> None:
        self._plan = plan
        self._blocks = lru_cache(maxsize=32)(self._read_block)

    def __len__(self) -> int:
        return self._plan.height

    def __getitem__(self, index: int) -> Slot:
        return self._blocks(index // _BLOCK)[index % _BLOCK]

    def _read_block(self, number: int) -> list[Slot]:
        return self._plan.slice(number * _BLOCK, _BLOCK).to_dicts()


@dataclass(frozen=True)
class Accepted:
    """A slot with the text that was accepted for it and the time (UTC) of that answer."""

    slot: Slot
    text: str
    created_at: datetime


class AcceptedTexts:
    """The accepted text of each slot that has one, in the plan's order."""

    def __init__(self, slots: Slots, temporary_rows: TemporaryRows) -> None:
        self._slots = slots
        self._rows = temporary_rows
        self._offsets = array("q", [-1]) * len(slots)  # by slot index: where its text is in the temporary rows
        self._created = array("q", [0]) * len(slots)  # microseconds since 1970
        self._count = 0

    def add(self, slot_index: int, text: str, created_at: datetime) -> None:
        """Sets the text of a slot."""
        self._count += self._offsets[slot_index] < 0
        self._offsets[slot_index] = self._rows.add(text.encode())
        self._created[slot_index] = (created_at - _EPOCH) // timedelta(microseconds=1)

    def get(self, slot_index: int) -> Accepted | None:
        """The accepted text of a slot; None for an open slot."""
        if self._offsets[slot_index] < 0:
            return None
        created_at = _EPOCH + timedelta(microseconds=self._created[slot_index])
        return Accepted(self._slots[slot_index], self._rows.read(self._offsets[slot_index]).decode(), created_at)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Accepted]:
        for slot_index in range(len(self._slots)):
            if (accepted := self.get(slot_index)) is not None:
                yield accepted


class RejectedAttempts:
    """Iterates over (slot index, attempt, reason, detail) in the plan's order, whatever the order of `add`."""

    def __init__(self, temporary_rows: TemporaryRows) -> None:
        self._rows = temporary_rows
        self._slot_indices, self._attempts, self._offsets = array("q"), array("q"), array("q")
        self._reasons: Counter[str] = Counter()

    def add(self, slot_index: int, attempt: int, reason: str, detail: str) -> None:
        """Adds a rejected attempt (from 1) at a slot."""
        self._slot_indices.append(slot_index)
        self._attempts.append(attempt)
        self._offsets.append(self._rows.add(f"{reason}\n{detail}".encode("utf-8", "surrogatepass")))
        self._reasons[reason] += 1

    def reasons(self) -> dict[str, int]:
        """How many attempts were rejected for each reason, by name."""
        return dict(sorted(self._reasons.items()))

    def __len__(self) -> int:
        return len(self._offsets)

    def __iter__(self) -> Iterator[tuple[int, int, str, str]]:
        for number in np.lexsort((self._attempts, self._slot_indices)).tolist() if self._offsets else ():
            row = self._rows.read(self._offsets[number]).decode("utf-8", "surrogatepass")
            reason, _, detail = row.partition("\n")
            yield self._slot_indices[number], self._attempts[number], reason, detail


@dataclass
class GenerationResult(AnswerUsage):
    """The outcome of writing a plan.

    A slot that is not accepted is open: `unanswered` slots because the endpoint gave no answer, `not_allowed` ones
    because the budget was used up, the others because all their attempts were rejected. `models` counts answers by the
    model that the endpoint reported. `without_usage` answers have no token counts. `stopped` says why the stage ended
    early ("budget" or "outage"), `torn_bytes` how much of an incomplete last journal line was truncated, `endpoints`
    how many answers each of several endpoints gave."""

    slots: Slots
    accepted: AcceptedTexts
    rejected: RejectedAttempts
    from_journal: int = 0
    without_usage: int = 0
    models: Counter[str] = field(default_factory=Counter)
    torn_bytes: int = 0
    stopped: str | None = None
    endpoints: str | None = None

    @property
    def planned(self) -> int:
        """The number of slots."""
        return len(self.slots)

    @property
    def open(self) -> int:
        """The number of slots without an accepted text."""
        return self.planned - len(self.accepted)

"""Which slot is asked when. The order depends on the plan and on what was rejected, never on which answer came first.

Slots start in waves, one per round. Round r asks wave r, and asks again for the slots rejected in round r-2. It opens
when round r-2 is judged, while round r-1 is still in flight, so that no worker is idle at the end of a round."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Turn:
    """One attempt (from 1) at the slot with this index in the plan; `number` counts all turns in their order."""

    number: int
    round: int
    slot_index: int
    attempt: int
    ends_round: bool


class SlotSchedule:
    """The turns of `slots` slots. `on_open` is called with a round's number and its number of turns before the first of
    them is returned by `next`."""

    def __init__(self, slots: int, *, waves: int, on_open: Callable[[int, int], None]) -> None:
        self._slots = slots
        self._waves = waves
        self._on_open = on_open
        self._rounds_opened = 0
        self._turns_created = 0
        self._queue: deque[Turn] = deque()
        self._repeats: dict[int, list[tuple[int, int]]] = {}  # by round: (slot index, attempt) asked again in it
        self._unjudged: dict[int, int] = {}  # by round: turns
        self._round_judged = asyncio.Event()

    async def next(self) -> Turn | None:
        """The next turn, as soon as its round is open; None when every turn is judged."""
        while not self._queue:
            if self._rounds_opened - 2 not in self._unjudged and self._has_more_rounds():
                self._open_round()
            elif self._unjudged:
                await self._round_judged.wait()
            else:
                return None
        return self._queue.popleft()

    def judged(self, turn: Turn, *, next_attempt: int | None) -> None:
        """Reports that a turn is judged; call it in the order of the turns. The slot gets another turn for
        `next_attempt`, or none."""
        if next_attempt is not None:
            self._repeats.setdefault(turn.round + 2, []).append((turn.slot_index, next_attempt))
        self._unjudged[turn.round] -= 1
        if not self._unjudged[turn.round]:
            del self._unjudged[turn.round]
            self._round_judged.set()
            self._round_judged = asyncio.Event()

    def _has_more_rounds(self) -> bool:
        return self._rounds_opened < self._waves or bool(self._repeats)

    def _open_round(self) -> None:
        number = self._rounds_opened
        attempts = self._repeats.pop(number, [])
        attempts += [(slot_index, 1) for slot_index in self._wave(number)]
        for count, (slot_index, attempt) in enumerate(sorted(attempts), start=1):
            self._queue.append(
                Turn(self._turns_created, number, slot_index, attempt, ends_round=count == len(attempts))
            )
            self._turns_created += 1
        self._rounds_opened += 1
        self._on_open(number, len(attempts))
        if attempts:
            self._unjudged[number] = len(attempts)

    def _wave(self, number: int) -> range:
        """The slot indices i with i * waves // slots = `number`."""
        if number >= self._waves:
            return range(0)
        return range(-(-number * self._slots // self._waves), -(-(number + 1) * self._slots // self._waves))

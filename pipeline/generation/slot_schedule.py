"""Which slot is asked when. The order is fixed by the plan and by what was rejected, never by which answer came first.

Slots start in waves, one a round. Round r asks wave r, and once more what round r-2 rejected; it opens when round r-2
is judged, while round r-1 is still in flight: so no call stands idle at the end of a round."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Turn:
    """One attempt (from 1) at the slot in that place of the plan; `number` counts all turns in their order."""

    number: int
    round: int
    place: int
    attempt: int
    ends_round: bool


class SlotSchedule:
    """The turns of `slots` slots. `on_open` is called with a round's number and its turns before any is given out."""

    def __init__(self, slots: int, *, waves: int, on_open: Callable[[int, int], None]) -> None:
        self._slots = slots
        self._waves = waves
        self._on_open = on_open
        self._opened = 0  # rounds
        self._given = 0  # turns
        self._left: deque[Turn] = deque()
        self._again: dict[int, list[tuple[int, int]]] = {}  # by round: (place, attempt) that it asks once more
        self._unjudged: dict[int, int] = {}  # by round
        self._moved = asyncio.Event()

    async def next(self) -> Turn | None:
        """The next turn, as soon as its round is open; None when every turn is judged."""
        while not self._left:
            if self._opened - 2 not in self._unjudged and self._more():
                self._open()
            elif self._unjudged:
                await self._moved.wait()
            else:
                return None
        return self._left.popleft()

    def judged(self, turn: Turn, *, next_attempt: int | None) -> None:
        """Turns are judged in their order; `next_attempt` is the one that the slot gets a turn for, if any."""
        if next_attempt is not None:
            self._again.setdefault(turn.round + 2, []).append((turn.place, next_attempt))
        self._unjudged[turn.round] -= 1
        if not self._unjudged[turn.round]:
            del self._unjudged[turn.round]
            self._moved.set()
            self._moved = asyncio.Event()

    def _more(self) -> bool:
        return self._opened < self._waves or bool(self._again)

    def _open(self) -> None:
        number = self._opened
        turns = self._again.pop(number, [])
        turns += [(place, 1) for place in self._wave(number)]
        for count, (place, attempt) in enumerate(sorted(turns), start=1):
            self._left.append(Turn(self._given, number, place, attempt, ends_round=count == len(turns)))
            self._given += 1
        self._opened += 1
        self._on_open(number, len(turns))
        if turns:
            self._unjudged[number] = len(turns)

    def _wave(self, number: int) -> range:
        """Places whose place * waves // slots is `number`."""
        if number >= self._waves:
            return range(0)
        return range(-(-number * self._slots // self._waves), -(-(number + 1) * self._slots // self._waves))

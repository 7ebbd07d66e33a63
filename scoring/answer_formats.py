"""The formats of a guard's answers: one, or one of each call where a guard has a second call."""

from __future__ import annotations

import re
from dataclasses import dataclass

from marginalia.scoring.guard import Guard


@dataclass(frozen=True, eq=False)
class Format:
    """A format of answers. guard: that of the call; keys: where the format is in the guard file; calls: the names of
    the calls with this format; every: of all calls. The names are before the answers in the column `answer`."""

    guard: Guard
    keys: tuple[str, ...] = ("answer",)
    calls: tuple[str, ...] = ()
    every: tuple[str, ...] = ()

    def answers_in(self, answer: str) -> list[str]:
        """The answers of this format in a record's column `answer`: one, or one per call."""
        if not self.every:
            return [answer]
        parts = re.split(f"(?:^|\n)({'|'.join(map(re.escape, self.every))}): ", answer)
        return [text for name, text in zip(parts[1::2], parts[2::2], strict=True) if name in self.calls]


def formats_of(guard: Guard) -> list[Format]:
    """The formats of a guard's answers, in the order of its calls."""
    calls = guard.calls
    names = tuple(calls)
    if guard.second is None:
        return [Format(guard, calls=names, every=names)]
    first = Format(calls["first"], calls=("first",), every=names)
    return [first, Format(calls["second"], ("second", "answer"), ("second",), names)]

"""Several servers of one model: which is asked next, and which is left alone for a while because it failed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

_FIRST_REST, _LONGEST_REST = 1.0, 60.0  # seconds that a failing replica is left alone: doubled each time
_PATIENCE = 3  # answers with an error, one after the other, before a replica that still answers is left alone


OF_THE_SERVER = (401, 403, 404, 405, 501)  # refusals that speak of a server's set-up, not of the request


@dataclass
class Replica:
    """One server. `failures` is how many calls failed since its last answer, `why` the latest reason; `not_before`:
    the time (time.monotonic) before which it asked not to be called."""

    url: str
    in_flight: int = 0
    answered: int = 0
    failed: int = 0
    failures: int = 0
    rests: int = 0  # since its last answer
    rests_until: float = 0.0
    not_before: float = 0.0
    why: str = ""

    def is_ready(self, now: float) -> bool:
        """Whether it may be asked: one that comes back from a rest gets one call to show that it answers."""
        return now >= self.rests_until and (not self.rests or not self.in_flight)


class Replicas:
    """Servers at `urls` that give the same answers, asked from one thread."""

    def __init__(self, urls: Sequence[str]) -> None:
        self.all = [Replica(url) for url in dict.fromkeys(urls)]

    @property
    def url(self) -> str:
        """Their addresses, for messages."""
        return ", ".join(replica.url for replica in self.all)

    def take(self) -> Replica:
        """The least busy one that is ready; when none is, the one that will be first. Count it in `in_flight`."""
        now = time.monotonic()
        ready = [replica for replica in self.all if replica.is_ready(now)]
        if ready:
            # one that comes back is asked first: its one call says whether it can be used again
            return min(ready, key=lambda replica: (not replica.rests, replica.in_flight, replica.answered))
        return min(self.all, key=lambda replica: (replica.rests_until, replica.in_flight))

    def is_any_ready(self) -> bool:
        """Whether a call that just failed can be made again at once, elsewhere."""
        now = time.monotonic()
        return len(self.all) > 1 and any(replica.is_ready(now) and not replica.failures for replica in self.all)

    def note_answer(self, replica: Replica) -> None:
        replica.answered += 1
        replica.failures = replica.rests = 0

    def note_failure(self, replica: Replica, why: str, *, unreachable: bool, wait: float | None = None) -> None:
        """Leaves it alone for `wait` seconds where it named a time, else for longer each time."""
        replica.failed += 1
        replica.failures += 1
        replica.why = why
        if unreachable or wait is not None or replica.failures >= _PATIENCE:
            rest = wait if wait is not None else min(_LONGEST_REST, _FIRST_REST * 2**replica.rests)
            replica.rests += 1
            replica.rests_until = time.monotonic() + rest

    @property
    def report(self) -> str | None:
        """Who did how much and who failed, where there are several."""
        if len(self.all) < 2:
            return None
        return f"{len(self.all)} endpoints: " + "; ".join(map(_told, self.all))


def _told(replica: Replica) -> str:
    told = f"{replica.url} answered {replica.answered:,} calls"
    if replica.failed:
        told += f", failed {replica.failed:,} times (the last: {replica.why})"
    return told + (" and was left alone at the end" if replica.rests else "")

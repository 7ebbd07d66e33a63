"""Several servers of one model: which is asked next, and which is skipped for a while because it failed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds that a failing replica is skipped, doubled each time
_PATIENCE = 3  # error answers in a row before a replica that still answers is skipped
SERVER_STATUSES = (401, 403, 404, 405, 501)  # HTTP status codes that concern a server's configuration, not the request


@dataclass
class Replica:
    """One server. `in_flight`, `answered` and `failed` count calls; `failures` those that failed since its last answer,
    `pauses` how often it was skipped since then; `why` is the latest reason; `not_before` the time on the monotonic
    clock before which it asked not to be called."""

    url: str
    in_flight: int = 0
    answered: int = 0
    failed: int = 0
    failures: int = 0
    pauses: int = 0
    paused_until: float = 0.0  # on the monotonic clock, in seconds
    not_before: float = 0.0
    why: str = ""

    def is_ready(self, now: float) -> bool:
        """Whether it may be asked: after a pause, with one call at a time until it has answered."""
        return now >= self.paused_until and (not self.pauses or not self.in_flight)


class Replicas:
    """Servers at `urls` that give the same answers. Not thread-safe: use it from one thread."""

    def __init__(self, urls: Sequence[str]) -> None:
        self.all = [Replica(url) for url in dict.fromkeys(urls)]

    @property
    def url(self) -> str:
        """All addresses, for messages."""
        return ", ".join(replica.url for replica in self.all)

    def take(self) -> Replica:
        """The least busy replica that is ready, or else the one that will be ready first. The caller counts the call in
        `in_flight`."""
        now = time.monotonic()
        ready = [replica for replica in self.all if replica.is_ready(now)]
        if ready:
            # a replica after its pause goes first: its one call shows whether it works again
            return min(ready, key=lambda replica: (not replica.pauses, replica.in_flight, replica.answered))
        return min(self.all, key=lambda replica: (replica.paused_until, replica.in_flight))

    def is_any_ready(self) -> bool:
        """Whether a call that just failed can be repeated at once, at another replica."""
        now = time.monotonic()
        return len(self.all) > 1 and any(replica.is_ready(now) and not replica.failures for replica in self.all)

    def note_answer(self, replica: Replica) -> None:
        """Counts an answer and ends the replica's series of failures."""
        replica.answered += 1
        replica.failures = replica.pauses = 0

    def note_failure(self, replica: Replica, why: str, *, unreachable: bool, wait: float | None = None) -> None:
        """Counts a failure. The replica is skipped for `wait` seconds if it named a time; otherwise, when it is
        unreachable or keeps failing, for twice as long each time."""
        replica.failed += 1
        replica.failures += 1
        replica.why = why
        if unreachable or wait is not None or replica.failures >= _PATIENCE:
            pause = wait if wait is not None else min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**replica.pauses)
            replica.pauses += 1
            replica.paused_until = time.monotonic() + pause

    @property
    def report(self) -> str | None:
        """The calls and failures of each replica, as a note; None when there is only one."""
        if len(self.all) < 2:
            return None
        return f"{len(self.all)} endpoints: " + "; ".join(map(_calls_of, self.all))


def _calls_of(replica: Replica) -> str:
    text = f"{replica.url} answered {replica.answered:,} call{'s' * (replica.answered != 1)}"
    if replica.failed:
        text += f", failed {replica.failed:,} time{'s' * (replica.failed != 1)} (last error: {replica.why})"
    return text + (" and was skipped after repeated failures" if replica.pauses else "")

"""When a call to a server is made again, and after how long: one policy for all clients, each with its own values."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

# HTTP statuses after which the same request may succeed later; after 501, not implemented, it never will
RETRIED_STATUSES = frozenset({408, 409, 425, 429, *range(500, 600)}) - {501}
_LONGEST_NAMED = 365 * 86400.0  # seconds: a time beyond it says no more than this one


@dataclass(frozen=True)
class RetryPolicy:
    """`first_backoff` is the longest pause before the second call, in seconds; each further one is `factor` times as
    long, `longest_backoff` at most. `longest_wait`: seconds for which a server may ask. `retried_statuses`: HTTP
    statuses after which the same call is made again."""

    first_backoff: float
    longest_backoff: float = 30.0
    factor: float = 2.0
    longest_wait: float = 300.0
    retried_statuses: frozenset[int] = RETRIED_STATUSES

    def backoff(self, retry: int) -> float:
        """Seconds to wait after the failed call number `retry`, which counts from 0.

        Random, between half and all of the pause: it only spreads calls in time and has no part in any result."""
        longest = min(self.longest_backoff, self.first_backoff * self.factor**retry)
        return longest * random.uniform(0.5, 1.0)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds from now that a server asks to wait, from retry-after-ms or Retry-After (seconds or a date): 0 or more,
    at most a year. None where it names no time."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) * scale
        except ValueError:
            try:
                date = parsedate_to_datetime(value)
                seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - time.time()
            except (ValueError, TypeError, OverflowError):
                continue
        if seconds == seconds:  # not NaN
            return min(max(0.0, seconds), _LONGEST_NAMED)
    return None

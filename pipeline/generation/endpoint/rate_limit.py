"""Requests and tokens a minute, spread evenly: an endpoint's limits are kept to instead of met."""

from __future__ import annotations

import asyncio
import time
from typing import Any

CHARACTERS_PER_TOKEN = 4


class RateLimit:
    """Gives each call its time to start. None for a limit that is not set.

    A call reserves what its prompt may hold and all the tokens that its answer may have; what it did not use is given
    back when the answer tells."""

    def __init__(self, requests_per_minute: int | None, tokens_per_minute: int | None) -> None:
        self._seconds_a_request = 60 / requests_per_minute if requests_per_minute else 0.0
        self._seconds_a_token = 60 / tokens_per_minute if tokens_per_minute else 0.0
        self._next_request = self._next_token = 0.0

    async def turn(self, tokens: int) -> None:
        """Returns when a call of `tokens` tokens may start."""
        now = time.monotonic()
        start = max(now, self._next_request, self._next_token)
        self._next_request = start + self._seconds_a_request
        self._next_token = start + tokens * self._seconds_a_token
        if start > now:
            await asyncio.sleep(start - now)

    def used(self, reserved: int, tokens: int) -> None:
        """Gives back what a call had reserved and did not use; one that used more delays the next."""
        self._next_token -= (reserved - tokens) * self._seconds_a_token


def most_tokens(payload: dict[str, Any], answer: int) -> int:
    """An estimate of the prompt's tokens, and `answer` more."""
    return sum(len(message["content"]) for message in payload["messages"]) // CHARACTERS_PER_TOKEN + answer

from __future__ import annotations

import asyncio
import time
from typing import Any

from marginalia.pipeline.config.generation import GenerateSection
from marginalia.pipeline.generation.endpoint.llm_endpoint import Endpoint
from marginalia.pipeline.generation.endpoint.rate_limit import RateLimit, most_tokens
from tests.openai_server import OpenAIServer


def _starts(pace: RateLimit, tokens: list[int]) -> list[float]:
    """When each call was allowed to start, in seconds from the first."""

    async def one(size: int) -> float:
        await pace.turn(size)
        return time.monotonic()

    async def run() -> list[float]:
        return await asyncio.gather(*map(one, tokens))

    times = asyncio.run(run())
    return [moment - times[0] for moment in times]


def test_requests_are_spread_evenly() -> None:
    starts = _starts(RateLimit(600, None), [10] * 4)
    assert all(start >= 0.1 * number - 0.005 for number, start in enumerate(starts))


def test_a_large_call_delays_the_next() -> None:
    starts = _starts(RateLimit(None, 60_000), [200, 50, 1])
    assert starts[1] >= 0.195
    assert starts[2] >= 0.245


def test_what_a_call_did_not_use_is_given_back() -> None:
    pace = RateLimit(None, 60_000)

    async def run() -> float:
        started = time.monotonic()
        await pace.turn(60_000)
        pace.used(60_000, 50)
        await pace.turn(1)
        return time.monotonic() - started

    assert 0.045 <= asyncio.run(run()) < 5


def test_no_limit_is_no_wait() -> None:
    assert _starts(RateLimit(None, None), [10**9] * 50)[-1] < 5


def test_the_endpoint_keeps_the_pace() -> None:
    payload: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Write."}], "max_tokens": 9}

    async def ask(url: str) -> None:
        async with Endpoint(GenerateSection(requests_per_minute=600), url) as endpoint:
            await asyncio.gather(*(endpoint.ask({**payload, "seed": seed}) for seed in range(5)))

    with OpenAIServer() as server:
        started = time.monotonic()
        asyncio.run(ask(server.url))
        assert time.monotonic() - started >= 0.395
    assert most_tokens(payload, 9) == 6 // 4 + 9

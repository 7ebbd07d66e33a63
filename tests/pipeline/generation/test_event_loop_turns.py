from __future__ import annotations

import asyncio

from marginalia.pipeline.generation.endpoint.event_loop_turns import EventLoopTurns


def test_what_one_has_begun_goes_out_before_the_next_is_worked_on() -> None:
    """Each waiter leaves a callback for the next round, as a request that is written; it runs before the next one."""
    order: list[str] = []

    async def work(one_by_one: EventLoopTurns, name: str) -> None:
        await one_by_one.turn()
        order.append(f"{name} worked")
        asyncio.get_running_loop().call_soon(order.append, f"{name} sent")

    async def all_at_once() -> None:
        one_by_one = EventLoopTurns()
        tasks = [asyncio.create_task(work(one_by_one, name)) for name in "abcd"]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await work(one_by_one, "e")
        await asyncio.sleep(0)

    asyncio.run(all_at_once())
    assert order == [f"{name} {what}" for name in "acde" for what in ("worked", "sent")]

"""The writer of the config, opened at the first question: a run whose journal holds all answers needs neither key nor
server."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

from marginalia.pipeline.config.generation import BUNDLED, GenerateSection
from marginalia.pipeline.generation.endpoint.llm_endpoint import Endpoint, Unreadable
from marginalia.pipeline.generation.response_journal import Reply


class LazyWriter:
    """Opens the endpoint, or starts the bundled model's server, when it is first asked; closes what it opened."""

    def __init__(self, section: GenerateSection) -> None:
        self._section = section
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._endpoint: Endpoint | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def ask(self, payload: dict[str, Any], unreadable: Unreadable) -> Reply:
        """As Endpoint.ask."""
        if self._endpoint is None:
            async with self._opening:
                if self._endpoint is None:
                    self._endpoint = await self._open()
        return await self._endpoint.ask(payload, unreadable)

    @property
    def report(self) -> str | None:
        """Who answered how much, where there are several addresses."""
        return self._endpoint.report if self._endpoint is not None else None

    async def _open(self) -> Endpoint:
        urls = self._section.endpoint.urls
        if urls == [BUNDLED]:
            from marginalia.pipeline.generation.endpoint.bundled_llm_server import start
            from marginalia.scoring.models.model_cache import model_cache

            server = await asyncio.to_thread(start, model_cache())
            self._stack.callback(server.stop)
            urls = [server.url]
        return await self._stack.enter_async_context(Endpoint(self._section, urls))

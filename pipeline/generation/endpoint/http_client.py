"""The exchange with one OpenAI-compatible server: bytes out, bytes in, over connections that are kept."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import httpx2
import openai

from marginalia.schemas.server_addresses import key_headers, proxy_for, route

_LARGEST_BODY = 4_000_000  # bytes


class BodyLost(Exception):
    """An answer began with a status of 2xx and could not be had to its end: whoever gave it may well charge for it. Its
    cause is what happened."""


class BodyTooLarge(aiohttp.ClientError):
    """An answer that never ends must not fill the memory."""


class Client:
    """The chat completions of the server at `base_url`.

    openai's client says the address, the headers and what an error means; the exchange itself goes straight to aiohttp,
    for that takes a third of the processor time a call (0.15 ms instead of 0.48)."""

    def __init__(self, base_url: str, key: str, concurrency: int, timeout_seconds: float) -> None:
        self._openai = openai.AsyncOpenAI(base_url=base_url, api_key=key, max_retries=0)
        self._url = route(base_url, "chat/completions")
        own = {**self._openai.default_headers, "Accept-Encoding": "identity"}
        self._headers = {name: value for name, value in own.items() if isinstance(value, str)}
        self._headers.pop("Authorization", None)
        self._headers |= key_headers(base_url, key)
        self._concurrency = concurrency
        self._timeout = timeout_seconds  # of a whole exchange: a server that trickles gets no more for each byte
        self._proxy = proxy_for(self._url)  # asked once: aiohttp would ask before every call
        self._session: aiohttp.ClientSession | None = None

    async def post(self, payload: dict[str, Any]) -> bytes:
        """The answer's body. Raises openai.APIStatusError for any status but 2xx, TimeoutError, what aiohttp raises,
        and BodyLost for these two once a good answer has begun."""
        text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        data = text.encode("utf-8", "backslashreplace")
        session = self._session or self._opened()
        began = False
        try:
            async with (
                asyncio.timeout(self._timeout),
                # prompts and key are for the server that the config names, not for one that it names in turn
                session.post(
                    self._url, data=data, headers=self._headers, proxy=self._proxy, allow_redirects=False
                ) as response,
            ):
                began = 200 <= response.status < 300
                body = await _bounded(response)
        except (TimeoutError, aiohttp.ClientError) as error:
            if began:
                raise BodyLost from error
            raise
        if not began:
            self._refused(response, body)
        return body

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
        await self._openai.close()

    def _opened(self) -> aiohttp.ClientSession:
        # the certificates that openai's own transport trusts; loading them takes longer than a call
        ssl = httpx2.create_ssl_context() if self._url.startswith("https:") else True
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._concurrency, ssl=ssl),
            timeout=aiohttp.ClientTimeout(total=None),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self._session

    def _refused(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        request = httpx2.Request("POST", self._url)
        # the body has been unpacked: what it was packed with is no longer true
        headers = [(name, value) for name, value in response.headers.items() if name.lower() != "content-encoding"]
        answer = httpx2.Response(response.status, headers=headers, content=body, request=request)
        raise self._openai._make_status_error_from_response(answer)


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    """The body, unpacked; never more of it than may be kept."""
    if "Content-Encoding" not in response.headers and (response.content_length or _LARGEST_BODY) < _LARGEST_BODY:
        return await response.read()
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _LARGEST_BODY:
            raise BodyTooLarge(f"an answer of more than {_LARGEST_BODY:,} bytes")
    return bytes(body)

"""Requests to one OpenAI-compatible server, through the openai client, and what its answers mean."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import openai

from marginalia.schemas.http_client import ANSWERED, ExchangeLimits, async_client, check_proxy
from marginalia.schemas.key_masking import KeyMask
from marginalia.schemas.retries import RetryPolicy, retry_after
from marginalia.schemas.server_addresses import key_headers
from marginalia.scoring.models.retried_calls import Refused, TryAgain

_ID_HEADER = "X-Request-Id"
_OWN_IDS = re.compile("marginalia-[0-9a-f]{32}")


class EndpointClient:
    """The server at `url`, whose address may end in Azure's `?api-version=…`. `key` is sent in a header and shown
    nowhere: `safe` hides it in texts.

    Raises InputError for a proxy of the environment that cannot be used."""

    def __init__(
        self,
        url: str,
        key: str | None,
        safe: KeyMask,
        policy: RetryPolicy,
        *,
        concurrency: int,
        timeout_seconds: float,
        largest_body: int,
    ) -> None:
        check_proxy(url)
        base, _, query = url.partition("?")
        name, _, value = query.partition("=")
        headers = key_headers(url, key)
        # openai's client sends a bearer token by default
        self._headers: dict[str, Any] = {} if "Authorization" in headers else {"Authorization": openai.omit, **headers}
        self._openai = openai.AsyncOpenAI(
            base_url=base,
            api_key=key or "none",
            max_retries=0,
            default_query={name: value} if query else None,
            http_client=async_client(ExchangeLimits(timeout_seconds, largest_body), connections=concurrency),
        )
        self._url = url
        self._safe = safe
        self._policy = policy
        self._seconds = timeout_seconds

    async def get(self, path: str) -> httpx2.Response:
        """As post."""
        return await self._exchange(self._openai.get, path)

    async def post(self, path: str, payload: dict[str, Any]) -> httpx2.Response:
        """The answer to `payload`, whose status is 2xx and whose body has been read. Raises TryAgain and Refused."""
        text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        # half of a surrogate pair has no UTF-8: backslashreplace writes it as JSON does
        data = text.encode("utf-8", "backslashreplace")
        return await self._exchange(self._openai.post, path, content=data)

    async def close(self) -> None:
        """Closes the connections."""
        await self._openai.close()

    async def _exchange(self, method: Callable[..., Awaitable[Any]], path: str, **content: bytes) -> httpx2.Response:
        request_id = f"marginalia-{uuid.uuid4().hex}"
        headers = {_ID_HEADER: request_id, **self._headers}
        try:
            response: httpx2.Response = await method(
                f"/{path}", cast_to=httpx2.Response, options={"headers": headers}, **content
            )
        except openai.APIStatusError as error:
            raise self._status_error(error.response) from None
        except openai.APIConnectionError as error:
            raise self._connection_error(error) from None
        # servers that repeat the header show which request they answer; proxies may add ids of their own
        answered = _OWN_IDS.findall(response.headers.get(_ID_HEADER, ""))
        if answered and request_id not in answered:
            raise TryAgain("the answer belongs to another request", charged=True)
        return response

    def _connection_error(self, error: openai.APIConnectionError) -> TryAgain:
        cause = error.__cause__ or error
        if isinstance(cause, httpx2.TimeoutException):
            message = f"no answer in {self._seconds:g} s"
        else:
            message = f"connection failed: {self._safe(' '.join(str(cause).split())) or type(cause).__name__}"
        status = error.request.extensions.get(ANSWERED, 0)
        return TryAgain(message, unreachable=True, charged=200 <= status < 300)

    def _status_error(self, response: httpx2.Response) -> TryAgain | Refused:
        status = response.status_code
        message, code = error_words(response.text)
        if response.has_redirect_location:
            message = f"redirected to {response.headers['location']}"
        refused = Refused(self._url, status, self._safe(message), self._safe(code) if code else None)
        if status in self._policy.retried_statuses and "insufficient_quota" not in refused.text:
            return TryAgain(str(refused), status=status, wait=retry_after(response.headers))
        return refused


def error_words(body: str) -> tuple[str, str | None]:
    """What an error says and its code, from the forms that OpenAI, vLLM, llama.cpp, SGLang and FastAPI give errors."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    error = value.get("error", value) if isinstance(value, dict) else value
    code = None
    if isinstance(error, dict):
        code, message = error.get("code"), error.get("message", error.get("detail"))
        error = error if message is None else message
    text = body if error is None else error if isinstance(error, str) else json.dumps(error)
    return " ".join(text.split()), code if isinstance(code, str) else None

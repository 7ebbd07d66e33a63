"""Calls to an OpenAI-compatible endpoint: what is tried again, what fails an attempt, and what ends the stage."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self

import aiohttp
import openai

from pipeline.generation.answers import Reply
from pipeline.generation.client import Client
from pipeline.generation.config import GenerateSection
from pipeline.generation.one_by_one import OneByOne
from pipeline.generation.pace import Pace, most_tokens
from schemas.errors import InputError, ServiceError

_LONGEST_WAIT = 300.0  # seconds that a Retry-After may ask for
_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.5, 30.0
_MANY_FAILURES = 10  # attempts that fail one after the other before the endpoint has ever answered
_FILTERED = ("content_filter", "content_policy_violation")  # error codes of an endpoint that will not write a text


class AttemptFailed(Exception):
    """The endpoint gave no answer to one question, after all retries. The message says what it gave instead."""


class _TryAgain(Exception):
    def __init__(self, what: str, *, wait: float | None = None, unreachable: bool = False) -> None:
        super().__init__(what)
        self.wait = wait
        self.unreachable = unreachable


class Endpoint:
    """An endpoint that questions are sent to. Until it has answered once, one call at a time: a wrong key or address
    costs exactly one call."""

    def __init__(self, section: GenerateSection, base_url: str) -> None:
        self._section = section
        self._url = base_url
        self._key = api_key(section)
        self._client = Client(base_url, self._key or "none", section.concurrency)
        self._pace = Pace(section.requests_per_minute, section.tokens_per_minute)
        self._one_by_one = OneByOne()
        self._answered = False
        self._ended: ServiceError | None = None
        self._alone = asyncio.Lock()
        self._failures = 0
        self._not_before = 0.0
        self.calls = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._client.close()

    async def ask(self, payload: dict[str, Any]) -> Reply:
        """The reply to `payload`. Raises AttemptFailed when there is none after all retries, and ServiceError or
        InputError, with the setting to change, for what no retry can mend."""
        if not self._answered:
            async with self._alone:
                if not self._answered:
                    return await self._with_retries(payload)
        return await self._with_retries(payload)

    async def _with_retries(self, payload: dict[str, Any]) -> Reply:
        tokens = most_tokens(payload, self._section.max_tokens)
        for retry in range(self._section.retries + 1):
            await self._pace.turn(tokens)
            if (wait := self._not_before - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            if self._ended is not None:
                raise self._ended  # somebody else's call met it; not one more is made
            try:
                reply = await self._call(payload)
            except _TryAgain as problem:
                if retry == self._section.retries or (problem.wait or 0) > _LONGEST_WAIT:
                    raise self._failed(problem, retry + 1) from None
                await self._back_off(problem, retry)
            else:
                self._answered, self._failures = True, 0
                if reply.prompt_tokens is not None and reply.completion_tokens is not None:
                    self._pace.used(tokens, reply.prompt_tokens + reply.completion_tokens)
                return reply
        raise AssertionError("unreachable")

    def _failed(self, problem: _TryAgain, calls: int) -> Exception:
        self._failures += 1
        what = f"{problem} ({calls} call{'s' * (calls > 1)})"
        if self._answered:
            return AttemptFailed(what)
        if problem.unreachable:
            hint = "is the server running? set generate.endpoint.base_url"
            self._ended = ServiceError(f"{self._url}: {what}", hint=hint)
        elif self._failures >= _MANY_FAILURES:
            hint = "look at the server; what was answered before is kept, run the stage again"
            what = f"no answer {self._failures} times in a row; the last: {what}"
            self._ended = ServiceError(f"{self._url}: {what}", hint=hint)
        return self._ended or AttemptFailed(what)

    async def _back_off(self, problem: _TryAgain, retry: int) -> None:
        if problem.wait is not None:
            # a server that names a time means all of our calls
            self._not_before = max(self._not_before, time.monotonic() + problem.wait)
            return
        # jitter only spreads calls in time; it has no part in the result
        await asyncio.sleep(min(_LONGEST_BACKOFF, _FIRST_BACKOFF * 2**retry) * random.uniform(0.5, 1.0))

    async def _call(self, payload: dict[str, Any]) -> Reply:
        self.calls += 1
        started = time.monotonic()
        try:
            # of the whole exchange: a server that trickles gets no more time for each byte
            async with asyncio.timeout(self._section.timeout_seconds):
                body = await self._client.post(payload)
        except TimeoutError:
            raise _TryAgain(f"no answer in {self._section.timeout_seconds:g} s", unreachable=True) from None
        except aiohttp.ClientError as error:
            said = self._safe(" ".join(str(error).split())) or type(error).__name__
            raise _TryAgain(f"connection failed: {said}", unreachable=True) from None
        except openai.APIStatusError as error:
            return self._on_status(error, time.monotonic() - started)
        seconds = time.monotonic() - started
        await self._one_by_one.turn()
        return self._reply(body, seconds)

    def _on_status(self, error: openai.APIStatusError, seconds: float) -> Reply:
        status, code = error.status_code, error.code
        said = self._safe(_said(error))
        if code in _FILTERED:
            return Reply(None, f"the endpoint's content filter: {said}", "content_filter", None, None, None, seconds)
        if code != "insufficient_quota" and (status in (408, 409, 425, 429) or status >= 500):
            raise _TryAgain(f"status {status}: {said}", wait=_retry_after(error)) from None
        self._ended = self._fatal(status, said)
        raise self._ended from None

    def _fatal(self, status: int, said: str) -> ServiceError:
        variable = self._section.endpoint.api_key_env
        key = f"the key in the environment variable {variable}" if variable else "generate.endpoint.api_key_env"
        hints = {
            401: f"set {key}",
            403: f"{key} may not use this model; set it or generate.endpoint.model",
            404: "set generate.endpoint.base_url (it ends in /v1 with most servers) or generate.endpoint.model",
            429: "the account's quota is used up",
        }
        other = "set the key of section generate that the endpoint names: model, structured_output, send_seed, "
        hint = hints.get(status, other + "token_limit_key, temperature, max_tokens")
        return ServiceError(f"{self._url}: status {status}: {said}", hint=hint)

    def _reply(self, body: bytes, seconds: float) -> Reply:
        try:
            value = json.loads(self._safe(body.decode("utf-8"), limit=None))
        except (ValueError, RecursionError):
            raise _TryAgain(f"not JSON: {self._safe(body[:120].decode('utf-8', 'replace'))!r}") from None
        try:
            choice = value["choices"][0]
            message = choice["message"]
            text, refusal, finish = message.get("content"), message.get("refusal"), choice.get("finish_reason")
        except (KeyError, IndexError, TypeError, AttributeError):
            raise _TryAgain(f"no choices in the answer: {self._safe(json.dumps(value))[:120]}") from None
        if isinstance(text, list):
            text = _joined(text)
        if not (text is None or isinstance(text, str)):
            raise _TryAgain(f"the answer's content is no text but {type(text).__name__}")
        if finish == "content_filter" and not refusal:
            refusal = "the endpoint's content filter"
        model = value.get("model")
        return Reply(
            text=text,
            refused=str(refusal) if refusal else None,
            finish_reason=str(finish) if finish is not None else None,
            model=model if isinstance(model, str) else None,
            prompt_tokens=_count(value, "prompt_tokens"),
            completion_tokens=_count(value, "completion_tokens"),
            seconds=seconds,
        )

    def _safe(self, text: str, *, limit: int | None = 300) -> str:
        """`text` without the key, which some servers repeat."""
        hidden = text.replace(self._key, "***") if self._key else text
        return hidden if limit is None else hidden[:limit]


def api_key(section: GenerateSection) -> str | None:
    """The key from the environment; None when the config names no variable. Raises InputError when it is not set."""
    variable = section.endpoint.api_key_env
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        hint = f"export {variable}=…, or change generate.endpoint.api_key_env"
        raise InputError(
            f"the environment variable {variable} is not set; it should hold the endpoint's key", hint=hint
        )
    return key


def _joined(parts: list[Any]) -> Any:
    """The text of a content that comes as a list of parts, as some servers send it; `parts` when it is none."""
    texts = [part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)]
    return "".join(texts) if texts and len(texts) == len(parts) else parts


def _count(value: dict[str, Any], name: str) -> int | None:
    usage = value.get("usage")
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) and not isinstance(count, bool) and 0 <= count < 10**9 else None


def _said(error: openai.APIStatusError) -> str:
    body = error.body
    message = body.get("message") if isinstance(body, dict) else None
    text = message if isinstance(message, str) else error.response.text
    return " ".join(text.split())[:300]


def _retry_after(error: openai.APIStatusError) -> float | None:
    """Seconds that the server asks to wait, from retry-after-ms or Retry-After (seconds or a date)."""
    headers = error.response.headers
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            return max(0.0, float(value) * scale)
        except ValueError:
            try:
                return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
            except (ValueError, TypeError, OverflowError):
                continue
    return None

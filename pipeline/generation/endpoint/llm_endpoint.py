"""Calls to an OpenAI-compatible endpoint: what is tried again, what fails an attempt, and what ends the stage."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self

import aiohttp
import openai

from marginalia.pipeline.config.generation import GenerateSection
from marginalia.pipeline.generation.endpoint.chat_completion import (
    is_filtered,
    read_message,
    reasoning_tokens,
    why_broken_off,
)
from marginalia.pipeline.generation.endpoint.event_loop_turns import EventLoopTurns
from marginalia.pipeline.generation.endpoint.http_client import BodyLost, Client
from marginalia.pipeline.generation.endpoint.rate_limit import RateLimit, most_tokens
from marginalia.pipeline.generation.response_journal import Reply
from marginalia.schemas.errors import InputError, ServiceError
from marginalia.schemas.key_approval import check_key_approved
from marginalia.scoring.models.endpoint_dialects import hint as hint_of
from marginalia.scoring.models.endpoint_dialects import is_of_seed, streamed
from marginalia.scoring.models.replicas import OF_THE_SERVER, Replica, Replicas

_LONGEST_WAIT = 300.0  # seconds that a Retry-After may ask for
_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.5, 30.0
_MANY_FAILURES = 10  # attempts that fail one after the other before the endpoint is held to be down
_MANY_STREAMS = 3  # answers in pieces, before any other: a server that gives them gives no others
_FILTERED = ("content_filter", "content_policy_violation")  # error codes of an endpoint that will not write a text


Unreadable = Callable[[str], bool]


class AttemptFailed(Exception):
    """The endpoint gave no answer to one question, after all retries. The message says what it gave instead."""


class EndpointDown(AttemptFailed):
    """No call was made: the endpoint is held to be down. The message says why."""


class _TryAgain(Exception):
    def __init__(
        self,
        what: str,
        *,
        wait: float | None = None,
        unreachable: bool = False,
        unreadable: bool = False,
        streams: bool = False,
    ) -> None:
        super().__init__(what)
        self.streams = streams
        self.wait = wait
        self.unreachable = unreachable
        self.unreadable = unreadable  # a good status, so that it may have been paid for


class _Refused(Exception):
    """A status that no retry at the same server can mend."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"status {status}: {said}")
        self.status = status
        self.said = said


@dataclass
class _Server:
    client: Client
    pace: RateLimit
    not_before: float = 0.0  # what its Retry-After asked for


class Endpoint:
    """An endpoint that questions are sent to, or several that serve the same model. Until one has answered once, one
    call at a time: a wrong key or address costs exactly one call."""

    def __init__(self, section: GenerateSection, urls: str | Sequence[str]) -> None:
        self._section = section
        self._key = api_key(section)
        self._replicas = Replicas([urls] if isinstance(urls, str) else urls)
        self._url = self._replicas.url
        for replica in self._replicas.all:
            if replica.url.partition("?")[0].endswith("/chat/completions"):
                raise InputError(f"{replica.url}: generate.endpoint.base_url ends before /chat/completions")
            if (variable := section.endpoint.api_key_env) is not None:
                setting = "generate.endpoint.allow_http"
                check_key_approved(variable, replica.url, allow_http=section.endpoint.allow_http, setting=setting)
        self._servers = {
            replica.url: _Server(
                Client(replica.url, self._key or "none", section.concurrency, section.timeout_seconds),
                RateLimit(section.requests_per_minute, section.tokens_per_minute),
            )
            for replica in self._replicas.all
        }
        self._model: tuple[str, str] | None = None  # the first answer's, and who gave it
        self._one_by_one = EventLoopTurns()
        self._answered = False
        self._broke = False  # whether a request with a seed was answered by a server's own fault
        self._ended: ServiceError | None = None
        self._down: str | None = None
        self._alone = asyncio.Lock()
        self._failures = 0
        self.calls = 0

    @property
    def report(self) -> str | None:
        """Who answered how much, where there are several."""
        return self._replicas.report

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        for server in self._servers.values():
            await server.client.close()

    async def ask(self, payload: dict[str, Any], unreadable: Unreadable = lambda _: True) -> Reply:
        """The reply to `payload`. `unreadable` is told of each answer that cannot be read, and says whether to try
        again.

        Raises AttemptFailed when there is none after all retries, EndpointDown when no call is worth making any more,
        and ServiceError or InputError, with the setting to change, for what no retry can mend."""
        if not self._answered:
            async with self._alone:
                if not self._answered:
                    return await self._with_retries(payload, unreadable)
        return await self._with_retries(payload, unreadable)

    async def _with_retries(self, payload: dict[str, Any], unreadable: Unreadable) -> Reply:
        # a replica's fault need not cost one of the retries
        last = self._section.retries + len(self._servers) - 1
        said = ""
        for retry in range(last + 1):
            replica = self._replicas.take()
            try:
                reply = await self._ask_one(replica, payload)
            except EndpointDown:
                if not retry:
                    raise
                raise AttemptFailed(_after(said, retry)) from None
            except _TryAgain as problem:
                said = str(problem)
                if problem.unreadable and not unreadable(str(problem)):
                    raise AttemptFailed(f"{problem}; generate.budget allows no other try") from None
                if problem.streams:
                    raise self._failed(problem, retry + 1) from None  # the same request would be answered the same way
                elsewhere = self._replicas.is_any_ready()
                too_long = not elsewhere and (problem.wait or 0) > _LONGEST_WAIT
                if retry == last or too_long or self._down is not None:
                    raise self._failed(problem, retry + 1) from None
                if not elsewhere:
                    await self._back_off(replica, problem, retry)
            else:
                self._answered, self._failures = True, 0
                return reply
        raise AssertionError("unreachable")

    async def _ask_one(self, replica: Replica, payload: dict[str, Any]) -> Reply:
        """One call to one server, and what it says of that server."""
        server, tokens = self._servers[replica.url], most_tokens(payload, self._section.max_tokens)
        replica.in_flight += 1
        try:
            await server.pace.turn(tokens)
            if (wait := server.not_before - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            if self._ended is not None:
                raise self._ended  # somebody else's call met it; not one more is made
            if self._down is not None:
                raise EndpointDown(self._down)
            reply = await self._call(replica.url, payload)
        except _TryAgain as problem:
            self._replicas.note_failure(replica, str(problem), unreachable=problem.unreachable, wait=problem.wait)
            raise
        except _Refused as refusal:
            if refusal.status in OF_THE_SERVER and len(self._servers) > 1:
                self._replicas.note_failure(replica, str(refusal), unreachable=True)
                if self._replicas.is_any_ready():
                    raise _TryAgain(str(refusal)) from None
            self._ended = self._fatal(replica.url, refusal)
            raise self._ended from None
        finally:
            replica.in_flight -= 1
        self._replicas.note_answer(replica)
        self._check_model(replica.url, reply)
        if reply.prompt_tokens is not None and reply.completion_tokens is not None:
            server.pace.used(tokens, reply.prompt_tokens + reply.completion_tokens)
        return reply

    def _check_model(self, url: str, reply: Reply) -> None:
        if len(self._servers) == 1 or reply.model is None:
            return
        first = self._model = self._model or (reply.model, url)
        if reply.model != first[0]:
            self._ended = ServiceError(
                f"{url} answers as model '{reply.model}', {first[1]} as '{first[0]}'",
                hint="all addresses of generate.endpoint.base_url must serve the same model",
            )
            raise self._ended

    def _failed(self, problem: _TryAgain, calls: int) -> Exception:
        self._failures += 1
        what = _after(str(problem), calls)
        rest = min(replica.paused_until for replica in self._replicas.all) - time.monotonic()
        if rest > _LONGEST_WAIT:
            self._down = f"{self._url}: {problem}; it wants no call in the next {_duration(rest)}"
        elif self._answered and self._failures >= max(_MANY_FAILURES, 2 * self._section.concurrency):
            self._down = f"{self._url} stopped answering ({self._failures} failures in a row): {what}"
        if self._answered or self._down is not None:
            return AttemptFailed(what)
        of_seed = self._section.send_seed and is_of_seed(what)
        seed = "; if it fails on a request's seed: generate.send_seed: false" if self._broke or of_seed else ""
        if problem.unreachable:
            hint = "is the server running? set generate.endpoint.base_url" + seed
            self._ended = ServiceError(f"{self._url}: {what}", hint=hint)
        elif problem.streams and self._failures >= _MANY_STREAMS:
            self._ended = ServiceError(f"{self._url}: {what}", hint=hint_of(what))
        elif of_seed:
            self._ended = ServiceError(f"{self._url}: {what}", hint="set generate.send_seed: false")
        elif self._failures >= _MANY_FAILURES:
            hint = "look at the server; what was answered before is kept, run the stage again" + seed
            what = f"no answer {self._failures} times in a row; the last: {what}"
            self._ended = ServiceError(f"{self._url}: {what}", hint=hint)
        return self._ended or AttemptFailed(what)

    async def _back_off(self, replica: Replica, problem: _TryAgain, retry: int) -> None:
        if problem.wait is not None:
            # a server that names a time means all of our calls
            server = self._servers[replica.url]
            server.not_before = max(server.not_before, time.monotonic() + problem.wait)
            return
        # jitter only spreads calls in time; it has no part in the result
        await asyncio.sleep(min(_LONGEST_BACKOFF, _FIRST_BACKOFF * 2**retry) * random.uniform(0.5, 1.0))

    async def _call(self, url: str, payload: dict[str, Any]) -> Reply:
        self.calls += 1
        started = time.monotonic()
        try:
            body = await self._servers[url].client.post(payload)
        except (TimeoutError, aiohttp.ClientError, BodyLost) as error:
            raise self._lost(error) from None
        except openai.APIStatusError as error:
            return replace(self._on_status(error, time.monotonic() - started), endpoint=url)
        seconds = time.monotonic() - started
        self._check_whole(body)
        await self._one_by_one.turn()
        return replace(self._reply(body, seconds), endpoint=url)

    def _check_whole(self, body: bytes) -> None:
        """An answer that comes in pieces although none were asked for is not put together: it says so."""
        if body[:1] in (b"{", b"["):
            return
        events = streamed(self._safe(body[:2000].decode("utf-8", "replace"), limit=None))
        if events is not None:
            raise _TryAgain(events.said, unreadable=True, streams=events.error is None)

    def _lost(self, error: BaseException) -> _TryAgain:
        began = isinstance(error, BodyLost)
        cause = error.__cause__ if began else error
        if isinstance(cause, TimeoutError):
            what = f"no answer in {self._section.timeout_seconds:g} s"
        else:
            what = f"connection failed: {self._safe(' '.join(str(cause).split())) or type(cause).__name__}"
        return _TryAgain(what, unreachable=True, unreadable=began)

    def _on_status(self, error: openai.APIStatusError, seconds: float) -> Reply:
        status, code = error.status_code, error.code
        said = self._safe(_said(error))
        if code in _FILTERED:
            return Reply(None, f"the endpoint's content filter: {said}", "content_filter", None, None, None, seconds)
        if code != "insufficient_quota" and (status in (408, 409, 425, 429) or status >= 500):
            self._broke |= status >= 500 and self._section.send_seed
            raise _TryAgain(f"status {status}: {said}", wait=_retry_after(error)) from None
        raise _Refused(status, said) from None

    def _fatal(self, url: str, refusal: _Refused) -> ServiceError:
        variable = self._section.endpoint.api_key_env
        key = f"the key in the environment variable {variable}" if variable else "generate.endpoint.api_key_env"
        hints = {
            401: f"set {key}",
            403: f"{key} may not use this model; set it or generate.endpoint.model",
            404: "set generate.endpoint.base_url (it ends in /v1 with most servers) or generate.endpoint.model",
            429: "the account's quota is used up",
        }
        other = "set the key of section generate that the endpoint names: model, structured_output, send_seed, "
        if 300 <= refusal.status < 400:
            elsewhere = "it sends to another address, which is not followed; set generate.endpoint.base_url to that"
            return ServiceError(f"{url}: {refusal}", hint=elsewhere)
        if refusal.status in (400, 422) and self._section.send_seed and is_of_seed(refusal.said):
            return ServiceError(f"{url}: {refusal}", hint="set generate.send_seed: false")
        hint = hints.get(refusal.status) or hint_of(refusal.said)
        return ServiceError(
            f"{url}: {refusal}", hint=hint or other + "token_limit_key, temperature, max_tokens, extra_body"
        )

    def _reply(self, body: bytes, seconds: float) -> Reply:
        try:
            value = json.loads(self._safe(body.decode("utf-8"), limit=None))
        except (ValueError, RecursionError):
            said = self._safe(body[:120].decode("utf-8", "replace"))
            raise _TryAgain(f"not JSON: {said!r}", unreadable=True) from None
        try:
            choice = value["choices"][0]
            finish = choice.get("finish_reason")
            if broken_off := why_broken_off(value, choice):
                raise _TryAgain(self._safe(" ".join(broken_off.split())), unreadable=True)
            content = read_message(choice["message"])
        except ValueError as error:
            raise _TryAgain(str(error), unreadable=True) from None
        except (KeyError, IndexError, TypeError, AttributeError):
            said = self._safe(json.dumps(value))[:120]
            raise _TryAgain(f"no choices in the answer: {said}", unreadable=True) from None
        finish = str(finish) if finish is not None else None
        filtered = "the endpoint's content filter" if is_filtered(finish) else None
        model = value.get("model")
        return Reply(
            text=content.text,
            refused=content.refusal or filtered,
            finish_reason=finish,
            model=model if isinstance(model, str) else None,
            prompt_tokens=_count(value, "prompt_tokens"),
            completion_tokens=_count(value, "completion_tokens"),
            seconds=seconds,
            reasoning=content.reasoning or reasoning_tokens(value.get("usage")) > 0,
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


def _after(said: str, calls: int) -> str:
    return f"{said} ({calls} call{'s' * (calls > 1)})"


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} hours" if seconds >= 5400 else f"{seconds / 60:.0f} minutes"


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

"""Calls to an OpenAI-compatible endpoint: what is tried again, what fails an attempt, and what ends the stage."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

from marginalia.pipeline.config.generation import GenerateSection
from marginalia.pipeline.generation.endpoint.chat_completion import (
    is_filtered,
    read_message,
    reasoning_tokens,
    why_broken_off,
)
from marginalia.pipeline.generation.endpoint.event_loop_turns import EventLoopTurns
from marginalia.pipeline.generation.endpoint.rate_limit import RateLimit, most_tokens
from marginalia.pipeline.generation.response_journal import Reply
from marginalia.schemas.errors import InputError, ServiceError
from marginalia.schemas.key_approval import check_key_approved
from marginalia.schemas.key_masking import KeyMask
from marginalia.schemas.retries import RetryPolicy
from marginalia.scoring.models.endpoint_client import EndpointClient
from marginalia.scoring.models.endpoint_dialects import hint as hint_of
from marginalia.scoring.models.endpoint_dialects import is_seed_error, streamed
from marginalia.scoring.models.replicas import Replica
from marginalia.scoring.models.retried_calls import MANY_FAILURES, GaveUp, NoCall, Refused, RetriedCalls, TryAgain

POLICY = RetryPolicy(first_backoff=0.5)
_LARGEST_BODY = 4_000_000  # bytes
_MANY_STREAMS = 3  # answers in pieces, before any other: a server that gives them gives no others
_FILTERED = ("content_filter", "content_policy_violation")  # error codes of an endpoint that will not write a text


Unreadable = Callable[[str], bool]


class AttemptFailed(Exception):
    """One question got no usable answer after all retries. The message says what came instead."""


class EndpointDown(AttemptFailed, NoCall):
    """No call was made: the endpoint is held to be down. The message says why."""


@dataclass
class _Server:
    client: EndpointClient
    pace: RateLimit


class Endpoint:
    """An endpoint that questions are sent to, or several that serve the same model. Until one has answered once, one
    call at a time: a wrong key or address costs exactly one call.

    Raises InputError for a missing key, an address or a proxy that cannot be used."""

    def __init__(self, section: GenerateSection, urls: str | Sequence[str]) -> None:
        self._section = section
        key = api_key(section)
        self._safe = KeyMask(key)
        self._calls = RetriedCalls([urls] if isinstance(urls, str) else urls, POLICY)
        self._replicas = self._calls.replicas
        self._url = self._replicas.url
        for replica in self._replicas.all:
            if replica.url.partition("?")[0].endswith("/chat/completions"):
                raise InputError(f"{replica.url}: generate.endpoint.base_url ends before /chat/completions")
            if (variable := section.endpoint.api_key_env) is not None:
                setting = "generate.endpoint.allow_http"
                check_key_approved(variable, replica.url, allow_http=section.endpoint.allow_http, setting=setting)
        self._servers = {replica.url: self._server(replica.url, key or "none") for replica in self._replicas.all}
        self._model: tuple[str, str] | None = None  # the first answer's, and who gave it
        self._one_by_one = EventLoopTurns()
        self._answered = False
        self._failed_with_seed = False  # whether a request with a seed met a server error
        self._ended: ServiceError | None = None
        self._down: str | None = None
        self._first_call = asyncio.Lock()
        self._failures = 0
        self.calls = 0

    def _server(self, url: str, key: str) -> _Server:
        section = self._section
        client = EndpointClient(
            url,
            key,
            self._safe,
            POLICY,
            concurrency=section.concurrency,
            timeout_seconds=section.timeout_seconds,
            largest_body=_LARGEST_BODY,
        )
        return _Server(client, RateLimit(section.requests_per_minute, section.tokens_per_minute))

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
        """The reply to `payload`. `unreadable` is called with the reason for each answer that cannot be read, and
        returns whether to try again.

        Raises AttemptFailed when there is none after all retries, EndpointDown when no call is worth making any more,
        and ServiceError or InputError, with the setting to change, for what no retry can fix."""
        if not self._answered:
            async with self._first_call:
                if not self._answered:
                    return await self._with_retries(payload, unreadable)
        return await self._with_retries(payload, unreadable)

    async def _with_retries(self, payload: dict[str, Any], unreadable: Unreadable) -> Reply:
        over_budget = False

        async def call(replica: Replica) -> Reply:
            nonlocal over_budget
            try:
                return await self._call(replica, payload)
            except TryAgain as problem:
                over_budget = problem.charged and not unreadable(str(problem))
                problem.is_final |= over_budget or self._down is not None
                raise

        try:
            # a replica's fault need not cost one of the retries
            reply = await self._calls.run(call, retries=self._section.retries + len(self._servers) - 1)
        except Refused as refusal:
            self._ended = self._fatal(refusal)
            raise self._ended from None
        except GaveUp as end:
            if over_budget:
                raise AttemptFailed(f"{end.problem}; generate.budget allows no other try") from None
            raise self._failed(end) from None
        self._answered, self._failures = True, 0
        return reply

    async def _call(self, replica: Replica, payload: dict[str, Any]) -> Reply:
        """One call to one server, when its turn has come."""
        server, tokens = self._servers[replica.url], most_tokens(payload, self._section.max_tokens)
        await server.pace.turn(tokens)
        await self._calls.until_allowed(replica)
        if self._ended is not None:
            raise self._ended  # another call met it; not one more is made
        if self._down is not None:
            raise EndpointDown(self._down)
        reply = await self._exchange(replica.url, payload)
        self._check_model(replica.url, reply)
        if reply.prompt_tokens is not None and reply.completion_tokens is not None:
            server.pace.used(tokens, reply.prompt_tokens + reply.completion_tokens)
        return reply

    async def _exchange(self, url: str, payload: dict[str, Any]) -> Reply:
        self.calls += 1
        started = time.monotonic()
        try:
            response = await self._servers[url].client.post("chat/completions", payload)
        except Refused as refusal:
            if refusal.code not in _FILTERED:
                raise
            refused = f"the endpoint's content filter: {refusal.message}"
            seconds = time.monotonic() - started
            return Reply(None, refused, "content_filter", None, None, None, seconds, endpoint=url)
        except TryAgain as problem:
            self._failed_with_seed |= (problem.status or 0) >= 500 and self._section.send_seed
            raise
        seconds = time.monotonic() - started
        self._check_whole(response.content)
        await self._one_by_one.turn()
        return replace(self._reply(response.content, seconds), endpoint=url)

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

    def _failed(self, end: GaveUp) -> Exception:
        self._failures += 1
        problem, message = end.problem, str(end)
        pause = min(replica.paused_until for replica in self._replicas.all) - time.monotonic()
        if pause > POLICY.longest_wait:
            self._down = f"{self._url}: {problem}; it wants no call in the next {_duration(pause)}"
        elif self._answered and self._failures >= max(MANY_FAILURES, 2 * self._section.concurrency):
            self._down = f"{self._url} stopped answering ({self._failures} failures in a row): {message}"
        if self._answered or self._down is not None:
            return AttemptFailed(message)
        is_about_seed = self._section.send_seed and is_seed_error(message)
        may_be_seed = self._failed_with_seed or is_about_seed
        seed = "; if it fails on a request's seed: generate.send_seed: false" if may_be_seed else ""
        if problem.unreachable:
            hint = "is the server running? set generate.endpoint.base_url" + seed
            self._ended = ServiceError(f"{self._url}: {message}", hint=hint)
        elif problem.streams and self._failures >= _MANY_STREAMS:
            self._ended = ServiceError(f"{self._url}: {message}", hint=hint_of(message))
        elif is_about_seed:
            self._ended = ServiceError(f"{self._url}: {message}", hint="set generate.send_seed: false")
        elif self._failures >= MANY_FAILURES:
            hint = "check the server; earlier answers are kept; run the stage again to continue" + seed
            message = f"no answer {self._failures} times in a row; the last: {message}"
            self._ended = ServiceError(f"{self._url}: {message}", hint=hint)
        return self._ended or AttemptFailed(message)

    def _check_whole(self, body: bytes) -> None:
        """Raises TryAgain, with what was sent, for an answer in pieces although none were asked for."""
        if body[:1] in (b"{", b"["):
            return
        events = streamed(self._safe(body[:2000].decode("utf-8", "replace"), limit=None))
        if events is not None:
            raise TryAgain(events.text, charged=True, streams=events.error is None)

    def _fatal(self, refusal: Refused) -> ServiceError:
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
            redirect = "it redirects to another address, which is not followed; "
            redirect += "set generate.endpoint.base_url to that address"
            return ServiceError(f"{refusal.url}: {refusal}", hint=redirect)
        if refusal.status in (400, 422) and self._section.send_seed and is_seed_error(refusal.text):
            return ServiceError(f"{refusal.url}: {refusal}", hint="set generate.send_seed: false")
        hint = hints.get(refusal.status) or hint_of(refusal.text)
        return ServiceError(
            f"{refusal.url}: {refusal}", hint=hint or other + "token_limit_key, temperature, max_tokens, extra_body"
        )

    def _reply(self, body: bytes, seconds: float) -> Reply:
        try:
            text = self._safe(body.decode("utf-8"), limit=None)
            value = json.loads(text)
        except (ValueError, RecursionError):
            shown = self._safe(body[:120].decode("utf-8", "replace"))
            raise TryAgain(f"not JSON: {shown!r}", charged=True) from None
        try:
            choice = value["choices"][0]
            finish = choice.get("finish_reason")
            if broken_off := why_broken_off(value, choice):
                raise TryAgain(self._safe(" ".join(broken_off.split())), charged=True)
            content = read_message(choice["message"])
            finish = str(finish) if finish is not None else None
        except ValueError as error:
            raise TryAgain(str(error), charged=True) from None
        except (KeyError, IndexError, TypeError, AttributeError, RecursionError):
            raise TryAgain(f"no choices in the answer: {text[:120]}", charged=True) from None
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


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} hours" if seconds >= 5400 else f"{seconds / 60:.0f} minutes"


def _count(value: dict[str, Any], name: str) -> int | None:
    usage = value.get("usage")
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) and not isinstance(count, bool) and 0 <= count < 10**9 else None

"""What is asked of `/v1/completions` and what its answers tell: log-probabilities of one next token.

Servers differ in how they name tokens. vLLM writes `token_id:123` when asked to, llama.cpp gives ids beside the texts,
others give texts only; a text that is several tokens' tells of none of them. What they write for tokens that they leave
out is told apart in marginalia.scoring.models.logprob_floors."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from marginalia.schemas.errors import ModelError
from marginalia.scoring.marginal.answer_search import NextTokens
from marginalia.scoring.models.endpoint_calls import Malformed
from marginalia.scoring.models.logprob_floors import CUT_HINT, NEVER, Expected, Shown, shown

ASKED_AT_MOST = 128  # ids that vLLM takes in logprob_token_ids
UNKNOWN = -1  # the most probable token, where a source cannot tell which it is
MOST_MASS = 1.001  # that rounding explains
_RAW_HINT = "vLLM: start it with --logprobs-mode raw_logprobs"


class NoLogprobs(Malformed):
    """An answer without log-probabilities."""


@dataclass(frozen=True)
class Form:
    """How one server is asked. `ids`: prompts as token ids, else as text. `extras`: with the keys that vLLM, SGLang
    and llama.cpp know and OpenAI does not. `exact`: it tells the log-probabilities of just the ids asked for.
    `own`: the user's extra_body. `vocabulary`: tokens of the model. `partial`: it is known to leave out all but a few
    tokens, and to tell those as they are; `floor`: what it writes for the others."""

    model: str
    top: int
    ids: bool = True
    extras: bool = True
    exact: bool = False
    own: Mapping[str, Any] = field(default_factory=dict)
    vocabulary: int = 1 << 30
    partial: bool = False
    floor: float | None = None

    def asks_ids(self, wanted: Collection[int]) -> bool:
        """Whether the request names these ids; else it asks for the most probable tokens."""
        return self.extras and self.exact and 0 < len(wanted) <= ASKED_AT_MOST

    def body(self, prompt: list[int] | str, wanted: Collection[int] = ()) -> dict[str, Any]:
        """The request for what follows `prompt`; `wanted` are the ids that matter.

        Temperature 0 makes the sampled token the most probable one; log-probabilities are before any temperature."""
        body: dict[str, Any] = {
            "model": self.model,
            "prompt": prompt,
            "max_tokens": 1,
            "temperature": 0,
            "n": 1,
            "logprobs": self.top,
        }
        if self.extras:
            # the penalty of a model's generation_config would change which token is sampled
            body |= {"return_tokens_as_token_ids": True, "n_probs": self.top, "repetition_penalty": 1.0}
            if not self.ids:
                body["add_special_tokens"] = False
            if self.asks_ids(wanted):
                body["logprob_token_ids"] = [int(token) for token in wanted]
        return {**body, **self.own}


EXTRAS = ("return_tokens_as_token_ids", "n_probs", "repetition_penalty", "logprob_token_ids", "add_special_tokens")


@dataclass(frozen=True)
class TokenAnswer:
    """One answer: log-probabilities (nats) by token id, or by text where ids are not told, and how many tokens the
    server counted in the prompt."""

    by_id: dict[int, float]
    by_text: dict[str, float]
    prompt_tokens: int | None
    fingerprint: str | None

    @property
    def values(self) -> list[float]:
        return [*self.by_id.values(), *self.by_text.values()]

    def expected(self, form: Form, wanted: Collection[int]) -> Expected:
        top = None if form.asks_ids(wanted) else form.top
        return Expected(top, form.vocabulary, named=not self.by_text, floor=form.floor)

    def above(self, floor: float | None) -> TokenAnswer:
        """The same without the entries that are no measurements."""
        if floor is None:
            return self
        by_id = {token: value for token, value in self.by_id.items() if value > floor}
        by_text = {text: value for text, value in self.by_text.items() if value > floor}
        return replace(self, by_id=by_id, by_text=by_text)


def read_answer(value: Mapping[str, Any]) -> TokenAnswer:
    """Reads vLLM's, SGLang's and OpenAI's form, and llama.cpp's. Raises Malformed, NoLogprobs when there are none."""
    try:
        logprobs = value["choices"][0].get("logprobs")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise Malformed(f"no choices in the answer: {_shown(value)}") from None
    by_id: dict[int, float] = {}
    by_text: dict[str, float] = {}
    try:
        for name, number in _pairs(logprobs):
            if isinstance(name, int):
                by_id[name] = number
            elif (found := re.fullmatch(r"token_id:(\d+)", name)) is not None:
                by_id[int(found[1])] = number
            else:
                by_text[name] = number
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        raise NoLogprobs("no log-probabilities in the answer") from None
    if not by_id and not by_text:
        raise NoLogprobs("no log-probabilities in the answer")
    fingerprint = value.get("system_fingerprint")
    return TokenAnswer(by_id, by_text, _prompt_tokens(value), fingerprint if isinstance(fingerprint, str) else None)


def _pairs(logprobs: Any) -> list[tuple[int | str, float]]:
    if "content" in logprobs:
        first = logprobs["content"][0]
        tops = first.get("top_logprobs") or [first]
        return [
            (top["id"] if isinstance(top.get("id"), int) else top["token"], _number(top["logprob"])) for top in tops
        ]
    return [(name, _number(number)) for name, number in logprobs["top_logprobs"][0].items()]


def _number(value: Any) -> float:
    if value is None:
        return -math.inf  # JSON has no infinity
    try:
        return float(value)
    except OverflowError:  # an integer of hundreds of digits
        return math.inf if value > 0 else -math.inf


def _shown(value: object) -> str:
    try:
        return json.dumps(value)[:200]
    except RecursionError:
        return "deeply nested JSON"


def _prompt_tokens(value: Mapping[str, Any]) -> int | None:
    usage = value.get("usage")
    count = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return count if isinstance(count, int) and count > 0 else None


def next_tokens(
    answer: TokenAnswer, allowed: npt.NDArray[np.int64], ids_of: Mapping[str, tuple[int, ...]], form: Form
) -> NextTokens:
    """What an answer tells of the ids `allowed`. `ids_of`: text → the tokens that are written so.

    When it leaves some of them out, what it leaves out of the whole mass may be theirs: `unseen`. A token outside the
    server's top k is no more probable than the last inside; nothing of the kind is known where the answer holds floors.
    Raises ModelError for numbers that are no log-probabilities of the whole distribution."""
    check_numbers(answer)
    asked = form.asks_ids(allowed)
    found = shown(answer.values, answer.expected(form, allowed))
    if found.hides and not form.partial and (found.complete or asked):
        raise ModelError(told_cut(answer, found), hint=CUT_HINT)
    values, answer = answer.values, answer.above(found.floor)
    inside = {int(token) for token in allowed}
    known, elsewhere, vague = dict(answer.by_id), 0.0, False
    for text, value in answer.by_text.items():
        candidates = ids_of.get(text, ())
        if len(candidates) == 1:
            known[candidates[0]] = value
        elif candidates and inside.isdisjoint(candidates):
            elsewhere += math.exp(value)
        else:
            vague = True
    missing = len(inside - known.keys())
    unseen = unseen_top = 0.0
    if missing:
        unseen = unseen_top = max(1.0 - elsewhere - math.fsum(map(math.exp, known.values())), 0.0)
        if not vague and not asked and found.floor is None and len(values) >= form.top:
            unseen_top = min(unseen, math.exp(sorted(values)[-form.top]))
            unseen = min(unseen, missing * unseen_top)
    top, highest = _top(answer, ids_of, inside)
    logs = np.array([known.get(int(token), -math.inf) for token in allowed], dtype=np.float64)
    return NextTokens(logs, top, highest, unseen, unseen_top)


def check_numbers(answer: TokenAnswer) -> None:
    """Raises ModelError for what cannot be log-probabilities."""
    values = answer.values
    if any(math.isnan(value) for value in values):
        raise ModelError("the endpoint answered NaN")
    mass = math.fsum(math.exp(min(value, 700.0)) for value in values)
    if mass > MOST_MASS:
        raise ModelError(f"the endpoint's probabilities add up to {mass:.4g}", hint=_RAW_HINT)
    if not any(value > NEVER for value in values):
        raise ModelError("the endpoint gave no token any probability")


def told_cut(answer: TokenAnswer, found: Shown) -> str:
    """What shows that the answer's distribution was cut."""
    cut = "the distribution was cut before its log-probabilities were computed"
    others = "" if found.floor is None else f"the others have the log-probability {found.floor:.4g}"
    if not found.complete:
        return f"{cut}: some tokens were asked for by their ids, and {others}"
    measured = len(answer.above(found.floor).values)
    return f"{cut}: they add up to 1 over {measured} token{'s' * (measured > 1)}" + (
        f", and {others}" if others else ""
    )


def _top(answer: TokenAnswer, ids_of: Mapping[str, tuple[int, ...]], inside: set[int]) -> tuple[int, float]:
    highest = max([*answer.by_id.values(), *answer.by_text.values()])
    for token, value in answer.by_id.items():
        if value == highest:
            return token, highest
    text = next(text for text, value in answer.by_text.items() if value == highest)
    candidates = ids_of.get(text, ())
    # outside the language the greedy answer is followed for its text only: any token of that text will do
    if candidates and (len(candidates) == 1 or inside.isdisjoint(candidates)):
        return candidates[0], highest
    return UNKNOWN, highest

"""What is asked of `/v1/completions` and what its answers tell: log-probabilities of one next token.

Servers differ in how they name tokens. vLLM writes `token_id:123` when asked to, llama.cpp gives ids beside the texts,
others give texts only; a text that is several tokens' tells of none of them."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.errors import ModelError
from scoring.models.calls import Malformed
from scoring.search import NextTokens

ASKED_AT_MOST = 128  # ids that vLLM takes in logprob_token_ids
UNKNOWN = -1  # the most probable token, where a source cannot tell which it is
_RAW_HINT = "vLLM: start it with --logprobs-mode raw_logprobs"


class NoLogprobs(Malformed):
    """An answer without log-probabilities."""


@dataclass(frozen=True)
class Form:
    """How one server is asked. `ids`: prompts as token ids, else as text. `extras`: with the keys that vLLM, SGLang
    and llama.cpp know and OpenAI does not. `exact`: it tells the log-probabilities of just the ids asked for."""

    model: str
    top: int
    ids: bool = True
    extras: bool = True
    exact: bool = False

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
            if self.exact and 0 < len(wanted) <= ASKED_AT_MOST:
                body["logprob_token_ids"] = [int(token) for token in wanted]
        return body


EXTRAS = ("return_tokens_as_token_ids", "n_probs", "repetition_penalty", "logprob_token_ids", "add_special_tokens")


@dataclass(frozen=True)
class Answer:
    """One answer: log-probabilities (nats) by token id, or by text where ids are not told, and how many tokens the
    server counted in the prompt."""

    by_id: dict[int, float]
    by_text: dict[str, float]
    prompt_tokens: int | None
    fingerprint: str | None

    def distance(self, other: Answer) -> float | None:
        """The largest difference (nats) of a token that both tell of; None when there is none."""
        both = [(value, other.by_id[name]) for name, value in self.by_id.items() if name in other.by_id]
        both += [(value, other.by_text[name]) for name, value in self.by_text.items() if name in other.by_text]
        return max((abs(ours - theirs) for ours, theirs in both), default=None)


def read_answer(value: Mapping[str, Any]) -> Answer:
    """Reads vLLM's, SGLang's and OpenAI's form, and llama.cpp's. Raises Malformed, NoLogprobs when there are none."""
    try:
        logprobs = value["choices"][0].get("logprobs")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise Malformed("no choices in the answer") from None
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
    return Answer(by_id, by_text, _prompt_tokens(value), fingerprint if isinstance(fingerprint, str) else None)


def _pairs(logprobs: Any) -> list[tuple[int | str, float]]:
    if "content" in logprobs:
        first = logprobs["content"][0]
        tops = first.get("top_logprobs") or [first]
        return [(top["id"] if isinstance(top.get("id"), int) else top["token"], _number(top)) for top in tops]
    return [(name, float(number)) for name, number in logprobs["top_logprobs"][0].items()]


def _number(top: Mapping[str, Any]) -> float:
    return float(top["logprob"]) if top["logprob"] is not None else -math.inf


def _prompt_tokens(value: Mapping[str, Any]) -> int | None:
    usage = value.get("usage")
    count = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return count if isinstance(count, int) and count > 0 else None


def next_tokens(
    answer: Answer, allowed: npt.NDArray[np.int64], ids_of: Mapping[str, tuple[int, ...]], form: Form
) -> NextTokens:
    """What an answer tells of the ids `allowed`. `ids_of`: text → the tokens that are written so.

    When it leaves some of them out, what it leaves out of the whole mass may be theirs: `unseen`. A token outside the
    server's top k is no more probable than the last inside. Raises ModelError for numbers that are no
    log-probabilities."""
    values = [*answer.by_id.values(), *answer.by_text.values()]
    mass = math.fsum(math.exp(min(value, 700.0)) for value in values)
    if math.isnan(mass):
        raise ModelError("the endpoint answered NaN")
    if mass > 1.01:
        raise ModelError(f"the endpoint's probabilities add up to {mass:.4g}", hint=_RAW_HINT)
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
        if not vague and not form.exact and len(values) >= form.top:
            unseen_top = min(unseen, math.exp(sorted(values)[-form.top]))
            unseen = min(unseen, missing * unseen_top)
    top, highest = _top(answer, ids_of, inside)
    logs = np.array([known.get(int(token), -math.inf) for token in allowed], dtype=np.float64)
    return NextTokens(logs, top, highest, unseen, unseen_top)


def _top(answer: Answer, ids_of: Mapping[str, tuple[int, ...]], inside: set[int]) -> tuple[int, float]:
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

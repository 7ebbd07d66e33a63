"""Requests to `/v1/completions` for the log-probabilities of one next token, and how the answers are read.

Servers identify tokens in different ways. vLLM writes `token_id:123` when asked to, llama.cpp returns ids and texts,
others return texts only; a text that several tokens share gives the probability of none of them. Placeholder values for
tokens that a server leaves out are recognised in `marginalia.scoring.models.logprob_floors`."""

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
from marginalia.scoring.models.logprob_floors import CUT_HINT, IMPOSSIBLE, AnswerCoverage, Expected, coverage_of

PATH = "completions"
MOST_ASKED_IDS = 128  # that vLLM accepts in logprob_token_ids
UNKNOWN = -1  # in place of the id of the most probable token, when the answer does not identify it
MOST_MASS = 1.001  # the largest sum of probabilities that rounding can explain
_RAW_HINT = "vLLM: start it with --logprobs-mode raw_logprobs"


class NoLogprobs(Malformed):
    """An answer without log-probabilities."""


@dataclass(frozen=True)
class RequestFormat:
    """The form of the requests to one server.

    `model`: its name there; `top`: how many of the most probable tokens to ask for; `ids`: send prompts as token ids,
    else as text; `extras`: send the keys that vLLM, SGLang and llama.cpp know and OpenAI does not; `exact`: the server
    returns the log-probabilities of exactly the ids asked for; `extra_body`: the user's own keys; `vocabulary`: number
    of tokens of the model; `partial`: the server is known to leave out all but a few tokens, with correct values for
    these; `floor`: the value that it returns for the others."""

    model: str
    top: int
    ids: bool = True
    extras: bool = True
    exact: bool = False
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    vocabulary: int = 1 << 30
    partial: bool = False
    floor: float | None = None

    def asks_ids(self, needed_ids: Collection[int]) -> bool:
        """Whether the request asks for these ids. Otherwise it asks for the most probable tokens."""
        return self.extras and self.exact and 0 < len(needed_ids) <= MOST_ASKED_IDS

    def body(self, prompt: list[int] | str, needed_ids: Collection[int] = ()) -> dict[str, Any]:
        """The request for the token after `prompt`. `needed_ids`: the ids whose log-probabilities matter.

        Temperature 0 makes the sampled token the most probable one; log-probabilities are of temperature 1."""
        body: dict[str, Any] = {
            "model": self.model,
            "prompt": prompt,
            "max_tokens": 1,
            "temperature": 0,
            "n": 1,
            "logprobs": self.top,
        }
        if self.extras:
            # a repetition penalty in the model's generation_config would change which token is sampled
            body |= {"return_tokens_as_token_ids": True, "n_probs": self.top, "repetition_penalty": 1.0}
            if not self.ids:
                body["add_special_tokens"] = False
            if self.asks_ids(needed_ids):
                body["logprob_token_ids"] = [int(token) for token in needed_ids]
        return {**body, **self.extra_body}


EXTRAS = ("return_tokens_as_token_ids", "n_probs", "repetition_penalty", "logprob_token_ids", "add_special_tokens")


@dataclass(frozen=True)
class TokenAnswer:
    """One answer. `by_id`, `by_text`: log-probabilities (nats) by token id, or by text where the server returns no ids;
    `prompt_tokens`: how many tokens the server counted in the prompt; `fingerprint`: its system_fingerprint."""

    by_id: dict[int, float]
    by_text: dict[str, float]
    prompt_tokens: int | None
    fingerprint: str | None

    @property
    def values(self) -> list[float]:
        """All log-probabilities (nats)."""
        return [*self.by_id.values(), *self.by_text.values()]

    def expected(self, request_format: RequestFormat, needed_ids: Collection[int]) -> Expected:
        """What a complete answer to a request for `needed_ids` would contain."""
        top = None if request_format.asks_ids(needed_ids) else request_format.top
        return Expected(top, request_format.vocabulary, named=not self.by_text, floor=request_format.floor)

    def above(self, floor: float | None) -> TokenAnswer:
        """The same answer without values up to `floor`, which are placeholders."""
        if floor is None:
            return self
        by_id = {token: value for token, value in self.by_id.items() if value > floor}
        by_text = {text: value for text, value in self.by_text.items() if value > floor}
        return replace(self, by_id=by_id, by_text=by_text)


def read_answer(value: Mapping[str, Any]) -> TokenAnswer:
    """Reads an answer of OpenAI's form (vLLM, SGLang) or of llama.cpp's.

    Raises NoLogprobs when it has no log-probabilities, Malformed when it is of another form."""
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
            elif (match := re.fullmatch(r"token_id:(\d+)", name)) is not None:
                by_id[int(match[1])] = number
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
    answer: TokenAnswer,
    allowed: npt.NDArray[np.int64],
    ids_of: Mapping[str, tuple[int, ...]],
    request_format: RequestFormat,
) -> NextTokens:
    """The log-probabilities of the ids `allowed` in an answer. `ids_of`: text → the ids of all tokens with this text.

    When some of them are missing, the mass that the answer does not contain may be theirs: `unseen`. A token outside
    the server's top k is at most as probable as the last one inside, unless the answer contains floors. Raises
    ModelError for numbers that are not log-probabilities of the full distribution."""
    check_numbers(answer)
    asked_by_id = request_format.asks_ids(allowed)
    coverage = coverage_of(answer.values, answer.expected(request_format, allowed))
    if coverage.hides and not request_format.partial and (coverage.complete or asked_by_id):
        raise ModelError(truncation_message(answer, coverage), hint=CUT_HINT)
    values, answer = answer.values, answer.above(coverage.floor)
    allowed_ids = {int(token) for token in allowed}
    known, other_mass, ambiguous = dict(answer.by_id), 0.0, False
    for text, value in answer.by_text.items():
        candidates = ids_of.get(text, ())
        if len(candidates) == 1:
            known[candidates[0]] = value
        elif candidates and allowed_ids.isdisjoint(candidates):
            other_mass += math.exp(value)
        else:
            ambiguous = True
    missing = len(allowed_ids - known.keys())
    unseen = unseen_top = 0.0
    if missing:
        unseen = unseen_top = max(1.0 - other_mass - math.fsum(map(math.exp, known.values())), 0.0)
        if not ambiguous and not asked_by_id and coverage.floor is None and len(values) >= request_format.top:
            unseen_top = min(unseen, math.exp(sorted(values)[-request_format.top]))
            unseen = min(unseen, missing * unseen_top)
    top, top_log_probability = _top(answer, ids_of, allowed_ids)
    log_probabilities = np.array([known.get(int(token), -math.inf) for token in allowed], dtype=np.float64)
    return NextTokens(log_probabilities, top, top_log_probability, unseen, unseen_top)


def check_numbers(answer: TokenAnswer) -> None:
    """Raises ModelError for values that cannot be log-probabilities."""
    values = answer.values
    if any(math.isnan(value) for value in values):
        raise ModelError("the endpoint returned NaN as a log-probability")
    mass = math.fsum(math.exp(min(value, 700.0)) for value in values)
    if mass > MOST_MASS:
        raise ModelError(f"the endpoint's probabilities add up to {mass:.4g}", hint=_RAW_HINT)
    if not any(value > IMPOSSIBLE for value in values):
        raise ModelError("the endpoint returned only tokens with probability 0")


def truncation_message(answer: TokenAnswer, coverage: AnswerCoverage) -> str:
    """The error message for a truncated distribution, with the evidence in the answer."""
    problem = "the distribution was truncated before its log-probabilities were computed"
    floor = "" if coverage.floor is None else f"the others have the log-probability {coverage.floor:.4g}"
    if not coverage.complete:
        return f"{problem}: only some of the requested token ids have a value, {floor}"
    measured = len(answer.above(coverage.floor).values)
    evidence = f"{measured} token{'s' * (measured > 1)} add{'s' * (measured == 1)} up to a probability of 1"
    return f"{problem}: {evidence}, {floor}" if floor else f"{problem}: {evidence}"


def _top(answer: TokenAnswer, ids_of: Mapping[str, tuple[int, ...]], allowed_ids: set[int]) -> tuple[int, float]:
    highest = max([*answer.by_id.values(), *answer.by_text.values()])
    for token, value in answer.by_id.items():
        if value == highest:
            return token, highest
    text = next(text for text, value in answer.by_text.items() if value == highest)
    candidates = ids_of.get(text, ())
    # outside the language only the text of the greedy answer is needed: any token with that text will do
    if candidates and (len(candidates) == 1 or allowed_ids.isdisjoint(candidates)):
        return candidates[0], highest
    return UNKNOWN, highest

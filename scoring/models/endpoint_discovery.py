"""Connects to an endpoint: finds its model and the request format it accepts, and tests its log-probabilities."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from marginalia.schemas.errors import InputError, ServiceError
from marginalia.scoring.models.completions_api import (
    EXTRAS,
    PATH,
    NoLogprobs,
    RequestFormat,
    TokenAnswer,
    read_answer,
    truncation_message,
)
from marginalia.scoring.models.endpoint_calls import Caller, CallFailed
from marginalia.scoring.models.endpoint_dialects import hint as hint_of
from marginalia.scoring.models.endpoint_model import EndpointModel
from marginalia.scoring.models.logprob_floors import CUT_HINT, coverage_of
from marginalia.scoring.models.repeated_answers import Spread, spread_between
from marginalia.scoring.models.retried_calls import Refused
from marginalia.scoring.models.served_tokenizer import ServedTokenizer, load_tokenizer
from marginalia.scoring.models.start_caller import checked_addresses, start_caller
from marginalia.scoring.score_request import EndpointOptions

_PROBE = "The quick brown fox"
SAME_MODEL = 0.5  # nats; replicas whose log-probabilities differ by more serve different models (far above rounding)
_CHAT_ONLY = "use a server that has /v1/completions (vLLM, SGLang, llama.cpp), or give the model's folder or Hub id"
_LOGPROBS_HINT = (
    "vLLM: --max-logprobs 20 or more; SGLang and llama.cpp: a version whose /v1/completions returns `logprobs` "
    "(llama.cpp: n_probs, without post_sampling_probs); `transformers serve` has none: give the model's folder instead"
)


def load_endpoint(
    url: str, options: EndpointOptions, *, revision: str | None = None, relative_to: Path = Path()
) -> EndpointModel:
    """Loads the tokenizer and asks the server at `url` (or the servers, separated by commas) a test question.

    `revision` is the tokenizer's Hub commit. Raises InputError for a missing tokenizer or key, or a key that would be
    sent unencrypted; ServiceError, with the setting to change, when the server refuses, does not answer, or does not
    return log-probabilities of the full distribution."""
    addresses = checked_addresses(url, ("completions", "chat/completions"))
    served = load_tokenizer(options.tokenizer, revision=revision, relative_to=relative_to)
    caller = start_caller(addresses, options)
    try:
        return _connect(caller, served, options)
    except CallFailed as error:
        raise ServiceError(str(error), hint="is the server running at the address given as --model?") from None
    except Refused as error:
        raise _chat_only_error(caller, error) or _refusal_error(caller, error, options) from None


def _connect(caller: Caller, served: ServedTokenizer, options: EndpointOptions) -> EndpointModel:
    # with a name given, the first call is the test question: an unsuitable server is refused after one call
    cards = [] if options.endpoint_model else model_cards(caller.get("models"))
    name = options.endpoint_model or only_model(caller.url, cards)
    ids = served.tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
    request_format = RequestFormat(
        name, options.top_logprobs, extra_body=options.extra_body, vocabulary=len(served.tokenizer)
    )
    request_format, answer = _first_answer(caller, request_format, served, ids)
    _check_length(caller, request_format, answer, len(ids))
    caller.remember(
        PATH, request_format.body(ids if request_format.ids else _PROBE, _rare_ids(served, ids)), read_answer
    )
    request_format = _with_omissions(caller, request_format, answer, served, ids)
    replica_spread = _replica_spread(caller, request_format, ids, _rare_ids(served, ids))
    card = next((card for card in cards or _model_cards_if_any(caller) if card.get("id") == name), {})
    context = card.get("max_model_len")
    return EndpointModel(
        caller=caller,
        request_format=request_format,
        tokenizer=served.tokenizer,
        end_ids=served.end_ids,
        context=context if isinstance(context, int) and context > 0 else served.context or 1 << 20,
        name=name,
        revision=_revision(name, card, caller, answer),
        digest=served.digest,
        concurrency=options.concurrency,
        replica_spread=replica_spread,
    )


def _replica_spread(caller: Caller, request_format: RequestFormat, ids: list[int], rare: list[int]) -> Spread | None:
    """How much the replicas' answers to one question differ; None when there is one server. Replicas that do not answer
    now are not compared.

    Raises ServiceError when two of them do not serve the same model."""
    if len(caller.replicas.all) < 2:
        return None
    body = request_format.body(ids if request_format.ids else _PROBE, rare)
    answers = [(replica, answer) for replica, answer in caller.post_each(PATH, body, read_answer) if answer is not None]
    largest = Spread()
    for replica, answer in answers[1:]:
        spread = spread_between(answer, answers[0][1])
        if spread is None or spread.nats > SAME_MODEL or answer.prompt_tokens != answers[0][1].prompt_tokens:
            raise ServiceError(
                f"{replica.url} and {answers[0][0].url} answer the same question differently"
                + (f" (by {spread.nats:.2g} nats)" if spread is not None else ""),
                hint=f"all replicas must serve the model '{request_format.model}' with the same tokenizer and dtype",
            )
        largest |= spread
    return largest


def _check_length(caller: Caller, request_format: RequestFormat, answer: TokenAnswer, length: int) -> None:
    """Raises ServiceError when the server counted another number of tokens in the prompt than were sent."""
    if answer.prompt_tokens in (None, length):
        return
    hint = "set tokenizer (--tokenizer) to the tokenizer of the served model"
    if not request_format.ids and answer.prompt_tokens == length + 1:
        hint += (
            "; if it is already: the server puts a start token (BOS) before each text; turn that off at the server "
            "(add_bos_token: false in its tokenizer_config.json, or add_special_tokens: false as its default)"
        )
    raise ServiceError(
        f"{caller.url}: the server counted {answer.prompt_tokens} tokens in a prompt of {length}", hint=hint
    )


def _with_omissions(
    caller: Caller, request_format: RequestFormat, answer: TokenAnswer, served: ServedTokenizer, ids: list[int]
) -> RequestFormat:
    """The format with `partial` and `floor` set for a server that leaves out tokens although they were asked for.

    Raises ServiceError when the distribution was truncated: after a text like the test question, every model gives many
    tokens some probability."""
    coverage = coverage_of(
        answer.values, answer.expected(request_format, _rare_ids(served, ids) if request_format.exact else [])
    )
    if not (request_format.exact or coverage.hides):
        return request_format
    # values of requested ids do not show what happens to other tokens: the list of the most probable ones does
    top_format = replace(request_format, exact=False)
    answer = caller.post(PATH, top_format.body(ids if request_format.ids else _PROBE), read_answer)
    top_coverage = coverage_of(answer.values, answer.expected(top_format, []))
    if top_coverage.hides and top_coverage.complete:
        raise ServiceError(f"{caller.url}: {truncation_message(answer, top_coverage)}", hint=CUT_HINT)
    if coverage.hides and not top_coverage.hides:
        raise ServiceError(
            f"{caller.url}: {truncation_message(answer, replace(coverage, complete=False))}", hint=CUT_HINT
        )
    return replace(request_format, partial=top_coverage.hides, floor=top_coverage.floor if top_coverage.hides else None)


def _first_answer(
    caller: Caller, request_format: RequestFormat, served: ServedTokenizer, ids: list[int]
) -> tuple[RequestFormat, TokenAnswer]:
    """The format that the server accepts, and its answer to the test question. After a refusal of a part of the format,
    it is asked again without that part."""
    rare = _rare_ids(served, ids)
    trial = replace(request_format, exact=request_format.extras)
    prompt: list[int] | str = ids if request_format.ids else _PROBE
    try:
        answer = caller.post(PATH, trial.body(prompt, rare), lambda value: _read_first(caller.url, value))
    except Refused as error:
        simpler = _simpler_format(request_format, error)
        if simpler is None:
            raise
        return _first_answer(caller, simpler, served, ids)
    exact = (
        request_format.extras
        and len(answer.by_id) <= len(rare) + 1 < request_format.top
        and answer.by_id.keys() >= set(rare)
    )
    return replace(request_format, exact=exact), answer


def _read_first(url: str, value: dict[str, Any]) -> TokenAnswer:
    try:
        return read_answer(value)
    except NoLogprobs:
        raise ServiceError(f"{url} returns no log-probabilities", hint=_LOGPROBS_HINT) from None


def _rare_ids(served: ServedTokenizer, ids: list[int]) -> list[int]:
    """Two ids that are rarely among the most probable: when exactly these come back, asking for ids works."""
    return [*sorted(served.end_ids)[:1], ids[0]]


def _simpler_format(request_format: RequestFormat, error: Refused) -> RequestFormat | None:
    if error.status not in (400, 422):
        return None
    reason = error.text.lower()
    if any(name.lower() in reason for name in request_format.extra_body):
        return None  # the refusal concerns the user's extra_body
    if request_format.extras and any(
        word in reason for word in (*EXTRAS, "extra", "unrecognized", "unknown", "unexpected")
    ):
        return replace(request_format, extras=False)
    if request_format.ids and "prompt" in reason and re.search(r"\bstr(ing)?s?\b|\btext\b", reason):
        return replace(request_format, ids=False)
    return None


def model_cards(value: dict[str, Any]) -> list[dict[str, Any]]:
    """The models in the answer of `/models`."""
    data = value.get("data")
    return [card for card in data if isinstance(card, dict) and card.get("id")] if isinstance(data, list) else []


def _model_cards_if_any(caller: Caller) -> list[dict[str, Any]]:
    try:
        return model_cards(caller.get("models"))
    except (CallFailed, Refused):
        return []  # not every gateway lists its models, and the list is not required


def only_model(url: str, cards: list[dict[str, Any]]) -> str:
    """The id of the only model. Raises InputError when there are several, or none."""
    names = [str(card["id"]) for card in cards]
    if len(names) != 1:
        known = f"serves {', '.join(sorted(names)[:20])}" if names else "lists no model"
        raise InputError(f"{url} {known}", hint="set endpoint_model (--endpoint-model) to one of them")
    return names[0]


def _revision(name: str, card: dict[str, Any], caller: Caller, answer: TokenAnswer) -> str:
    origins = [card.get("owned_by"), caller.headers.get("server"), answer.fingerprint]
    parts = list(dict.fromkeys(str(part) for part in origins if part))
    root = card.get("root")
    model = name if root in (None, name) else f"{name} ({root})"
    return caller.safe(f"{model} at an endpoint ({', '.join(parts) or 'server unknown'})")


def _chat_only_error(caller: Caller, error: Refused) -> ServiceError | None:
    """The error for a server with chat completions only; None when the refusal has another reason.

    A chat endpoint cannot be used: it controls the prompt's tokens itself, and does not continue a started answer."""
    words = error.text.lower()
    is_chat_only = "chat" in words and error.status in (400, 404, 405, 422)
    if not is_chat_only and error.status in (404, 405, 501) and "model" not in words:
        try:
            caller.post(f"chat/{PATH}", {}, dict)
            is_chat_only = True
        except Refused as other:  # an empty request gets 400 or 422, or 404 where the server does not have the route
            is_chat_only = other.status in (400, 422)
        except CallFailed:
            is_chat_only = False
    if not is_chat_only:
        return None
    return ServiceError(
        f"{caller.url} has only chat completions (/{PATH}: {error}), from which probabilities cannot be read",
        hint=_CHAT_ONLY,
    )


def _refusal_error(caller: Caller, error: Refused, options: EndpointOptions) -> ServiceError:
    key = f"the key in {options.api_key_env}" if options.api_key_env else "api_key_env (--api-key-env)"
    hints = {
        401: f"set {key}",
        403: f"set {key} or endpoint_model (--endpoint-model)",
        404: "correct the URL (for most servers it ends in /v1) or endpoint_model (--endpoint-model)",
        429: "the account's quota is used up",
    }
    hint = hints.get(error.status) or hint_of(error.text)
    if 300 <= error.status < 400:
        hint = "redirects are not followed: use that address as the URL"
    if hint is None and (named_keys := [name for name in options.extra_body if name.lower() in error.text.lower()]):
        hint = f"change {', '.join(named_keys)} in extra_body (--extra-body)"
    if hint is None and "logprob" in error.text.lower():
        hint = f"lower top_logprobs (--top-logprobs, now {options.top_logprobs}); {_LOGPROBS_HINT}"
    return ServiceError(f"{caller.url}: {error}", hint=hint or "the server's message says what to change")

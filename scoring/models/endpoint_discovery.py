"""Getting to know an endpoint: how it wants to be asked, what it serves, and whether it tells log-probabilities."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from marginalia.schemas.errors import InputError, ServiceError
from marginalia.schemas.server_addresses import check_endpoint, check_key_goes
from marginalia.scoring.models.completions_api import EXTRAS, Form, NoLogprobs, TokenAnswer, read_answer, told_cut
from marginalia.scoring.models.endpoint_calls import Caller, CallFailed
from marginalia.scoring.models.endpoint_dialects import hint as hint_of
from marginalia.scoring.models.endpoint_model import PATH, EndpointModel
from marginalia.scoring.models.logprob_floors import CUT_HINT, shown
from marginalia.scoring.models.repeated_answers import Spread, between
from marginalia.scoring.models.retried_calls import Refused
from marginalia.scoring.models.served_tokenizer import ServedTokenizer, load_tokenizer
from marginalia.scoring.score_request import EndpointOptions, split_urls

_PROBE = "The quick brown fox"
SAME_MODEL = 0.5  # nats by which one token's log-probability may differ between replicas: a choice, far above rounding
_CHAT_ONLY = "serve the model where /v1/completions answers (vLLM, SGLang, llama.cpp do), or give its folder or Hub id"
_LOGPROBS_HINT = (
    "vLLM: --max-logprobs 20 or more; SGLang and llama.cpp: a version whose /v1/completions answers `logprobs` "
    "(llama.cpp: n_probs, without post_sampling_probs); `transformers serve` has none: score its folder itself"
)


def load_endpoint(
    url: str, options: EndpointOptions, *, revision: str | None = None, relative_to: Path = Path()
) -> EndpointModel:
    """Loads the tokenizer and asks the server at `url` one question. `revision` is the tokenizer's, of a Hub id.

    Raises InputError for a missing tokenizer or key, or a key that would travel unencrypted; ServiceError, with the
    setting to change, when the server refuses, does not answer, or tells no log-probabilities of the whole
    distribution."""
    addresses = [_address(each) for each in split_urls(url)]
    served = load_tokenizer(options.tokenizer, revision=revision, relative_to=relative_to)
    key = _key(options)
    for address in addresses if key else ():
        setting = "allow_http (--allow-http)"
        check_key_goes(address, allow_http=options.allow_http, setting=setting)
    caller = Caller(
        addresses,
        key,
        concurrency=options.concurrency,
        retries=options.retries,
        timeout_seconds=options.timeout_seconds,
    )
    try:
        return _greet(caller, served, options)
    except CallFailed as error:
        raise ServiceError(str(error), hint="is the server running? --model is its address") from None
    except Refused as error:
        raise _chat_only(caller, error) or _fatal(caller, error, options) from None


def _greet(caller: Caller, served: ServedTokenizer, options: EndpointOptions) -> EndpointModel:
    # with a name given, the first call is the question itself: a server without log-probabilities is refused after it
    listed = [] if options.endpoint_model else _listed(caller.get("models"))
    name = options.endpoint_model or _only(caller.url, listed)
    ids = served.tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
    form = Form(name, options.top_logprobs, own=options.extra_body, vocabulary=len(served.tokenizer))
    form, answer = _first_answer(caller, form, served, ids)
    _check_length(caller, form, answer, len(ids))
    form = _form_of_what_is_left_out(caller, form, answer, served, ids)
    replicas = _compared(caller, form, ids, _rare(served, ids))
    card = next((card for card in listed or _tried(caller) if card.get("id") == name), {})
    told = card.get("max_model_len")
    return EndpointModel(
        caller=caller,
        form=form,
        tokenizer=served.tokenizer,
        end_ids=served.end_ids,
        context=told if isinstance(told, int) and told > 0 else served.context or 1 << 20,
        name=name,
        revision=_revision(name, card, caller, answer),
        digest=served.digest,
        together=options.concurrency,
        between=replicas,
    )


def _compared(caller: Caller, form: Form, ids: list[int], rare: list[int]) -> Spread | None:
    """By how much replicas differ on one question; None where there is one server. Those that do not answer now
    are left for later.

    Raises ServiceError when two of them do not serve the same model."""
    if len(caller.replicas.all) < 2:
        return None
    body = form.body(ids if form.ids else _PROBE, rare)
    told = [(replica, answer) for replica, answer in caller.post_each(PATH, body, read_answer) if answer is not None]
    largest = Spread()
    for replica, answer in told[1:]:
        apart = between(answer, told[0][1])
        if apart is None or apart.nats > SAME_MODEL or answer.prompt_tokens != told[0][1].prompt_tokens:
            raise ServiceError(
                f"{replica.url} and {told[0][0].url} answer the same question differently"
                + (f" (by {apart.nats:.2g} nats)" if apart is not None else ""),
                hint=f"replicas must serve one model, '{form.model}', with one tokenizer and dtype",
            )
        largest |= apart
    return largest


def _check_length(caller: Caller, form: Form, answer: TokenAnswer, length: int) -> None:
    """Raises ServiceError when the server read another number of tokens than were meant."""
    if answer.prompt_tokens in (None, length):
        return
    hint = "set tokenizer to the tokenizer of the model that is served"
    if not form.ids and answer.prompt_tokens == length + 1:
        hint += (
            "; if it is: the server puts a start token (BOS) before a text, which must be turned off there "
            "(add_bos_token: false in its tokenizer_config.json, or add_special_tokens: false as its default)"
        )
    raise ServiceError(
        f"{caller.url}: a prompt of {length} tokens was counted as {answer.prompt_tokens} there", hint=hint
    )


def _form_of_what_is_left_out(
    caller: Caller, form: Form, answer: TokenAnswer, served: ServedTokenizer, ids: list[int]
) -> Form:
    """`form` with what is known of tokens that the server leaves out although it was asked for them.

    Raises ServiceError when it tells a distribution that was cut: after a text such as the probe's no model has but a
    few tokens left to choose from."""
    found = shown(answer.values, answer.expected(form, _rare(served, ids) if form.exact else []))
    if not (form.exact or found.hides):
        return form
    # what it tells of ids says nothing of the rest: the list of the most probable does
    listed = replace(form, exact=False)
    answer = caller.post(PATH, listed.body(ids if form.ids else _PROBE), read_answer)
    full = shown(answer.values, answer.expected(listed, []))
    if full.hides and full.complete:
        raise ServiceError(f"{caller.url}: {told_cut(answer, full)}", hint=CUT_HINT)
    if found.hides and not full.hides:
        raise ServiceError(f"{caller.url}: {told_cut(answer, replace(found, complete=False))}", hint=CUT_HINT)
    return replace(form, partial=full.hides, floor=full.floor if full.hides else None)


def _first_answer(caller: Caller, form: Form, served: ServedTokenizer, ids: list[int]) -> tuple[Form, TokenAnswer]:
    """The form that the server takes, and its answer. It is asked anew only when it refuses a part of the form."""
    rare = _rare(served, ids)
    trial = replace(form, exact=form.extras)
    prompt: list[int] | str = ids if form.ids else _PROBE
    try:
        answer = caller.post(PATH, trial.body(prompt, rare), lambda value: _read_first(caller.url, value))
    except Refused as error:
        simpler = _simpler(form, error)
        if simpler is None:
            raise
        return _first_answer(caller, simpler, served, ids)
    exact = form.extras and len(answer.by_id) <= len(rare) + 1 < form.top and answer.by_id.keys() >= set(rare)
    return replace(form, exact=exact), answer


def _read_first(url: str, value: dict[str, Any]) -> TokenAnswer:
    try:
        return read_answer(value)
    except NoLogprobs:
        raise ServiceError(f"{url} answers without log-probabilities", hint=_LOGPROBS_HINT) from None


def _rare(served: ServedTokenizer, ids: list[int]) -> list[int]:
    """Two ids that few models have among their likeliest: when just these come back, asking for ids works."""
    return [*sorted(served.end_ids)[:1], ids[0]]


def _simpler(form: Form, error: Refused) -> Form | None:
    if error.status not in (400, 422):
        return None
    said = error.said.lower()
    if any(name.lower() in said for name in form.own):
        return None  # it is the user's own extra_body that it does not take
    if form.extras and any(word in said for word in (*EXTRAS, "extra", "unrecognized", "unknown", "unexpected")):
        return replace(form, extras=False)
    if form.ids and "prompt" in said and re.search(r"\bstr(ing)?s?\b|\btext\b", said):
        return replace(form, ids=False)
    return None


def _listed(value: dict[str, Any]) -> list[dict[str, Any]]:
    data = value.get("data")
    return [card for card in data if isinstance(card, dict) and card.get("id")] if isinstance(data, list) else []


def _tried(caller: Caller) -> list[dict[str, Any]]:
    try:
        return _listed(caller.get("models"))
    except (CallFailed, Refused):
        return []  # not every gateway lists its models, and nothing depends on it


def _only(url: str, listed: list[dict[str, Any]]) -> str:
    names = [str(card["id"]) for card in listed]
    if len(names) != 1:
        known = f"serves {', '.join(sorted(names)[:20])}" if names else "lists no model"
        raise InputError(f"{url} {known}", hint="set endpoint_model (--endpoint-model) to one of them")
    return names[0]


def _revision(name: str, card: dict[str, Any], caller: Caller, answer: TokenAnswer) -> str:
    said = [card.get("owned_by"), caller.headers.get("server"), answer.fingerprint]
    parts = list(dict.fromkeys(str(part) for part in said if part))
    root = card.get("root")
    model = name if root in (None, name) else f"{name} ({root})"
    return caller.safe(f"{model} at an endpoint ({', '.join(parts) or 'server unknown'})")


def _address(url: str) -> str:
    try:
        address = check_endpoint(url)
    except ValueError as error:
        raise InputError(f"the model's URL: {error} (--api-key-env)") from None
    path, mark, query = address.partition("?")
    if path.endswith("/completions"):
        base = path.removesuffix("/completions").removesuffix("/chat") + mark + query
        raise InputError(f"the model's URL ends before the route: {base}, not {address}")
    return address


def _key(options: EndpointOptions) -> str | None:
    if options.api_key_env is None:
        return None
    key = os.environ.get(options.api_key_env, "").strip()
    if not key:
        raise InputError(
            f"the environment variable {options.api_key_env} is not set; it should hold the endpoint's key",
            hint=f"export {options.api_key_env}=…, or change api_key_env (--api-key-env)",
        )
    if not (key.isascii() and key.isprintable()):
        raise InputError(f"the environment variable {options.api_key_env} holds characters that no key has")
    return key


def _chat_only(caller: Caller, error: Refused) -> ServiceError | None:
    """The error for a server that has chats and no completions; None when that is not what it said.

    A chat hides what is asked for here: which tokens the guard's prompt is, and what follows the start of an answer."""
    words = error.said.lower()
    said = "chat" in words and error.status in (400, 404, 405, 422)
    if not said and error.status in (404, 405, 501) and "model" not in words:
        try:
            caller.post(f"chat/{PATH}", {}, dict)
            said = True
        except Refused as other:  # an empty question is answered by 4xx; by 404 where there is no such route
            said = other.status in (400, 422)
        except CallFailed:
            said = False
    if not said:
        return None
    return ServiceError(
        f"{caller.url} only chats (/{PATH}: {error}): no probability can be read from it", hint=_CHAT_ONLY
    )


def _fatal(caller: Caller, error: Refused, options: EndpointOptions) -> ServiceError:
    key = f"the key in {options.api_key_env}" if options.api_key_env else "api_key_env (--api-key-env)"
    hints = {
        401: f"set {key}",
        403: f"set {key} or endpoint_model (--endpoint-model)",
        404: "set the URL (it ends in /v1 with most servers) or endpoint_model (--endpoint-model)",
        429: "the account's quota is used up",
    }
    hint = hints.get(error.status) or hint_of(error.said)
    if 300 <= error.status < 400:
        hint = "another address is not followed; set the URL to that"
    if hint is None and (named := [name for name in options.extra_body if name.lower() in error.said.lower()]):
        hint = f"change {', '.join(named)} in extra_body (--extra-body)"
    if hint is None and "logprob" in error.said.lower():
        hint = f"lower top_logprobs (--top-logprobs, now {options.top_logprobs}); {_LOGPROBS_HINT}"
    return ServiceError(f"{caller.url}: {error}", hint=hint or "what the server says names the setting")

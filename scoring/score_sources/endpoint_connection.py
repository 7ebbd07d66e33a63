"""Connects to a server with numbers of its own: finds the form of its requests and asks a test question."""

from __future__ import annotations

from marginalia.schemas.errors import InputError, ModelError, ServiceError
from marginalia.scoring.models.endpoint_calls import Caller, CallFailed
from marginalia.scoring.models.endpoint_dialects import hint as hint_of
from marginalia.scoring.models.endpoint_discovery import model_cards, only_model
from marginalia.scoring.models.retried_calls import Refused
from marginalia.scoring.models.start_caller import checked_addresses, start_caller
from marginalia.scoring.score_request import GuardModel
from marginalia.scoring.score_sources.endpoint_formats import (
    EndpointFormat,
    Moderations,
    OpenAIDecisions,
    SGLangDecisions,
    SystemOne,
)
from marginalia.scoring.score_sources.endpoint_source import ServedScores
from marginalia.scoring.score_sources.input_texts import LAST_MESSAGE, InputTexts
from marginalia.scoring.score_sources.source_file import DecisionsFile, ModerationsFile
from marginalia.scoring.score_sources.source_guard import SourceGuard

FORMATS: dict[str, tuple[EndpointFormat, ...]] = {
    "systemone": (SystemOne(),),
    "decisions": (OpenAIDecisions(), SGLangDecisions()),
    "moderations": (Moderations(),),
}
TEST = ({"role": "user", "content": "A"},)
OTHER_KINDS = {
    "systemone": "vLLM 0.32 has /v1/systemone, for models that answer without thinking first",
    "decisions": "OpenAI, vLLM 0.33 and SGLang have /v1/decisions, for models that answer without thinking first",
    "moderations": "the endpoint must have /v1/moderations, with category_scores in its answers",
}


def load_endpoint_source(options: GuardModel, guard: SourceGuard) -> ServedScores:
    """Connects to the server at `options.model` and asks a test question.

    Raises InputError for an option that does not fit this kind of guard, ServiceError when the server refuses, does not
    answer, or does not give a number for every label."""
    kind = guard.file.kind
    if not options.model.startswith(("http://", "https://")):
        raise InputError(
            f"guard {guard.name}: a guard of kind {kind} is a server, and '{options.model}' is not a URL",
            hint="set model (--model) to the server's URL, which for most servers ends in /v1",
        )
    if options.tokenizer is not None:
        raise InputError(f"guard {guard.name}: a guard of kind {kind} needs no tokenizer", hint="leave it out")
    addresses = checked_addresses(options.model, FORMATS)
    caller = start_caller(addresses, options)
    try:
        return _connect(caller, options, guard)
    except CallFailed as error:
        hint = f"is the server running at the address given as --model? {OTHER_KINDS[kind]}"
        raise ServiceError(str(error), hint=hint) from None
    except Refused as error:
        raise ServiceError(f"{caller.url}: {error}", hint=_refusal_hint(error, options, kind)) from None


def _connect(caller: Caller, options: GuardModel, guard: SourceGuard) -> ServedScores:
    file = guard.file
    assert isinstance(file, DecisionsFile | ModerationsFile)
    name = options.endpoint_model or file.endpoint_model
    name = name or only_model(caller.url, model_cards(caller.get("models")))
    template = file.input or (None if isinstance(file, DecisionsFile) else LAST_MESSAGE)
    inputs = InputTexts(guard.name, template)
    refusal: Refused | None = None
    for form in FORMATS[file.kind]:
        source = ServedScores(
            caller, form, guard, name, dict(options.extra_body), options.concurrency, served_model=name, inputs=inputs
        )
        if own := sorted(options.extra_body.keys() & form.bodies(name, "", {"": ""})[0].keys()):
            raise InputError(f"extra_body cannot contain '{own[0]}'", hint=f"the guard {guard.name} sets it itself")
        bodies = source.bodies(TEST)
        try:
            answers = [caller.post(form.path, body, form.check) for body in bodies]
        except Refused as error:
            refusal = refusal or error
            if error.status not in (400, 422):
                break
            continue
        try:
            form.numbers(answers, source.rows("user"))
        except ModelError as error:
            hint = f"change the labels of the guard file, or the model: {OTHER_KINDS[file.kind]}"
            raise ServiceError(f"{caller.url}: the answer to the test question: {error.message}", hint=hint) from None
        caller.remember(form.path, bodies[0], form.check)
        source.served_model = str(answers[0].get("model") or name)
        return source
    assert refusal is not None
    raise refusal


def _refusal_hint(error: Refused, options: GuardModel, kind: str) -> str:
    key = f"the key in {options.api_key_env}" if options.api_key_env else "api_key_env (--api-key-env)"
    known = hint_of(error.text)
    if known is None and "thinking" in error.text.lower():
        known = "extra_body: {chat_template_kwargs: {enable_thinking: false}}"
        # vLLM's /v1/decisions accepts no further keys
        known = (
            f"set {known}" if kind == "systemone" else f"turn it off at the server, or use kind: systemone with {known}"
        )
    hints = {
        401: f"set {key}",
        403: f"set {key} or endpoint_model (--endpoint-model)",
        404: f"correct the URL or endpoint_model (--endpoint-model); {OTHER_KINDS[kind]}",
        405: OTHER_KINDS[kind],
        429: "the account's quota is used up",
        501: OTHER_KINDS[kind],
    }
    return known or hints.get(error.status) or "the server's message says what to change"

"""Samples reasoning passages over an endpoint: one request to `/v1/completions` per passage.

A request asks for reasoning and answer in one output, which is then cut where the answer begins: what servers do with
`stop` differs (some drop the text, some do not say whether it was met). The answer that it happens to contain is not
used. vLLM returns token ids when asked; the output of other servers is tokenized again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from marginalia.schemas.errors import ModelError
from marginalia.scoring.marginal.passages import Passage, PassageEnd, PassageRequest
from marginalia.scoring.models.completions_api import PATH, RequestFormat
from marginalia.scoring.models.endpoint_calls import Caller, CallFailed, Malformed, refused_all
from marginalia.scoring.models.retried_calls import Refused

ANSWER_TOKENS = 16  # asked for beyond the longest passage: without them an output could stop just before its end
MOST_SEED = 2**31  # servers take 32-bit seeds


@dataclass(frozen=True)
class _Output:
    """One sampled output; `ids` is None where the server returns only its text."""

    text: str
    ids: list[int] | None


class ServedModel(Protocol):
    """What sampling needs of a model behind an endpoint."""

    caller: Caller
    request_format: RequestFormat
    tokenizer: Any
    end_ids: tuple[int, ...]

    def prompt(self, ids: list[int]) -> list[int] | str | None:
        """The prompt to send for these ids; None when it cannot be sent."""
        ...


class EndpointPassages:
    """Samples from the served model at temperature 1, without top-k or top-p."""

    def __init__(self, model: ServedModel, end: PassageEnd) -> None:
        self._model, self._end = model, end

    def sample(self, requests: Sequence[PassageRequest]) -> list[list[Passage] | ModelError]:
        """The passages of each request, or why there are none; all requests are under way at once.

        Raises ServiceError when the server refuses what concerns all records."""
        bodies = []
        for number, request in enumerate(requests):
            prompt = self._model.prompt(request.prompt)
            bodies += [
                (number, self._body(prompt, seed, request.longest)) for seed in request.seeds if prompt is not None
            ]
        try:
            answers = iter(self._model.caller.post_all(PATH, bodies, _read))
        except Refused as error:
            raise refused_all(self._model.caller, error) from None
        sampled: list[list[Passage] | ModelError] = []
        for request in requests:
            if self._model.prompt(request.prompt) is None:
                sampled.append(
                    ModelError(
                        "the endpoint accepts only text as a prompt, and this record's text contains "
                        "the text of a control token"
                    )
                )
                continue
            outputs = [next(answers) for _ in request.seeds]
            failure = next((one for one in outputs if isinstance(one, CallFailed | Refused)), None)
            if failure is None:
                sampled.append([self._cut(one, request.longest) for one in outputs if isinstance(one, _Output)])
            else:
                sampled.append(failure if isinstance(failure, CallFailed) else ModelError(str(failure)))
        return sampled

    def _body(self, prompt: list[int] | str, seed: int, longest: int) -> dict[str, Any]:
        form = self._model.request_format
        body: dict[str, Any] = {
            "model": form.model,
            "prompt": prompt,
            "max_tokens": longest + ANSWER_TOKENS,
            "temperature": 1.0,
            "top_p": 1.0,
            "n": 1,
            "seed": seed % MOST_SEED,
        }
        if form.extras:
            # a served model's generation_config may set any of these; control tokens end some guards' reasoning
            body |= {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "skip_special_tokens": False}
            body |= {"return_token_ids": True, "return_tokens": True}
            if not form.ids:
                body["add_special_tokens"] = False
        return {**body, **form.extra_body}

    def _cut(self, output: _Output, longest: int) -> Passage:
        ids = output.ids
        if ids is None:
            ids = self._model.tokenizer(output.text, add_special_tokens=False)["input_ids"]
        return self._end.cut(ids, longest, self._model.end_ids)


def _read(value: Mapping[str, Any]) -> _Output:
    try:
        choice = value["choices"][0]
        text = choice["text"]
    except (KeyError, IndexError, TypeError):
        raise Malformed("no choices in the answer") from None
    if not isinstance(text, str):
        raise Malformed("the answer's text is not a string")
    for ids in (choice.get("token_ids"), choice.get("tokens"), value.get("tokens")):
        if isinstance(ids, list) and ids and all(type(one) is int for one in ids):
            return _Output(text, ids)
    return _Output(text, None)

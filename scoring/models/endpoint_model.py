"""A causal language model behind an OpenAI-compatible server with log-probabilities (vLLM, SGLang, llama.cpp).

Each answer prefix is one call to `/v1/completions` for one token; the server's prefix cache plays the part of the local
KV tree. Only the top k tokens are told, so the mass of the others stays open: bounds are true and wider. They also
allow for what the server's own answers to one question differ by."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from marginalia.schemas.errors import ModelError, ServiceError
from marginalia.scoring.language.token_language import TokenLanguage
from marginalia.scoring.marginal.answer_search import NextTokens, Node
from marginalia.scoring.models.completions_api import UNKNOWN, Form, TokenAnswer, next_tokens, read_answer
from marginalia.scoring.models.endpoint_calls import Caller, CallFailed
from marginalia.scoring.models.repeated_answers import Body, Repeats, Spread
from marginalia.scoring.models.retried_calls import Refused

PATH = "completions"


@dataclass
class EndpointModel:
    """A served model with its tokenizer. `repeats`: by how much its answers to one question differ; `between`: the
    same between replicas of the server."""

    caller: Caller
    form: Form
    tokenizer: Any
    end_ids: tuple[int, ...]
    context: int
    name: str
    revision: str
    digest: str
    together: int
    between: Spread | None = None
    repeats: Repeats = field(default_factory=Repeats, repr=False)
    context_reason: str = ""
    token_ids: int | None = None

    @property
    def identity(self) -> list[str]:
        """The model's name, its tokenizer and what is asked: not the address, so that replicas share a journal."""
        asked = "asked ids" if self.form.exact else f"top {self.form.top}"
        own = [json.dumps(dict(self.form.own), sort_keys=True)] if self.form.own else []
        # 2: bounds include the spread, and what is shown with a floor value counts as not seen
        return ["endpoint 2", self.name, self.digest, asked, "ids" if self.form.ids else "text", *own]

    @property
    def spread(self) -> float | None:
        """By how much (nats) its answers to one question differed; None before that was tried."""
        return None if self.repeats.first is None else self.repeats.spread.nats

    @property
    def allowance(self) -> Spread:
        """By how much the bounds allow an answer to be off."""
        return self.repeats.spread | (self.between or Spread())

    @property
    def notes(self) -> list[str]:
        found = [f"scored by {self.revision}; numbers of such a server vary with its batching{self.repeats.told}"]
        if not self.form.exact:
            found.append(f"only the top {self.form.top} tokens of each step are told: the others' mass counts as open")
        if self.form.partial:
            found.append(
                "the server leaves out all but a few tokens of what it was asked for; bounds are wider by that"
            )
        if (report := self.caller.replicas.report) is not None:
            found.append(self.caller.safe(report, limit=None))
        if self.between is not None:
            found.append(f"a log-probability differed by up to {self.between.nats:.2g} nats between endpoints")
        return found

    @cached_property
    def ids_of(self) -> dict[str, tuple[int, ...]]:
        """Text → the token ids that decode to it, for servers that name tokens by text."""
        found: dict[str, tuple[int, ...]] = {}
        ids = range(len(self.tokenizer))
        for token, text in zip(ids, self.tokenizer.batch_decode([[token] for token in ids]), strict=True):
            found[text] = (*found.get(text, ()), token)
        return found

    def source(self) -> EndpointSource:
        return EndpointSource(self)

    def prompt(self, ids: list[int]) -> list[int] | str | None:
        """What is sent for these ids; None when only text is taken and the text would be read as other tokens."""
        if self.form.ids:
            return ids
        text = str(self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
        return text if self.tokenizer(text, add_special_tokens=False)["input_ids"] == ids else None

    def texts(self, answer: TokenAnswer) -> dict[str, tuple[int, ...]]:
        return self.ids_of if answer.by_text else {}


class EndpointSource:
    """Batches of prompts over one endpoint."""

    alone = True

    def __init__(self, model: EndpointModel) -> None:
        self.model = model
        self.shared = 0

    @property
    def together(self) -> int:
        return self.model.together

    def share(self, ids: Sequence[int]) -> None:
        # the server's own prefix cache does the sharing; the count keeps batches as large as local ones
        self.shared = len(ids)

    def open(self, places: int, longest: int, tokens: TokenLanguage) -> EndpointBatch:
        return EndpointBatch(self.model, tokens)


class EndpointBatch:
    """Records that are searched together on one endpoint."""

    def __init__(self, model: EndpointModel, tokens: TokenLanguage) -> None:
        self._model = model
        self._prompts: dict[int, list[int]] = {}
        self._tokens = tokens

    def join(self, place: int, prompt: list[int]) -> None:
        self._prompts[place] = prompt

    def next_tokens(self, nodes: Sequence[tuple[int, Node]]) -> list[NextTokens | ModelError]:
        """What follows each (record, prefix): one call each, all under way at once."""
        model = self._model
        sent = [model.prompt(self._prompts[record] + node.path()) for record, node in nodes]
        bodies = [
            (record, model.form.body(prompt, self._allowed(node).tolist()))
            for (record, node), prompt in zip(nodes, sent, strict=True)
            if prompt is not None
        ]
        known = model.repeats.due()
        extra = [(-1 - number, body) for number, body in enumerate(known)]  # of no record
        try:
            answers = model.caller.post_all(PATH, [*bodies, *extra], read_answer)
        except Refused as error:
            raise _stopped(model.caller, error) from None
        answers, extra_answers = answers[: len(bodies)], answers[len(bodies) :]
        model.repeats.hear(known, _read(extra_answers))
        if bodies and model.repeats.is_due:
            model.repeats.measure([body for _, body in bodies], _read(answers), self._ask)
        told = iter(answers)
        return [
            self._untold(node) if prompt is None else self._tell(record, node, next(told))
            for (record, node), prompt in zip(nodes, sent, strict=True)
        ]

    def _allowed(self, node: Node) -> np.ndarray[Any, np.dtype[np.int64]]:
        return self._tokens.moves(node.state).ids if node.state is not None else np.empty(0, dtype=np.int64)

    def _tell(self, record: int, node: Node, answer: TokenAnswer | CallFailed | Refused) -> NextTokens | ModelError:
        if isinstance(answer, CallFailed):
            return answer
        if isinstance(answer, Refused):
            return ModelError(f"{self._model.caller.url}: {answer}")
        length = len(self._prompts[record]) + node.depth
        if answer.prompt_tokens not in (None, length):
            return ModelError(f"the endpoint counted {answer.prompt_tokens} tokens in a prompt of {length}")
        try:
            found = next_tokens(answer, self._allowed(node), self._model.texts(answer), self._model.form)
        except ModelError as error:
            return error
        allowance = self._model.allowance
        return replace(found, spread=allowance.nats, stray=allowance.stray)

    def _untold(self, node: Node) -> NextTokens | ModelError:
        if node.parent is None:
            return ModelError(
                "the endpoint takes prompts as text only, and this one's text would be read as other tokens: it holds "
                "the text of a control token",
            )
        return NextTokens(np.full(len(self._allowed(node)), -math.inf), UNKNOWN, 0.0, 1.0, 1.0)

    def _ask(self, bodies: Sequence[Body]) -> list[TokenAnswer | None]:
        """Answers to questions of no record: what fails here fails nothing."""
        numbered = [(-1 - number, body) for number, body in enumerate(bodies)]
        try:
            return _read(self._model.caller.post_all(PATH, numbered, read_answer))
        except Refused:
            return [None] * len(bodies)


def _read(answers: Sequence[TokenAnswer | CallFailed | Refused]) -> list[TokenAnswer | None]:
    return [answer if isinstance(answer, TokenAnswer) else None for answer in answers]


def _stopped(caller: Caller, error: Refused) -> ServiceError:
    return ServiceError(
        f"{caller.url}: {error}", hint="the server changed its mind; what was scored is kept, the same command goes on"
    )

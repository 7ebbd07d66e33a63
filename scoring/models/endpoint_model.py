"""A causal language model behind an OpenAI-compatible server with log-probabilities (vLLM, SGLang, llama.cpp).

Each answer prefix is one call to `/v1/completions` for one token; the server's prefix cache has the role of the local
tree of keys and values. The server returns only its top k tokens, so the mass of the others stays open: bounds are
valid but wider. They also include how much the server's answers to the same question vary."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from marginalia.schemas.errors import ModelError, ServiceError
from marginalia.scoring.marginal.answer_search import NextTokens, Node
from marginalia.scoring.marginal.model_protocol import NextMoves
from marginalia.scoring.models.completions_api import UNKNOWN, RequestFormat, TokenAnswer, next_tokens, read_answer
from marginalia.scoring.models.endpoint_calls import Caller, CallFailed
from marginalia.scoring.models.repeated_answers import Body, Repeats, Spread
from marginalia.scoring.models.retried_calls import Refused
from marginalia.scoring.record_errors import record_error

PATH = "completions"
# where a special token may follow and a server that names tokens by text returns none, more missing probability than
# this is probably that of special tokens
MOST_HIDDEN = 0.5


@dataclass
class EndpointModel:
    """A served model with its tokenizer. `digest`: the tokenizer's hash; `context`: the longest sequence it accepts, in
    tokens; `concurrency`: calls that may be active at once; `replica_spread`: how much the answers of replicas differ,
    None when there is one server; `repeats`: how much its answers to the same question vary."""

    caller: Caller
    request_format: RequestFormat
    tokenizer: Any
    end_ids: tuple[int, ...]
    context: int
    name: str
    revision: str
    digest: str
    concurrency: int
    replica_spread: Spread | None = None
    repeats: Repeats = field(default_factory=Repeats, repr=False)
    context_reason: str = ""
    token_ids: int | None = None

    @property
    def identity(self) -> list[str]:
        """What its numbers depend on: the model's name, its tokenizer and the form of requests. The address is not part
        of it, so that replicas share a journal."""
        requested = "asked ids" if self.request_format.exact else f"top {self.request_format.top}"
        extra_body = (
            [json.dumps(dict(self.request_format.extra_body), sort_keys=True)] if self.request_format.extra_body else []
        )
        # version 2: bounds include the spread, and tokens with a floor value count as not returned
        return [
            "endpoint 2",
            self.name,
            self.digest,
            requested,
            "ids" if self.request_format.ids else "text",
            *extra_body,
        ]

    @property
    def spread(self) -> float | None:
        """The largest difference (nats) between answers to the same question; None until it is measured."""
        return None if self.repeats.first is None else self.repeats.spread.nats

    @property
    def allowance(self) -> Spread:
        """How much the bounds allow an answer to vary: between repeated questions and between replicas."""
        return self.repeats.spread | (self.replica_spread or Spread())

    @property
    def notes(self) -> list[str]:
        """What readers of its scores should know: one sentence each."""
        notes = [f"scored by {self.revision}; a server's numbers vary with its batching{self.repeats.summary}"]
        if not self.request_format.exact:
            top = self.request_format.top
            notes.append(f"the endpoint returns only the top {top} tokens; the mass of the others counts as open")
        if self.request_format.partial:
            notes.append("the server leaves out all but a few of the tokens it is asked for, so bounds are wider")
        if (report := self.caller.replicas.report) is not None:
            notes.append(self.caller.safe(report, limit=None))
        if self.replica_spread is not None:
            nats = self.replica_spread.nats
            notes.append(f"log-probabilities differed by up to {nats:.2g} nats between endpoints")
        return notes

    @cached_property
    def ids_by_text(self) -> dict[str, tuple[int, ...]]:
        """Text → the ids of the tokens that decode to it, for servers that return texts. Built on first use."""
        ids_by_text: dict[str, tuple[int, ...]] = {}
        ids = range(len(self.tokenizer))
        for token, text in zip(ids, self.tokenizer.batch_decode([[token] for token in ids]), strict=True):
            ids_by_text[text] = (*ids_by_text.get(text, ()), token)
        return ids_by_text

    def source(self) -> EndpointSource:
        """A new source of batches."""
        return EndpointSource(self)

    def prompt(self, ids: list[int]) -> list[int] | str | None:
        """The prompt to send for these ids; None when the server accepts only text and would read other tokens."""
        if self.request_format.ids:
            return ids
        text = str(self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
        return text if self.tokenizer(text, add_special_tokens=False)["input_ids"] == ids else None


class EndpointSource:
    """Opens batches over one endpoint."""

    batch_invariant = True

    def __init__(self, model: EndpointModel) -> None:
        self.model = model
        self.shared_tokens = 0
        self._starts = 0

    @property
    def min_records(self) -> int:
        """How many records should be searched at a time at least, so that all connections are used."""
        return self.model.concurrency

    def add_shared_start(self, ids: Sequence[int]) -> None:
        """Keeps the number of shared tokens, which batch sizes depend on; the server's prefix cache does the rest."""
        self.shared_tokens = len(ids) if self._starts == 0 else min(self.shared_tokens, len(ids))
        self._starts += 1

    def open(self, rows: int, longest: int, tokens: NextMoves) -> EndpointBatch:
        """A batch of records; their number and length do not matter to an endpoint."""
        return EndpointBatch(self.model, tokens)


class EndpointBatch:
    """Records that are searched together on one endpoint."""

    def __init__(self, model: EndpointModel, tokens: NextMoves) -> None:
        self._model = model
        self._prompts: dict[int, list[int]] = {}
        self._tokens = tokens

    def join(self, row: int, prompt: list[int], *, continues: bool = False) -> None:
        """Puts a new record, or the next call of the same one, by its prompt's token ids, into the row."""
        self._prompts[row] = prompt

    def next_tokens(self, nodes: Sequence[tuple[int, Node]]) -> list[NextTokens | ModelError]:
        """The next tokens of each (row, prefix): one call each, all under way at once. A ModelError is of one record.

        Raises ServiceError when the server refuses what concerns all records."""
        model = self._model
        sent = [self._sent(row, node) for row, node in nodes]
        bodies = [
            (row, model.request_format.body(prompt, self._allowed(node).tolist()))
            for (row, node), prompt in zip(nodes, sent, strict=True)
            if not isinstance(prompt, ModelError | None)
        ]
        known = model.repeats.questions_due()
        repeated = [(-1 - number, body) for number, body in enumerate(known)]  # a negative number: of no record
        try:
            answers = model.caller.post_all(PATH, [*bodies, *repeated], read_answer)
        except Refused as error:
            raise _refused_all(model.caller, error) from None
        answers, repeated_answers = answers[: len(bodies)], answers[len(bodies) :]
        model.repeats.compare(known, _without_errors(repeated_answers))
        if bodies and model.repeats.needs_measuring:
            model.repeats.measure([body for _, body in bodies], _without_errors(answers), self._repeat)
        remaining = iter(answers)
        tokens: list[NextTokens | ModelError] = []
        for (row, node), prompt in zip(nodes, sent, strict=True):
            if isinstance(prompt, ModelError):
                tokens.append(prompt)
            elif prompt is None:
                tokens.append(self._tokens_without_answer(node))
            else:
                tokens.append(self._tokens_of(row, node, next(remaining)))
        return tokens

    def _sent(self, row: int, node: Node) -> list[int] | str | ModelError | None:
        try:
            return self._model.prompt(self._prompts[row] + node.path())
        except Exception as error:
            return ModelError(record_error(error, "its prompt cannot be written as text").message)

    def _allowed(self, node: Node) -> np.ndarray[Any, np.dtype[np.int64]]:
        return self._tokens.moves(node.state).ids if node.state is not None else np.empty(0, dtype=np.int64)

    def _tokens_of(self, row: int, node: Node, answer: TokenAnswer | CallFailed | Refused) -> NextTokens | ModelError:
        if isinstance(answer, CallFailed):
            return answer
        if isinstance(answer, Refused):
            return ModelError(f"{self._model.caller.url}: {answer}")
        length = len(self._prompts[row]) + node.depth
        if answer.prompt_tokens not in (None, length):
            return ModelError(f"the endpoint counted {answer.prompt_tokens} tokens in a prompt of {length}")
        try:
            ids_by_text = self._model.ids_by_text if answer.by_text else {}
            tokens = next_tokens(answer, self._allowed(node), ids_by_text, self._model.request_format)
        except ModelError as error:
            return error
        except Exception as error:
            return ModelError(record_error(error, "the endpoint's answer cannot be read").message)
        if (hidden := self._hidden_special(node, answer, tokens)) is not None:
            return ModelError(
                f"the endpoint returns no probability for the special token {hidden}, which this guard answers with",
                hint="use a server that returns token ids (vLLM: return_tokens_as_token_ids), or set extra_body: "
                "{skip_special_tokens: false}",
            )
        allowance = self._model.allowance
        return replace(tokens, spread=allowance.nats, stray=allowance.stray)

    def _hidden_special(self, node: Node, answer: TokenAnswer, tokens: NextTokens) -> str | None:
        """A special token of the guard's answers that seems to be hidden: one may follow here, none has a value, and
        the server returned a token without text, or most of the probability is missing from its answer."""
        allowed = self._allowed(node).tolist()
        special = {index: token for index, token in enumerate(allowed) if token in self._tokens.special_text}
        if not special or np.isfinite(tokens.log_probabilities[list(special)]).any():
            return None
        if answer.by_id or not ("" in answer.by_text or tokens.unseen > MOST_HIDDEN):
            return None
        return self._tokens.special_text[next(iter(special.values()))].decode()

    def _tokens_without_answer(self, node: Node) -> NextTokens | ModelError:
        if node.parent is None:
            return ModelError(
                "the endpoint accepts only text as a prompt, and this record's text would be tokenized differently: it "
                "contains the text of a control token",
            )
        return NextTokens(np.full(len(self._allowed(node)), -math.inf), UNKNOWN, 0.0, 1.0, 1.0)

    def _repeat(self, bodies: Sequence[Body]) -> list[TokenAnswer | None]:
        """Answers to repeated questions. Failures are ignored: they concern no record."""
        numbered = [(-1 - number, body) for number, body in enumerate(bodies)]
        try:
            return _without_errors(self._model.caller.post_all(PATH, numbered, read_answer))
        except Refused:
            return [None] * len(bodies)


def _without_errors(answers: Sequence[TokenAnswer | CallFailed | Refused]) -> list[TokenAnswer | None]:
    return [answer if isinstance(answer, TokenAnswer) else None for answer in answers]


def _refused_all(caller: Caller, error: Refused) -> ServiceError:
    return ServiceError(
        f"{caller.url}: {error}",
        hint="the server refuses a request of the kind that it accepted before; finished records are kept: "
        "run the same command to continue",
    )

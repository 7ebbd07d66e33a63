"""What a scorer needs of a model, local or served: its tokenizer, and next-token probabilities after prefixes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from marginalia.schemas.errors import ModelError
from marginalia.scoring.language.token_language import TokenLanguage
from marginalia.scoring.marginal.answer_search import NextTokens, Node
from marginalia.scoring.reasoning.passages import Passage, PassageEnd, PassageRequest


class Batch(Protocol):
    """A fixed number of batch rows; each holds one record at a time."""

    def join(self, batch_row: int, prompt: list[int]) -> None:
        """Puts a new record, given by its prompt's token ids, into the batch row; the one before it is dropped."""
        ...

    def next_tokens(self, nodes: Sequence[tuple[int, Node]]) -> Sequence[NextTokens | ModelError]:
        """Next-token probabilities after each (batch row, prefix), in their order.

        The caller asks for a record's root first, and for parents before their children. A ModelError in place of an
        answer fails that record alone."""
        ...


class Sampler(Protocol):
    """A sampler of reasoning passages."""

    def sample(self, requests: Sequence[PassageRequest]) -> list[list[Passage] | ModelError]:
        """The passages of each request, or why it has none."""
        ...


class Source(Protocol):
    """Creates batches for the prompts of one guard."""

    @property
    def shared_tokens(self) -> int:
        """How many tokens all prompts start with; they are evaluated once."""
        ...

    @property
    def min_records(self) -> int:
        """How many records should be searched at a time, at least, so that none of the source's capacity is idle."""
        ...

    @property
    def batch_invariant(self) -> bool:
        """Whether a record's numbers do not depend on which others share its batch, as far as is known."""
        ...

    def set_shared_start(self, ids: Sequence[int]) -> None:
        """Sets the token ids that all prompts start with."""
        ...

    def passages(self, end: PassageEnd) -> Sampler:
        """A sampler of reasoning passages that end with `end`."""
        ...

    def open(self, batch_rows: int, longest: int, tokens: TokenLanguage) -> Batch:
        """A batch with that many rows, for prompts of at most `longest` tokens."""
        ...


class Model(Protocol):
    """A model with its tokenizer."""

    @property
    def tokenizer(self) -> Any:
        """The Hugging Face tokenizer."""
        ...

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The token ids that end an answer."""
        ...

    @property
    def context(self) -> int:
        """The longest sequence, in tokens: prompt and answer."""
        ...

    @property
    def context_reason(self) -> str:
        """Why `context` is shorter than the model's own; empty where it is not."""
        ...

    @property
    def token_ids(self) -> int | None:
        """How many token ids the model has; None where only a server knows."""
        ...

    @property
    def name(self) -> str:
        """The name that is recorded with the scores."""
        ...

    @property
    def revision(self) -> str:
        """The revision that is recorded with the scores."""
        ...

    @property
    def identity(self) -> list[str]:
        """What its numbers depend on. Only scores of one identity may share a journal."""
        ...

    @property
    def notes(self) -> list[str]:
        """What a reader of the scores should know, for the manifest."""
        ...

    def source(self) -> Source:
        """A source of next-token probabilities for one guard."""
        ...

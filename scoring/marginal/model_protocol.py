"""What a scorer needs of a model, local or served: its tokenizer, and next-token probabilities after prefixes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from marginalia.schemas.errors import ModelError
from marginalia.scoring.language.answer_language import State
from marginalia.scoring.language.token_language import Moves
from marginalia.scoring.marginal.answer_search import NextTokens, Node


class NextMoves(Protocol):
    """What a batch needs of a guard's language, or of the languages of all its calls."""

    @property
    def special_text(self) -> Mapping[int, bytes]:
        """Id → text of the special tokens that answers contain."""
        ...

    def moves(self, state: State) -> Moves:
        """The tokens that may follow the state."""
        ...


class Batch(Protocol):
    """A fixed number of batch rows; each holds one record at a time."""

    def join(self, batch_row: int, prompt: list[int], *, continues: bool = False) -> None:
        """Puts a new record, given by its prompt's token ids, into the batch row; the one before it is dropped.

        `continues`: it is the next call of the record that was in the row, so that their prompts may have a start in
        common, which need not be evaluated again."""
        ...

    def next_tokens(self, nodes: Sequence[tuple[int, Node]]) -> Sequence[NextTokens | ModelError]:
        """Next-token probabilities after each (batch row, prefix), in their order.

        The caller asks for a record's root first, and for parents before their children. A ModelError in place of an
        answer fails that record alone."""
        ...


class Source(Protocol):
    """Creates batches for the prompts of one guard."""

    @property
    def shared_tokens(self) -> int:
        """How many tokens each prompt shares with other records' at its start, at least; they are evaluated once."""
        ...

    @property
    def min_records(self) -> int:
        """How many records should be searched at a time, at least, so that none of the source's capacity is idle."""
        ...

    @property
    def batch_invariant(self) -> bool:
        """Whether a record's numbers do not depend on which others share its batch, as far as is known."""
        ...

    def add_shared_start(self, ids: Sequence[int]) -> None:
        """Adds the token ids that all prompts of the guard start with, or those of one of its calls."""
        ...

    def open(self, batch_rows: int, longest: int, tokens: NextMoves) -> Batch:
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

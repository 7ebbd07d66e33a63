"""What a scorer needs of a model, wherever it runs: its tokenizer, and next-token probabilities of prefixes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from marginalia.schemas.errors import ModelError
from marginalia.scoring.language.token_language import TokenLanguage
from marginalia.scoring.marginal.answer_search import NextTokens, Node


class Batch(Protocol):
    """Places for records that are searched together."""

    def join(self, place: int, prompt: list[int]) -> None:
        """A new record, by its prompt's token ids, takes the place; the one that had it is over."""
        ...

    def next_tokens(self, nodes: Sequence[tuple[int, Node]]) -> Sequence[NextTokens | ModelError]:
        """What follows each (place, prefix); a record's root is asked for first, and parents stand before children.

        A ModelError in place of an answer fails that record alone."""
        ...


class Source(Protocol):
    """Batches of prompts of one guard. `shared`: how many tokens all its prompts start with; `together`: how many
    records should be searched at a time at least, so that none of the source's capacity lies idle; `alone`: whether a
    record's numbers do not depend on which others are searched with it, as far as we can know."""

    @property
    def shared(self) -> int: ...

    @property
    def together(self) -> int: ...

    @property
    def alone(self) -> bool: ...

    def share(self, ids: Sequence[int]) -> None:
        """Tells what all prompts start with."""
        ...

    def open(self, places: int, longest: int, tokens: TokenLanguage) -> Batch:
        """Places for as many records at a time, whose prompts have at most `longest` tokens."""
        ...


class Model(Protocol):
    """A model with its tokenizer. `context`: the longest sequence it takes, in tokens; `context_reason`: why not more,
    where the model was made for more. `token_ids`: how many it has, None where only a server knows. `identity`: what
    its numbers depend on; scores of one identity may stand in one journal. `revision`: what is recorded of it."""

    @property
    def tokenizer(self) -> Any: ...

    @property
    def end_ids(self) -> tuple[int, ...]: ...

    @property
    def context(self) -> int: ...

    @property
    def context_reason(self) -> str: ...

    @property
    def token_ids(self) -> int | None: ...

    @property
    def name(self) -> str: ...

    @property
    def revision(self) -> str: ...

    @property
    def identity(self) -> list[str]: ...

    @property
    def notes(self) -> list[str]: ...

    def source(self) -> Source: ...

"""What a scorer needs of a model, wherever it runs: its tokenizer, and next-token probabilities of prefixes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from schemas.errors import ModelError
from scoring.search import NextTokens, Node
from scoring.tokens import TokenLanguage


class Batch(Protocol):
    """Records that are searched together."""

    def next_tokens(self, nodes: Sequence[tuple[int, Node]]) -> Sequence[NextTokens | ModelError]:
        """What follows each (record, prefix). The first call asks for the root of every record, in their order.

        A ModelError in place of an answer fails that record alone."""
        ...


class Source(Protocol):
    """Batches of prompts of one guard. `shared`: how many tokens all its prompts start with; `together`: how many
    records a batch should hold at least, so that none of the source's capacity lies idle."""

    @property
    def shared(self) -> int: ...

    @property
    def together(self) -> int: ...

    def share(self, ids: Sequence[int]) -> None:
        """Tells what all prompts start with."""
        ...

    def open(self, prompts: Sequence[list[int]], tokens: TokenLanguage) -> Batch: ...


class Model(Protocol):
    """A model with its tokenizer. `context`: the longest sequence it takes, in tokens. `identity`: what its numbers
    depend on; scores of one identity may stand in one journal. `revision`: what is recorded of it."""

    @property
    def tokenizer(self) -> Any: ...

    @property
    def end_ids(self) -> tuple[int, ...]: ...

    @property
    def context(self) -> int: ...

    @property
    def name(self) -> str: ...

    @property
    def revision(self) -> str: ...

    @property
    def identity(self) -> list[str]: ...

    @property
    def notes(self) -> list[str]: ...

    def source(self) -> Source: ...

"""A reasoning passage: the tokens that a guard writes before its answer, and where they end."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from marginalia.schemas.errors import did_you_mean
from marginalia.scoring.guard_file import ReasoningSpec

CONTROL = 256  # a control token with id n is the symbol CONTROL + n; the symbols below are bytes


@dataclass(frozen=True)
class Passage:
    """A sampled passage: its token ids. `finished`: whether it reached the place where the answer begins, rather than
    ending before or being cut off. `begun`: the bytes of the answer that its last token already contains."""

    ids: tuple[int, ...]
    finished: bool
    begun: bytes = b""


class PassageEndError(ValueError):
    """An end of reasoning that this model cannot write; the message says why, and what to write instead."""


class PassageEnd:
    """The text after which a guard's answer begins, in a tokenizer's tokens.

    `token_bytes`: ordinary token ids → their bytes; `end_ids` end an output. Raises PassageEndError for a control token
    that the tokenizer does not have or that ends the output, and for a control token written as text."""

    def __init__(
        self, spec: ReasoningSpec, tokenizer: Any, token_bytes: Mapping[int, bytes], end_ids: Collection[int] = ()
    ) -> None:
        self._token_bytes = token_bytes
        tokens = {token.content: number for number, token in tokenizer.added_tokens_decoder.items()}
        controls = [text for text, number in tokens.items() if number not in token_bytes and text.strip()]
        self._end: list[int] = []
        for part in spec.parts:
            if isinstance(part, str):
                if written := next((text for text in controls if text in part), None):
                    raise PassageEndError(
                        f"'{written}' is a special token of this model, which its text never contains: write it as "
                        f'{{token: "{written}"}}'
                    )
                self._end += part.encode()
            elif part.token in tokens:
                number = tokens[part.token]
                if number in end_ids:
                    raise PassageEndError(f"'{part.token}' ends the output of this model, so no answer can follow it")
                self._end += token_bytes.get(number, b"") or [CONTROL + number]
            else:
                near = did_you_mean(part.token, tokens)
                raise PassageEndError(f"the tokenizer has no token '{part.token}'{near}")

    def watch(self) -> PassageWatch:
        """A new watch over one passage."""
        return PassageWatch(self)

    def cut(self, ids: Sequence[int], longest: int, end_ids: Sequence[int]) -> Passage:
        """The passage at the beginning of a whole output. It is not finished if it has more than `longest` tokens or if
        the output ends before, with one of `end_ids`."""
        ids = ids[:longest]
        watch = self.watch()
        for count, token in enumerate(ids, start=1):
            if (begun := watch.add(token)) is not None:
                return Passage(tuple(ids[:count]), True, begun)
            if token in end_ids:
                break
        return Passage(tuple(ids), False)

    def symbols(self, token: int) -> Sequence[int]:
        """What a token adds to the text: its bytes, or the symbol of a control token."""
        return self._token_bytes[token] if token in self._token_bytes else [CONTROL + token]


class PassageWatch:
    """Follows the text of one passage as it grows."""

    def __init__(self, end: PassageEnd) -> None:
        self._end = end
        self._last: list[int] = []  # symbols, as many as may belong to an end that has begun

    def add(self, token: int) -> bytes | None:
        """Adds a token. Returns the bytes after the end of the passage if the token completes it, else None."""
        end = self._end._end
        text = [*self._last, *self._end.symbols(token)]
        for stop in range(len(end), len(text) + 1):
            if text[stop - len(end) : stop] == end:
                return bytes(text[stop:])
        self._last = text[max(len(text) - len(end) + 1, 0) :]
        return None


@dataclass(frozen=True)
class PassageRequest:
    """The passages to sample for one record: its prompt's token ids, one seed per passage, and the greatest length of a
    passage in tokens."""

    prompt: list[int]
    seeds: Sequence[int]
    longest: int

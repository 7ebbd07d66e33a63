"""The answer language in a tokenizer's tokens: for each state the token ids that stay inside the language, and where
each leads. Found by walking a trie of the vocabulary's bytes, so every tokenisation of an answer is counted, not only
the canonical one."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from marginalia.schemas.errors import ModelError
from marginalia.scoring.language.answer_language import AnswerLanguage, State

Floats = npt.NDArray[np.float64]
MOST_ENTRIES = 1 << 25  # tokens × rows in memory, each 4 numbers: 1 GB


@dataclass(frozen=True)
class Moves:
    """What may follow a state: one entry for each allowed token, those that end the answer included.

    `ids`: (n,) token ids. `states`: the state after each, None after an ending token. `done`, `could`, `without`,
    `undecided`: (n, rows) 0/1 matrices of the states after each; rows of ending tokens hold the answer's rows in
    `done` and zeros elsewhere. `undecided` marks rows that constrained decoding may still end with or without."""

    ids: npt.NDArray[np.int64]
    states: tuple[State | None, ...]
    ends: npt.NDArray[np.bool_]
    done: Floats
    could: Floats
    without: Floats
    undecided: Floats

    @cached_property
    def open_rows(self) -> Floats:
        """(4, n, rows): `done`, `could`, `without` and `undecided` in one table."""
        return np.stack([self.done, self.could, self.without, self.undecided])


class TokenLanguage:
    """`language` over a vocabulary. `token_bytes` maps ordinary token ids to their bytes; `end_ids` end an answer."""

    def __init__(self, language: AnswerLanguage, token_bytes: Mapping[int, bytes], end_ids: Collection[int]) -> None:
        self.language = language
        self.end_ids = tuple(sorted(end_ids))
        self.token_bytes = token_bytes
        if not self.end_ids:
            raise ModelError("the model names no end-of-sequence token", hint="set eos_token_id in generation_config")
        self._alphabet = sorted(language.bytes_used())
        alphabet, ends = set(self._alphabet), set(end_ids)
        # the ids that may be part of an answer, as far as their letters tell
        self.usable = [id for id, text in token_bytes.items() if text and id not in ends and alphabet.issuperset(text)]
        self._trie = _trie({token: token_bytes[token] for token in self.usable})
        if len(self.usable) * language.rows > MOST_ENTRIES:
            raise ModelError(
                f"the guard's answers can contain {len(self.usable):,} tokens of this model and complete "
                f"{language.rows:,} rows; tables of tokens × rows may have {MOST_ENTRIES:,} entries",
                hint="use fewer labels, or fewer different characters in the guard file's 'answer'",
            )
        self._moves: dict[State, Moves] = {}
        self._entries = 0
        self._forced: dict[State, int | None] = {}

    def moves(self, state: State) -> Moves:
        if state not in self._moves:
            found = self._find(state)
            self._entries += found.done.size
            if self._entries > MOST_ENTRIES:  # a guard with many choices has more states than fit into memory
                self._moves.clear()
                self._forced.clear()
                self._entries = found.done.size
            self._moves[state] = found
        return self._moves[state]

    def forced(self, state: State) -> int | None:
        """Where the language leaves no choice of what text comes next, the index of the move that a tokenizer would
        take (the longest token that the text starts with); None where there is a choice, or no such token."""
        if state not in self._forced:
            self._forced[state] = self._find_forced(state)
        return self._forced[state]

    def _find_forced(self, state: State) -> int | None:
        text, here = b"", state
        while here.accepted is None:
            after = [(byte, to) for byte in self._alphabet if (to := here.step(byte)) is not None]
            if len(after) != 1:
                break
            (byte, here) = after[0]
            text += bytes([byte])
        if not text:
            return None
        tokens = [self.token_bytes[name] for name in self.moves(state).ids.tolist()]
        lengths = [len(token) if text.startswith(token) else 0 for token in tokens]
        return int(np.argmax(lengths)) if any(lengths) else None

    def text(self, ids: Sequence[int]) -> bytes:
        """The bytes of a generated answer; tokens without text of their own (control tokens) count as nothing."""
        return b"".join(self.token_bytes.get(token, b"") for token in ids)

    def _find(self, state: State) -> Moves:
        found: list[tuple[int, State | None]] = []
        stack: list[tuple[dict[int, Any], State]] = [(self._trie, state)]
        while stack:
            node, here = stack.pop()
            for byte, child in node.items():
                if byte < 0:
                    continue
                after = here.step(byte)
                if after is None:
                    continue
                found += [(token, after) for token in child.get(-1, ())]
                stack.append((child, after))
        # a vocabulary comes in another order in every process; sums of floats must not
        found.sort(key=lambda move: move[0])
        if state.accepted is not None:
            found += [(token, None) for token in self.end_ids]
        return self._tabulate(state, [token for token, _ in found], [after for _, after in found])

    def _tabulate(self, state: State, ids: list[int], states: list[State | None]) -> Moves:
        accepted = state.accepted or 0
        done = self._rows([accepted if after is None else after.done for after in states])
        could = self._rows([0 if after is None else after.could for after in states])
        without = self._rows([0 if after is None else after.without for after in states])
        undecided = self._rows([0 if after is None else after.undecided for after in states])
        ends = np.array([after is None for after in states], dtype=bool)
        return Moves(np.array(ids, dtype=np.int64), tuple(states), ends, done, could, without, undecided)

    def _rows(self, masks: list[int]) -> Floats:
        rows = self.language.rows
        return np.array([[mask >> row & 1 for row in range(rows)] for mask in masks], dtype=float).reshape(-1, rows)


def _trie(token_bytes: Mapping[int, bytes]) -> dict[int, Any]:
    """Nested dicts byte → node; key -1 holds the ids of the tokens that end at the node."""
    root: dict[int, Any] = {}
    for token, text in token_bytes.items():
        node = root
        for byte in text:
            node = node.setdefault(byte, {})
        node.setdefault(-1, []).append(token)
    return root


def check_ids(ids: Iterable[int], known: int | None, tokenizer: Any, where: str) -> None:
    """Raises ModelError for the first of `ids` that a model with so many `known` ids (None: any) does not have."""
    for token in ids:
        if known is not None and not 0 <= token < known:
            raise ModelError(
                f"{where} needs the token {tokenizer.convert_ids_to_tokens(token)!r} with id {token}, but the model's "
                f"ids are 0 to {known - 1}",
                hint="use the tokenizer files that were published with this model",
            )


def vocabulary_bytes(tokenizer: Any) -> dict[int, bytes]:
    """Token id → the bytes that it adds to a text, for the ordinary tokens of a Hugging Face tokenizer.

    Control tokens are left out. Reads byte-level vocabularies (GPT-2, Llama 3, Qwen) and SentencePiece ones (Llama 2,
    Gemma: `▁` for a space, `<0x0A>` for a byte); `decode([id])` would lose leading spaces and partial UTF-8."""
    control = set(tokenizer.all_special_ids)
    added = {}
    for token, content in tokenizer.added_tokens_decoder.items():
        if content.special:
            control.add(token)
        else:
            added[token] = content.content.encode()
    to_bytes = _byte_reader(tokenizer)
    found = {}
    for text, token in tokenizer.get_vocab().items():
        if token not in control:
            found[token] = added[token] if token in added else to_bytes(text)
    return found


def _byte_reader(tokenizer: Any) -> Any:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelError("the tokenizer is not a fast one", hint="use a model folder with tokenizer.json")
    description = json.dumps(json.loads(backend.to_str()).get("decoder") or {})
    if '"ByteLevel"' in description:
        alphabet = _byte_level_alphabet()
        return lambda text: bytes(alphabet[character] for character in text) if set(text) <= alphabet.keys() else b""
    return _sentencepiece_bytes


def _sentencepiece_bytes(text: str) -> bytes:
    if len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
        return bytes([int(text[3:5], 16)])
    return text.replace("▁", " ").encode()


def _byte_level_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-ins for bytes (Radford et al. 2019, `bytes_to_unicode`)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return {**{chr(byte): byte for byte in plain}, **{chr(256 + index): byte for index, byte in enumerate(others)}}

"""The answer language in a tokenizer's tokens: for each state the token ids that may follow, and the states after them.

It is computed by walking a trie of the vocabulary's bytes along the automaton, so every tokenisation of an answer is
included, not only the canonical one."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from marginalia.schemas.errors import ModelError
from marginalia.scoring.language.answer_language import FIRST_TOKEN, AnswerLanguage, State, Symbols

Floats = npt.NDArray[np.float64]
MOST_ENTRIES = 1 << 25  # tokens × rows in memory, each 4 numbers: 1 GB


@dataclass(frozen=True)
class Moves:
    """What may follow a state: one entry for each allowed token, those that end the answer included.

    ids: (n,) token ids, ascending, ending tokens last. states: the state after each, None after an ending token.
    ends: (n,) whether the token ends the answer. done, could, without, undecided: (n, rows) 0/1 matrices, the masks of
    the same name of each state; for an ending token `done` has the answer's rows and the others are 0."""

    ids: npt.NDArray[np.int64]
    states: tuple[State | None, ...]
    ends: npt.NDArray[np.bool_]
    done: Floats
    could: Floats
    without: Floats
    undecided: Floats

    @cached_property
    def open_rows(self) -> Floats:
        """(4, n, rows): `done`, `could`, `without` and `undecided` stacked."""
        return np.stack([self.done, self.could, self.without, self.undecided])


class TokenLanguage:
    """`language` over a vocabulary. `token_bytes`: ordinary token ids → their bytes; `special_ids`: special tokens'
    texts → their ids, at least of those that the language names; `end_ids` end an answer.

    `special_text`: id → text of the special tokens that the language names. `symbols`: token id → its symbols in the
    language, of ordinary tokens and these.
    `usable`: the ids of all tokens that consist only of symbols that answers contain. Raises ModelError without any end
    id."""

    def __init__(
        self,
        language: AnswerLanguage,
        token_bytes: Mapping[int, bytes],
        end_ids: Collection[int],
        special_ids: Mapping[str, int] | None = None,
    ) -> None:
        self.language = language
        self.end_ids = tuple(sorted(end_ids))
        self.token_bytes = token_bytes
        if not self.end_ids:
            raise ModelError("the model has no end-of-sequence token", hint="set eos_token_id in generation_config")
        self.special_text = {(special_ids or {})[text]: text.encode() for text in language.specials}
        special = {token: (FIRST_TOKEN + number,) for number, token in enumerate(self.special_text)}
        self.symbols: Mapping[int, Symbols] = {**token_bytes, **special} if special else token_bytes
        self._alphabet = sorted(language.symbols_used())
        alphabet, ends = set(self._alphabet), set(end_ids)
        self.usable = [id for id, text in self.symbols.items() if text and id not in ends and alphabet.issuperset(text)]
        self._trie = _trie({token: self.symbols[token] for token in self.usable})
        if len(self.usable) * language.rows > MOST_ENTRIES:
            raise ModelError(
                f"the guard's answers can contain {len(self.usable):,} tokens of this model and complete "
                f"{language.rows:,} rows; tables of tokens × rows may have {MOST_ENTRIES:,} entries",
                hint="use fewer labels, or fewer different characters in the guard file's 'answer'",
            )
        self._moves: dict[State, Moves] = {}
        self._entries = 0
        self._forced: dict[State, int | None] = {}
        self._completed_codes: dict[State, tuple[Floats, Floats]] = {}

    def moves(self, state: State) -> Moves:
        """The tokens that may follow the state."""
        if state not in self._moves:
            moves = self._find_moves(state)
            self._entries += moves.done.size
            if self._entries > MOST_ENTRIES:  # a guard with many choices has more states than fit into memory
                self._moves.clear()
                self._forced.clear()
                self._completed_codes.clear()
                self._entries = moves.done.size
            self._moves[state] = moves
        return self._moves[state]

    def completed_codes(self, state: State) -> tuple[Floats, Floats]:
        """(n, codes and verdict): 1 for what is complete after each of `moves`; (n, rows): 1 for the rows of which a
        code is not complete after it and still can be.

        These differ from `done` and `could` of the moves only where rows are unions of codes."""
        moves = self.moves(state)
        if state.of_codes is state:
            return moves.done, moves.could
        if state not in self._completed_codes:
            accepted = state.of_codes.accepted or 0
            after = [None if new is None else new.of_codes for new in moves.states]
            done = _bits([accepted if new is None else new.done for new in after], self.language.code_rows)
            could = _bits([0 if new is None else new.could for new in after], self.language.code_rows)
            self._completed_codes[state] = done, self.language.rows_of_codes(could)
        return self._completed_codes[state]

    def forced(self, state: State) -> int | None:
        """The index of the move that a tokenizer would make where the language leaves no choice of the next text.

        It is the longest token that this text starts with. None where there is a choice, or no such token."""
        if state not in self._forced:
            self._forced[state] = self._find_forced(state)
        return self._forced[state]

    def _find_forced(self, state: State) -> int | None:
        text, current = list[int](), state
        while current.accepted is None:
            after = [(symbol, new) for symbol in self._alphabet if (new := current.step(symbol)) is not None]
            if len(after) != 1:
                break
            (symbol, current) = after[0]
            text.append(symbol)
        if not text:
            return None
        tokens = [self.symbols[token] for token in self.moves(state).ids.tolist()]
        lengths = [len(token) if text[: len(token)] == list(token) else 0 for token in tokens]
        return int(np.argmax(lengths)) if any(lengths) else None

    def text(self, ids: Sequence[int]) -> bytes:
        """The bytes of a generated answer, for people. Special tokens that the language names are shown as their text;
        where ordinary tokens spell this text out, it has a backslash before it. Other control tokens add nothing."""
        parts = [b""]
        for token in ids:
            if token in self.special_text:
                parts += [self.special_text[token], b""]
            else:
                parts[-1] += self.token_bytes.get(token, b"")
        for special in sorted(self.special_text.values(), key=len, reverse=True):
            parts[::2] = [part.replace(special, b"\\" + special) for part in parts[::2]]
        return b"".join(parts)

    def _find_moves(self, state: State) -> Moves:
        moves: list[tuple[int, State | None]] = []
        stack: list[tuple[dict[int, Any], State]] = [(self._trie, state)]
        while stack:
            node, before = stack.pop()
            for symbol, child in node.items():
                if symbol < 0:
                    continue
                after = before.step(symbol)
                if after is None:
                    continue
                moves += [(token, after) for token in child.get(-1, ())]
                stack.append((child, after))
        # a vocabulary has another order in each process; sums of floats must not depend on it
        moves.sort(key=lambda move: move[0])
        if state.accepted is not None:
            moves += [(token, None) for token in self.end_ids]
        return self._tabulate(state, [token for token, _ in moves], [after for _, after in moves])

    def _tabulate(self, state: State, ids: list[int], states: list[State | None]) -> Moves:
        accepted = state.accepted or 0
        rows = self.language.rows
        done = _bits([accepted if after is None else after.done for after in states], rows)
        could = _bits([0 if after is None else after.could for after in states], rows)
        without = _bits([0 if after is None else after.without for after in states], rows)
        undecided = _bits([0 if after is None else after.undecided for after in states], rows)
        ends = np.array([after is None for after in states], dtype=bool)
        return Moves(np.array(ids, dtype=np.int64), tuple(states), ends, done, could, without, undecided)


def _bits(masks: list[int], rows: int) -> Floats:
    """(n, rows): the masks as 0/1 rows."""
    return np.array([[mask >> row & 1 for row in range(rows)] for mask in masks], dtype=float).reshape(-1, rows)


def _trie(symbols: Mapping[int, Symbols]) -> dict[int, Any]:
    """Nested dicts symbol → node; key −1 has the ids of the tokens that end at the node."""
    root: dict[int, Any] = {}
    for token, text in symbols.items():
        node = root
        for symbol in text:
            node = node.setdefault(symbol, {})
        node.setdefault(-1, []).append(token)
    return root


def check_ids(ids: Iterable[int], known: int | None, tokenizer: Any, where: str) -> None:
    """Raises ModelError for the first of `ids` that a model with `known` ids (None: unknown) does not have.

    `where` is the subject of the message: what needs the token."""
    for token in ids:
        if known is not None and not 0 <= token < known:
            raise ModelError(
                f"{where} needs the token {tokenizer.convert_ids_to_tokens(token)!r} with id {token}, but the model's "
                f"ids are 0 to {known - 1}",
                hint="use the tokenizer files that were published with this model",
            )


def vocabulary_bytes(tokenizer: Any) -> dict[int, bytes]:
    """Token id → the bytes that it adds to a text, for the ordinary tokens of a Hugging Face tokenizer.

    Control tokens (`special_tokens`) are left out. Reads byte-level vocabularies (GPT-2, Llama 3, Qwen) and
    SentencePiece ones (Llama 2, Gemma: `▁` is a space, `<0x0A>` a byte). `decode([id])` is not used: it loses leading
    spaces and partial UTF-8. Raises ModelError for tokenizers without a tokenizer.json."""
    control = set(special_tokens(tokenizer).values())
    added = {
        token: content.content.encode()
        for token, content in tokenizer.added_tokens_decoder.items()
        if token not in control
    }
    to_bytes = _byte_reader(tokenizer)
    return {
        token: added[token] if token in added else to_bytes(text)
        for text, token in tokenizer.get_vocab().items()
        if token not in control
    }


def special_tokens(tokenizer: Any) -> dict[str, int]:
    """Text → id of a Hugging Face tokenizer's special (control) tokens. Added tokens that are not special, such as
    Qwen's `<think>`, are ordinary text."""
    ids = set(tokenizer.all_special_ids)
    ids |= {token for token, content in tokenizer.added_tokens_decoder.items() if content.special}
    return dict(zip(tokenizer.convert_ids_to_tokens(sorted(ids)), sorted(ids), strict=True))


def _byte_reader(tokenizer: Any) -> Any:
    """A function from a vocabulary entry to its bytes, for the tokenizer's kind of vocabulary."""
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
    """Printable character → byte, as GPT-2 writes bytes (Radford et al. 2019, `bytes_to_unicode`)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return {**{chr(byte): byte for byte in plain}, **{chr(256 + index): byte for index, byte in enumerate(others)}}

"""A model without weights: next-token probabilities are drawn from a hash of the prefix, over known vocabularies."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from marginalia.scoring.marginal.answer_search import NextTokens, Node
from marginalia.scoring.marginal.model_protocol import NextMoves

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer, the bytes of each ordinary token as it was built, the ids that end an answer, and the texts of
    further special tokens."""

    tokenizer: PreTrainedTokenizerFast
    texts: dict[int, bytes]
    ends: tuple[int, ...]
    specials: dict[int, str] = field(default_factory=dict)


@cache
def byte_level(
    merges: tuple[tuple[str, str], ...] = (), added: tuple[str, ...] = (), special: tuple[str, ...] = ()
) -> Vocabulary:
    """All bytes, merges of them, added tokens that are not special, two end tokens, and other special tokens."""
    letters = _letters()
    vocabulary = {letter: byte for byte, letter in enumerate(letters)}
    texts = {byte: bytes([byte]) for byte in range(256)}
    pairs = []
    for left, right in merges:
        pair = "".join(letters[byte] for byte in left.encode()), "".join(letters[byte] for byte in right.encode())
        if pair[0] + pair[1] not in vocabulary:
            vocabulary[pair[0] + pair[1]] = len(vocabulary)
            texts[len(texts)] = (left + right).encode()
        pairs.append(pair)
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(text, special=True) for text in ("<|end|>", "<|stop|>")])
    backend.add_tokens([AddedToken(text, special=False, normalized=False) for text in added])
    backend.add_special_tokens([AddedToken(text, special=True) for text in special])
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>")
    texts |= {fast.convert_tokens_to_ids(text): text.encode() for text in added}
    specials = {fast.convert_tokens_to_ids(text): text for text in special}
    return Vocabulary(fast, texts, tuple(fast.convert_tokens_to_ids(["<|end|>", "<|stop|>"])), specials)


@cache
def sentencepiece(pieces: tuple[str, ...] = ()) -> Vocabulary:
    """As Llama 2's: a mark for spaces, and a token for every byte as well, so that two tokens can have the same
    text."""
    vocabulary, texts = {"<unk>": 0, "<s>": 1, "</s>": 2}, {}
    for byte in range(256):
        texts[len(vocabulary)] = bytes([byte])
        vocabulary[f"<0x{byte:02X}>"] = len(vocabulary)
    merges = []
    for text in [*sorted({letter for piece in pieces for letter in piece}), *pieces]:
        marked = text.replace(" ", "▁")
        for stop in range(1, len(marked) + 1):
            if marked[:stop] not in vocabulary:
                texts[len(vocabulary)] = text[:stop].encode()
                vocabulary[marked[:stop]] = len(vocabulary)
        merges += [(marked[:stop], marked[stop]) for stop in range(1, len(marked))]
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True, unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence(steps)
    backend.add_special_tokens([AddedToken(text, special=True) for text in ("<unk>", "<s>", "</s>")])
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    return Vocabulary(fast, texts, (fast.eos_token_id,))


def _letters() -> list[str]:
    """The letter that byte-level BPE writes for each byte."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in shown else chr(next(others)) for byte in range(256)]


@dataclass
class HashedModel:
    """`favoured`: the bytes that answers consist of. Tokens of only these bytes, and special ones, get `favour` nats
    more.

    `spread`: the standard deviation of the logits."""

    vocabulary: Vocabulary
    seed: int
    favoured: frozenset[int]
    favour: float = 4.0
    spread: float = 2.0
    known: dict[tuple[int, ...], Floats] = field(default_factory=dict)

    context = 10_000
    name = revision = "hashed"
    notes: tuple[str, ...] = ()
    context_reason = ""
    token_ids = None

    @property
    def tokenizer(self) -> Any:
        return self.vocabulary.tokenizer

    @property
    def end_ids(self) -> tuple[int, ...]:
        return self.vocabulary.ends

    @property
    def identity(self) -> list[str]:
        return [self.name, str(self.seed)]

    def log_probabilities(self, path: Sequence[int]) -> Floats:
        """(vocabulary,): of every next token after this start of an answer, in nats."""
        key = tuple(path)
        if key not in self.known:
            digest = hashlib.sha256(repr((self.seed, key)).encode()).digest()
            drawn = np.random.default_rng(int.from_bytes(digest[:8], "big")).normal(size=len(self.tokenizer))
            values = self.spread * drawn + self.favour * self._favours
            values -= values.max()
            self.known[key] = values - np.log(np.exp(values).sum())
        return self.known[key]

    @property
    def _favours(self) -> Floats:
        mask = np.zeros(len(self.tokenizer))
        mask[[token for token, text in self.vocabulary.texts.items() if self.favoured.issuperset(text)]] = 1
        mask[[*self.end_ids, *self.vocabulary.specials]] = 1
        return mask

    def source(self) -> _Source:
        return _Source(self)


@dataclass
class _Source:
    model: HashedModel
    shared_tokens = 0
    min_records = 1
    batch_invariant = True

    def add_shared_start(self, ids: Sequence[int]) -> None:
        pass

    def open(self, batch_rows: int, longest: int, tokens: NextMoves) -> _Batch:
        return _Batch(self.model, tokens)


@dataclass
class _Batch:
    model: HashedModel
    tokens: NextMoves

    def join(self, batch_row: int, prompt: list[int], *, continues: bool = False) -> None:
        pass

    def next_tokens(self, nodes: Sequence[tuple[int, Node]]) -> list[NextTokens]:
        result = []
        for _, node in nodes:
            values = self.model.log_probabilities(node.path())
            allowed = values[self.tokens.moves(node.state).ids] if node.state is not None else values[:0]
            top = int(values.argmax())
            result.append(NextTokens(allowed, top, float(values[top])))
        return result

"""Measures of diversity of a set of texts: distinct-n, self-BLEU, spread of embeddings, label balance, lengths."""

from __future__ import annotations

import math
import random
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import polars as pl

from marginalia.pipeline.generation.acceptance.semantic_duplicates import Embed, Vectors
from marginalia.schemas.generation_json import Diversity, Lengths
from marginalia.schemas.text_equality import MARKS

_SAMPLE = 300  # texts for self-BLEU and the spread: the time of self-BLEU grows with the square of their number
_ORDER = 4  # of BLEU's longest n-grams
_BLOCK = 5000  # texts that are read at once
# a word, or one letter of a script without spaces: Chinese, Japanese, Thai, Lao, Khmer, Burmese
_LETTERS = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_TOKEN = re.compile(rf"[{_LETTERS}][{MARKS}]*|(?:[^\W{_LETTERS}]|[{MARKS}])+")
Tokens = Sequence[str]


def tokens(text: str) -> list[str]:
    """The words in lower case; in scripts without spaces between words, the letters."""
    return _TOKEN.findall(text.casefold())


class Words:
    """Texts as sequences of word numbers, with 4 bytes per word."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._words, self._lengths = array("i"), array("i")

    def add(self, words: Tokens) -> None:
        """Adds a text."""
        numbers = self._numbers
        self._words.extend([numbers.setdefault(word, len(numbers)) for word in words])
        self._lengths.append(len(words))

    def distinct(self, n: int) -> float | None:
        """distinct-n (Li et al. 2016): different n-grams divided by all n-grams; None when there are none."""
        words = np.array(self._words, dtype=np.int64)
        text = np.repeat(np.arange(len(self._lengths), dtype=np.int32), self._lengths)
        starts = max(0, len(words) - n + 1)
        within = text[:starts] == text[n - 1 :]
        grams = words[:starts]
        for further in range(1, n):
            if (int(grams.max(initial=0)) + 1) * len(self._numbers) >= 2**63:
                grams = np.unique(grams, return_inverse=True)[1]
            grams = grams * len(self._numbers) + words[further : starts + further]
        grams = np.sort(grams[within])
        return (1 + int((grams[1:] != grams[:-1]).sum())) / len(grams) if len(grams) else None


def distinct(texts: Iterable[Tokens], n: int) -> float | None:
    """distinct-n of these texts; see `Words.distinct`."""
    words = Words()
    for text in texts:
        words.add(text)
    return words.distinct(n)


def self_bleu(texts: Sequence[Tokens]) -> float | None:
    """Mean BLEU-4 in [0, 1] of each text with all others as its references; None for fewer than two texts.

    Papineni et al. 2002 with the brevity penalty of the closest reference; a precision of zero matches counts as
    1 / (2 × the text's n-grams) (method 1 of Chen & Cherry 2014 with epsilon 1/2); n-grams longer than the text are
    left out."""
    scored = [text for text in texts if text]
    if len(scored) < 2:
        return None
    # an n-gram's highest count in the other texts: the highest of all, or the second where the text itself has that
    counts = [[Counter(_grams(text, n)) for n in range(1, _ORDER + 1)] for text in scored]
    highest: list[dict[tuple[str, ...], tuple[int, int, int]]] = [{} for _ in range(_ORDER)]
    for index, by_order in enumerate(counts):
        for best, grams in zip(highest, by_order, strict=True):
            for gram, count in grams.items():
                first, owner, second = best.get(gram, (0, -1, 0))
                best[gram] = (count, index, first) if count > first else (first, owner, max(second, count))
    lengths = sorted(len(text) for text in scored)
    values = [_bleu(index, by_order, highest, lengths) for index, by_order in enumerate(counts)]
    return sum(values) / len(values)


def _bleu(
    index: int,
    by_order: list[Counter[tuple[str, ...]]],
    highest: list[dict[tuple[str, ...], tuple[int, int, int]]],
    lengths: list[int],
) -> float:
    logs = []
    for best, grams in zip(highest, by_order, strict=True):
        total = sum(grams.values())
        if not total:
            continue
        matched = 0
        for gram, count in grams.items():
            first, owner, second = best[gram]
            matched += min(count, second if owner == index else first)
        logs.append(math.log(matched / total if matched else 0.5 / total))
    own = sum(by_order[0].values())
    others = lengths.copy()
    others.remove(own)
    closest = min(others, key=lambda length: (abs(length - own), length))
    penalty = min(0.0, 1 - closest / own)
    return math.exp(penalty + sum(logs) / len(logs))


def balance(counts: Iterable[int]) -> float | None:
    """Normalized entropy in [0, 1]: the entropy of the shares divided by its maximum; None for fewer than two counts,
    or when all are 0."""
    numbers = list(counts)
    total = sum(numbers)
    if len(numbers) < 2 or not total:
        return None
    entropy = -sum(n / total * math.log(n / total) for n in numbers if n)
    return entropy / math.log(len(numbers))


def spread(vectors: Vectors) -> float | None:
    """Mean cosine distance between two different texts, in [0, 2]; None for fewer than two. `vectors`: (texts,
    dimensions), each of length 1."""
    n = len(vectors)
    if n < 2:
        return None
    # the squared length of the sum is the sum of the cosines of all ordered pairs, including each text with itself
    total = float((vectors.astype(np.float64).sum(axis=0) ** 2).sum())
    return 1 - (total - n) / (n * (n - 1))


def diversity(prompts: pl.LazyFrame, writable: list[str], seed: int, *, embed: Embed | None = None) -> list[Diversity]:
    """One entry per generator of `prompts` (PromptRecord), the one with the most texts first. `writable` are the labels
    that texts can be planned with. The spread needs `embed`."""
    rows = prompts.select("generator", "messages", "intended_labels")
    sizes = Counter(rows.select("generator").collect()["generator"])
    measured = {generator: _GeneratorTexts(size, seed) for generator, size in sizes.items()}
    for start in range(0, sizes.total(), _BLOCK):
        for generator, messages, labels in rows.slice(start, _BLOCK).collect().iter_rows():
            measured[generator].add(_text(messages), labels)
    entries = [texts.summary(generator, writable, embed) for generator, texts in measured.items()]
    return sorted(entries, key=lambda entry: (-entry.texts, entry.generator))


class _GeneratorTexts:
    """What the measures need of the texts of one generator."""

    def __init__(self, texts: int, seed: int) -> None:
        order = random.Random(f"{seed}:self-bleu").sample(range(texts), min(_SAMPLE, texts))
        self._sample = dict.fromkeys(order, "")
        self._words = Words()
        self._characters = array("i")
        self._intended: Counter[str] = Counter()  # labels
        self._without_label = 0

    def add(self, text: str, labels: list[str]) -> None:
        if len(self._characters) in self._sample:
            self._sample[len(self._characters)] = text
        self._words.add(tokens(text))
        self._characters.append(len(text))
        self._intended.update(labels)
        self._without_label += not labels

    def summary(self, generator: str, writable: list[str], embed: Embed | None) -> Diversity:
        intended = self._intended
        counts = {label: intended.get(label, 0) for label in [*writable, *sorted(intended.keys() - set(writable))]}
        sample = list(self._sample.values())
        characters = np.array(self._characters, dtype=float)
        low, middle, high = (round(float(quantile), 1) for quantile in np.quantile(characters, [0.1, 0.5, 0.9]))
        return Diversity(
            generator=generator,
            texts=len(characters),
            distinct_1=_rounded(self._words.distinct(1)),
            distinct_2=_rounded(self._words.distinct(2)),
            distinct_3=_rounded(self._words.distinct(3)),
            self_bleu=_rounded(self_bleu([tokens(text) for text in sample])),
            self_bleu_texts=len(sample),
            embedding_spread=_rounded(spread(embed(sample))) if embed is not None else None,
            lengths=Lengths(mean=round(float(characters.mean()), 1), p10=low, median=middle, p90=high),
            labels=counts,
            without_label=self._without_label,
            label_balance=_rounded(balance(counts.values())),
        )


def _text(messages: list[dict[str, Any]]) -> str:
    return "\n".join(message["content"] for message in messages)


def _grams(text: Tokens, n: int) -> Iterable[tuple[str, ...]]:
    return zip(*(text[start:] for start in range(n)), strict=False)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)

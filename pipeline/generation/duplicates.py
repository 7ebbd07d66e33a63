"""Exact and near duplicates among accepted texts, and copies of examples."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from datasketch import MinHash, MinHashLSH

_SHINGLE = 5
_PERMUTATIONS = 64
_WORD = re.compile(r"\w+")


class Seen:
    """Texts that were taken, by MinHash of their character 5-grams; every candidate is checked by its true Jaccard.

    `threshold` in (0, 1] is the similarity from which two texts count as the same."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        # candidates are looked for a little below the threshold: the sketch is only an estimate
        self._index = MinHashLSH(threshold=max(0.05, threshold - 0.15), num_perm=_PERMUTATIONS)
        self._texts: dict[str, str] = {}
        self._exact: dict[str, str] = {}

    def add(self, name: str, text: str) -> None:
        """Remembers `text` under a name that was not used before."""
        folded = fold(text)
        self._texts[name] = folded
        self._exact.setdefault(folded, name)
        self._index.insert(name, _sketch(folded))

    def find(self, text: str) -> tuple[str, float] | None:
        """The most similar text's name and similarity, when that reaches the threshold."""
        folded = fold(text)
        if folded in self._exact:
            return self._exact[folded], 1.0
        own = shingles(folded)
        near = [(jaccard(own, shingles(self._texts[name])), name) for name in self._index.query(_sketch(folded))]
        # the smallest name among equals, for the index has no order
        best = min(near, key=lambda pair: (-pair[0], pair[1]), default=None)
        return (best[1], best[0]) if best is not None and best[0] >= self._threshold else None


def fold(text: str) -> str:
    """Words only, in small letters: what does not make a text another one is taken away."""
    return " ".join(_WORD.findall(text.casefold()))


def shingles(folded: str) -> set[str]:
    """Character 5-grams; a shorter text is one shingle."""
    return {folded[start : start + _SHINGLE] for start in range(max(1, len(folded) - _SHINGLE + 1))}


def jaccard(first: set[str], second: set[str]) -> float:
    """|A ∩ B| / |A ∪ B|."""
    return len(first & second) / len(first | second)


def holds(text: str, example: str, threshold: float) -> bool:
    """Whether at least `threshold` of the example's 5-grams stand in the text."""
    inner = shingles(fold(example))
    return len(inner & shingles(fold(text))) / len(inner) >= threshold


@lru_cache(maxsize=4)  # a text is looked for among examples, then among accepted ones, then added
def _sketch(folded: str) -> Any:
    sketch = MinHash(num_perm=_PERMUTATIONS, seed=1)
    sketch.update_batch([shingle.encode("utf-8", "surrogatepass") for shingle in shingles(folded)])
    return sketch


def distinct_words(texts: list[str], n: int) -> float:
    """distinct-n: different word n-grams over all word n-grams, in [0, 1]; 0 when there are none (Li et al. 2016)."""
    grams = [tuple(words[start : start + n]) for words in map(_WORD.findall, map(str.casefold, texts))
             for start in range(len(words) - n + 1)]  # fmt: skip
    return len(set(grams)) / len(grams) if grams else 0.0

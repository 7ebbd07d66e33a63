"""Exact and near duplicates among accepted texts, and copies of examples."""

from __future__ import annotations

import re
from functools import lru_cache
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

_SHINGLE = 5
_PERMUTATIONS = 64
_RECALL = 0.85  # of pairs whose similarity is exactly the threshold; of more similar pairs nearly all are found
_WORD = re.compile(r"\w+")
_RANDOM = np.random.default_rng(1)
_FACTORS = _RANDOM.integers(1, 2**64, size=_SHINGLE, dtype=np.uint64) | np.uint64(1)
_MULTIPLY = _RANDOM.integers(1, 2**64, size=(_PERMUTATIONS, 1), dtype=np.uint64) | np.uint64(1)
_ADD = _RANDOM.integers(0, 2**64, size=(_PERMUTATIONS, 1), dtype=np.uint64)
_MIX = _RANDOM.integers(1, 2**64, size=_PERMUTATIONS, dtype=np.uint64) | np.uint64(1)
_HIGH_HALF = np.uint64(32)


class Seen:
    """Texts that were taken, found again by MinHash of their character 5-grams in bands (Broder 1997; Leskovec et al.,
    Mining of Massive Datasets, 3.4); every candidate is checked by its true Jaccard similarity.

    `threshold` in (0, 1] is the similarity from which two texts count as the same."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._rows = _rows(threshold)
        self._names: list[str] = []
        self._texts: list[str] = []
        self._exact: dict[str, int] = {}
        # a band's hash → the place of the one text that has it (nearly always), or of several
        self._bands: dict[int, int | list[int]] = {}

    def add(self, name: str, text: str) -> None:
        """Remembers `text` under a name that was not used before."""
        folded, place = fold(text), len(self._names)
        self._names.append(name)
        self._texts.append(folded)
        self._exact.setdefault(folded, place)
        for band in _bands(folded, self._rows):
            others = self._bands.setdefault(band, place)
            if isinstance(others, list):
                others.append(place)
            elif others != place:
                self._bands[band] = [others, place]

    def find(self, text: str) -> tuple[str, float] | None:
        """The most similar text's name and similarity, when that reaches the threshold."""
        folded = fold(text)
        if folded in self._exact:
            return self._names[self._exact[folded]], 1.0
        near: set[int] = set()
        for band in _bands(folded, self._rows):
            others = self._bands.get(band, [])
            near.update(others if isinstance(others, list) else [others])
        if not near:
            return None
        own = shingles(folded)
        found = [(jaccard(own, shingles(self._texts[place])), self._names[place]) for place in near]
        similarity, name = min(found, key=lambda pair: (-pair[0], pair[1]))  # of equals the smallest name
        return (name, similarity) if similarity >= self._threshold else None


@lru_cache(maxsize=4)  # a text is folded for each list that it is looked for in
def fold(text: str) -> str:
    """Words only, in small letters: what does not make a text another one is taken away."""
    return " ".join(_WORD.findall(text.casefold() if text.isascii() else normalize("NFKC", text).casefold()))


def shingles(folded: str) -> frozenset[str]:
    """Character 5-grams; a shorter text is one shingle."""
    return frozenset(folded[start : start + _SHINGLE] for start in range(max(1, len(folded) - _SHINGLE + 1)))


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    """|A ∩ B| / |A ∪ B|."""
    shared = len(first & second)
    return shared / (len(first) + len(second) - shared)


def holds(text: str, example: str, threshold: float) -> bool:
    """Whether at least `threshold` of the example's 5-grams stand in the text."""
    inner, folded = _folded_shingles(example), fold(text)
    missing = int(len(inner) * (1 - threshold) + 1e-9)
    for shingle in inner:
        if shingle not in folded:
            missing -= 1
            if missing < 0:  # at once with nearly every text
                return False
    return True


@lru_cache(maxsize=512)  # the same examples stand in many prompts
def _folded_shingles(example: str) -> frozenset[str]:
    return shingles(fold(example))


def _rows(threshold: float) -> int:
    """Values a band: as many (for few false candidates) as find _RECALL of the pairs at the threshold."""
    fitting = [
        rows for rows in range(1, 17) if 1 - (1 - threshold**rows) ** (_PERMUTATIONS // rows) >= _RECALL
    ]  # fmt: skip
    return max(fitting, default=1)


@lru_cache(maxsize=4)  # a text is looked for among examples, then among accepted ones, then added
def _bands(folded: str, rows: int) -> list[int]:
    """One 64-bit hash a band of `rows` MinHash values; equal texts have equal ones."""
    codes = np.frombuffer(folded.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64)
    if len(codes) < _SHINGLE:
        codes = np.concatenate([codes, np.zeros(_SHINGLE - len(codes), dtype=np.uint64)])
    hashed = np.lib.stride_tricks.sliding_window_view(codes + np.uint64(1), _SHINGLE) @ _FACTORS
    sketch: NDArray[np.uint64] = ((_MULTIPLY * hashed + _ADD) >> _HIGH_HALF).min(axis=1)
    count = _PERMUTATIONS // rows
    mixed = (sketch[: count * rows] * _MIX[: count * rows]).reshape(count, rows).sum(axis=1, dtype=np.uint64)
    bands: list[int] = (mixed + np.arange(count, dtype=np.uint64)).tolist()
    return bands

"""Exact and near duplicates among accepted texts, and copies of examples."""

from __future__ import annotations

from array import array
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from marginalia.pipeline.generation.acceptance.minhash_bands import MinHashBands
from marginalia.pipeline.generation.languages import wide
from marginalia.schemas.storage.temporary_rows import TemporaryRows
from marginalia.schemas.text_equality import fold

_SHINGLE = 5
_PERMUTATIONS = 64
_RECALL = 0.85  # of pairs whose similarity is exactly the threshold; of more similar pairs nearly all are found
_DENSE = 3  # characters a shingle of Chinese, Japanese and Korean, of which one says about as much as two Latin ones
_RANDOM = np.random.default_rng(1)
_FACTORS = _RANDOM.integers(1, 2**64, size=_SHINGLE, dtype=np.uint64) | np.uint64(1)
_MULTIPLY = _RANDOM.integers(1, 2**64, size=(_PERMUTATIONS, 1), dtype=np.uint64) | np.uint64(1)
_ADD = _RANDOM.integers(0, 2**64, size=(_PERMUTATIONS, 1), dtype=np.uint64)
_MIX = _RANDOM.integers(1, 2**64, size=_PERMUTATIONS, dtype=np.uint64) | np.uint64(1)
_HIGH_HALF = np.uint64(32)


class TextDuplicates:
    """Texts that were taken, found again by MinHash of their character 5-grams in bands (Broder 1997; Leskovec et al.,
    Mining of Massive Datasets, 3.4); every candidate is checked by its true Jaccard similarity.

    `threshold` in (0, 1] is the similarity from which two texts count as the same. About `room` texts are expected: a
    text takes some 300 bytes of memory, the texts themselves lie in `spill`."""

    def __init__(self, threshold: float, *, room: int = 64, spill: TemporaryRows | None = None) -> None:
        self._threshold = threshold
        self._rows = _rows(threshold)
        self._spill = spill or TemporaryRows()
        self._places = array("q")  # of the texts in the spill
        self._bands = MinHashBands(_PERMUTATIONS // self._rows, room)

    def add(self, name: str, text: str) -> None:
        """Remembers `text` under a name that was not used before."""
        folded = fold(text)
        self._places.append(self._spill.add(f"{name}\0{folded}".encode("utf-8", "surrogatepass")))
        self._bands.add(_bands(folded, self._rows))

    def find(self, text: str) -> tuple[str, float] | None:
        """The most similar text's name and similarity, when that reaches the threshold."""
        folded = fold(text)
        near = [self._read(number) for number in sorted(self._bands.find(_bands(folded, self._rows)))]
        same = next((name for name, other in near if other == folded), None)
        if same is not None:
            return same, 1.0
        if not near:
            return None
        own = shingles(folded)
        found = [(jaccard(own, shingles(other)), name) for name, other in near]
        similarity, name = min(found, key=lambda pair: (-pair[0], pair[1]))  # of equals the smallest name
        return (name, similarity) if similarity >= self._threshold else None

    def _read(self, number: int) -> tuple[str, str]:
        name, _, folded = self._spill.read(self._places[number]).decode("utf-8", "surrogatepass").partition("\0")
        return name, folded


def shingles(folded: str) -> frozenset[str]:
    """Character 5-grams, of Chinese, Japanese and Korean 3-grams; a shorter text is one shingle."""
    size = _size(folded)
    return frozenset(folded[start : start + size] for start in range(max(1, len(folded) - size + 1)))


def _size(folded: str) -> int:
    return _SHINGLE if folded.isascii() or 2 * wide(folded) < len(folded) else _DENSE


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
    size = _size(folded)
    if len(codes) < size:
        codes = np.concatenate([codes, np.zeros(size - len(codes), dtype=np.uint64)])
    codes += np.uint64(1)
    many = len(codes) - size + 1
    hashed = codes[:many] * _FACTORS[0]
    for place in range(1, size):
        hashed += codes[place : place + many] * _FACTORS[place]
    permuted = _MULTIPLY * hashed
    permuted += _ADD
    sketch: NDArray[np.uint64] = permuted.min(axis=1) >> _HIGH_HALF  # the least has the least high half, too
    count = _PERMUTATIONS // rows
    mixed = (sketch[: count * rows] * _MIX[: count * rows]).reshape(count, rows).sum(axis=1, dtype=np.uint64)
    bands: list[int] = (mixed + np.arange(count, dtype=np.uint64)).tolist()
    return bands

"""Exact and near duplicates by wording: among accepted texts, and of examples."""

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
_RECALL = 0.85  # for pairs whose similarity is exactly the threshold; of more similar pairs nearly all are found
_DENSE = 3  # characters per shingle of Chinese, Japanese and Korean: one says about as much as two Latin letters
_RANDOM = np.random.default_rng(1)
_FACTORS = _RANDOM.integers(1, 2**64, size=_SHINGLE, dtype=np.uint64) | np.uint64(1)
_MULTIPLY = _RANDOM.integers(1, 2**64, size=(_PERMUTATIONS, 1), dtype=np.uint64) | np.uint64(1)
_ADD = _RANDOM.integers(0, 2**64, size=(_PERMUTATIONS, 1), dtype=np.uint64)
_MIX = _RANDOM.integers(1, 2**64, size=_PERMUTATIONS, dtype=np.uint64) | np.uint64(1)
_HIGH_HALF = np.uint64(32)


class TextDuplicates:
    """Finds earlier texts with nearly the same wording, by MinHash of their character 5-grams in bands (Broder 1997;
    Leskovec et al., Mining of Massive Datasets, 3.4). The exact Jaccard similarity of every candidate is computed.

    `threshold` in (0, 1] is the similarity from which two texts count as the same. `expected_texts` is the approximate
    number of texts. A text takes about 300 bytes of memory; the texts themselves are in `temporary_rows`."""

    def __init__(
        self, threshold: float, *, expected_texts: int = 64, temporary_rows: TemporaryRows | None = None
    ) -> None:
        self._threshold = threshold
        self._rows = _rows(threshold)
        self._texts = temporary_rows or TemporaryRows()
        self._offsets = array("q")  # of each text in the temporary rows
        self._bands = MinHashBands(_PERMUTATIONS // self._rows, expected_texts)

    def add(self, name: str, text: str) -> None:
        """Adds a text under a name that was not used before."""
        folded = fold(text)
        self._offsets.append(self._texts.add(f"{name}\0{folded}".encode("utf-8", "surrogatepass")))
        self._bands.add(_bands(folded, self._rows))

    def find(self, text: str) -> tuple[str, float] | None:
        """The most similar text's name and similarity, when that reaches the threshold."""
        folded = fold(text)
        candidates = [self._read(number) for number in sorted(self._bands.find(_bands(folded, self._rows)))]
        same = next((name for name, other in candidates if other == folded), None)
        if same is not None:
            return same, 1.0
        if not candidates:
            return None
        own = shingles(folded)
        similarities = [(jaccard(own, shingles(other)), name) for name, other in candidates]
        similarity, name = min(similarities, key=lambda pair: (-pair[0], pair[1]))  # of equals the smallest name
        return (name, similarity) if similarity >= self._threshold else None

    def _read(self, number: int) -> tuple[str, str]:
        name, _, folded = self._texts.read(self._offsets[number]).decode("utf-8", "surrogatepass").partition("\0")
        return name, folded


def shingles(folded: str) -> frozenset[str]:
    """The character 5-grams of a folded text (3-grams for Chinese, Japanese and Korean); a shorter text is one
    shingle."""
    size = _size(folded)
    return frozenset(folded[start : start + size] for start in range(max(1, len(folded) - size + 1)))


def _size(folded: str) -> int:
    return _SHINGLE if folded.isascii() or 2 * wide(folded) < len(folded) else _DENSE


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    """|A ∩ B| / |A ∪ B|."""
    shared = len(first & second)
    return shared / (len(first) + len(second) - shared)


def contains_most_of(text: str, example: str, threshold: float) -> bool:
    """Whether the text contains at least the share `threshold` of the example's 5-grams."""
    inner, folded = _folded_shingles(example), fold(text)
    missing = int(len(inner) * (1 - threshold) + 1e-9)
    for shingle in inner:
        if shingle not in folded:
            missing -= 1
            if missing < 0:  # for nearly every text, after a few shingles
                return False
    return True


@lru_cache(maxsize=512)  # the same examples are in many prompts
def _folded_shingles(example: str) -> frozenset[str]:
    return shingles(fold(example))


def _rows(threshold: float) -> int:
    """Values per band: the most, for few false candidates, that still find _RECALL of the pairs at the threshold."""
    fitting = [
        rows for rows in range(1, 17) if 1 - (1 - threshold**rows) ** (_PERMUTATIONS // rows) >= _RECALL
    ]  # fmt: skip
    return max(fitting, default=1)


@lru_cache(maxsize=4)  # a text is searched for among examples, then among accepted texts, then added
def _bands(folded: str, rows: int) -> list[int]:
    """One 64-bit hash per band of `rows` MinHash values. Equal texts have equal hashes."""
    codes = np.frombuffer(folded.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64)
    size = _size(folded)
    if len(codes) < size:
        codes = np.concatenate([codes, np.zeros(size - len(codes), dtype=np.uint64)])
    codes += np.uint64(1)
    shingle_count = len(codes) - size + 1
    hashed = codes[:shingle_count] * _FACTORS[0]
    for offset in range(1, size):
        hashed += codes[offset : offset + shingle_count] * _FACTORS[offset]
    permuted = _MULTIPLY * hashed
    permuted += _ADD
    sketch: NDArray[np.uint64] = permuted.min(axis=1) >> _HIGH_HALF  # the minimum also has the smallest high half
    band_count = _PERMUTATIONS // rows
    used = band_count * rows
    mixed = (sketch[:used] * _MIX[:used]).reshape(band_count, rows).sum(axis=1, dtype=np.uint64)
    bands: list[int] = (mixed + np.arange(band_count, dtype=np.uint64)).tolist()
    return bands

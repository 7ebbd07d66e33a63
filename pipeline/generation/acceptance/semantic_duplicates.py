"""Near duplicates by meaning: texts whose embeddings point the same way, found again among those that were taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

_BLOCK = 8192  # vectors: the matrix grows by blocks, so that growing copies nothing

Vectors = NDArray[np.float32]
Embed = Callable[[Sequence[str]], Vectors]


class Vectored:
    """Embeddings of the texts that are about to be judged, made all at once."""

    def __init__(self, embed: Embed) -> None:
        self._embed = embed
        self._vectors: dict[str, Vectors] = {}

    def prepare(self, texts: Sequence[str]) -> None:
        """Embeds `texts`; forgets those before."""
        distinct = list(dict.fromkeys(texts))
        self._vectors = dict(zip(distinct, self._embed(distinct), strict=True)) if distinct else {}

    def of(self, text: str) -> Vectors:
        if text not in self._vectors:
            self._vectors[text] = self._embed([text])[0]
        return self._vectors[text]

    def all(self) -> Vectors:
        return np.stack(list(self._vectors.values()))

    def texts(self) -> list[str]:
        return list(self._vectors)


class SemanticDuplicates:
    """Texts that were taken, found again by the cosine of their embeddings, exactly (no index): float32 vectors in
    blocks, one matrix product for all texts that are judged next.

    `threshold` in (0, 1] is the similarity from which two texts count as the same."""

    def __init__(self, vectored: Vectored, threshold: float) -> None:
        self._vectored = vectored
        self._threshold = threshold
        self._names: list[str] = []
        self._blocks: list[Vectors] = []
        self._known = 0  # how many the next texts have been compared with
        self._nearest: dict[str, tuple[float, int]] = {}

    def add(self, name: str, text: str) -> None:
        """Remembers `text` under a name that was not used before."""
        vector = self._vectored.of(text)
        place = len(self._names) % _BLOCK
        if not place:
            self._blocks.append(np.empty((_BLOCK, len(vector)), dtype=np.float32))
        self._blocks[-1][place] = vector
        self._names.append(name)

    def prepare(self) -> None:
        """Compares the texts that were embedded last with all that was taken before."""
        texts = self._vectored.texts()
        self._known, self._nearest = len(self._names), {}
        if not texts or not self._names:
            return
        wanted = self._vectored.all()
        best = np.full(len(texts), -2.0, dtype=np.float32)
        where = np.zeros(len(texts), dtype=np.int64)
        for start, block in self._filled(0):
            similar = wanted @ block.T
            nearest = similar.argmax(axis=1)
            values = similar[np.arange(len(texts)), nearest]
            better = values > best  # of equals the earliest
            best[better], where[better] = values[better], start + nearest[better]
        self._nearest = {
            text: (float(value), int(place)) for text, value, place in zip(texts, best, where, strict=True)
        }

    def find(self, text: str) -> tuple[str, float] | None:
        """The most similar text's name and cosine, when that reaches the threshold."""
        prepared = text in self._nearest
        value, place = self._nearest.get(text, (-2.0, 0))
        vector = self._vectored.of(text)
        for start, block in self._filled(self._known if prepared else 0):
            similar = block @ vector
            nearest = int(similar.argmax())
            if similar[nearest] > value:
                value, place = float(similar[nearest]), start + nearest
        return (self._names[place], min(1.0, value)) if value >= self._threshold else None

    def _filled(self, start: int) -> list[tuple[int, Vectors]]:
        """(place of its first vector, vectors) of the blocks from `start` on."""
        found = []
        for number in range(start // _BLOCK, len(self._blocks)):
            first = max(start, number * _BLOCK)
            last = min(len(self._names), (number + 1) * _BLOCK)
            if first < last:
                block = self._blocks[number]
                found.append((first, block[first - number * _BLOCK : last - number * _BLOCK]))
        return found

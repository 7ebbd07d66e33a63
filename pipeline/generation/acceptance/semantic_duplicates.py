"""Near duplicates by meaning: accepted texts whose embeddings have a high cosine similarity to a new one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

_BLOCK = 8192  # vectors per block: the matrix grows block by block, so that growing copies nothing

Vectors = NDArray[np.float32]
Embed = Callable[[Sequence[str]], Vectors]


class PreparedEmbeddings:
    """Embeddings of the texts that are about to be judged, computed in one batch."""

    def __init__(self, embed: Embed) -> None:
        self._embed = embed
        self._vectors: dict[str, Vectors] = {}

    def prepare(self, texts: Sequence[str]) -> None:
        """Embeds `texts` and forgets the embeddings before."""
        distinct = list(dict.fromkeys(texts))
        self._vectors = dict(zip(distinct, self._embed(distinct), strict=True)) if distinct else {}

    def of(self, text: str) -> Vectors:
        """The embedding of a text, (dimensions,); computed now if it was not prepared."""
        if text not in self._vectors:
            self._vectors[text] = self._embed([text])[0]
        return self._vectors[text]

    def all(self) -> Vectors:
        """The embeddings of `texts()`, (texts, dimensions)."""
        return np.stack(list(self._vectors.values()))

    def texts(self) -> list[str]:
        """The distinct texts that have an embedding now."""
        return list(self._vectors)


class SemanticDuplicates:
    """Finds the accepted text with the highest cosine similarity to a new one, exactly (no index): float32 vectors in
    blocks, with one matrix product for all texts that are judged next.

    `threshold` in (0, 1] is the similarity from which two texts count as the same."""

    def __init__(self, embeddings: PreparedEmbeddings, threshold: float) -> None:
        self._embeddings = embeddings
        self._threshold = threshold
        self._names: list[str] = []
        self._blocks: list[Vectors] = []
        self._compared = 0  # how many accepted texts the prepared texts have been compared with
        self._nearest: dict[str, tuple[float, int]] = {}  # by prepared text: cosine and index of the nearest of those

    def add(self, name: str, text: str) -> None:
        """Adds an accepted text under a name that was not used before."""
        vector = self._embeddings.of(text)
        row = len(self._names) % _BLOCK
        if not row:
            self._blocks.append(np.empty((_BLOCK, len(vector)), dtype=np.float32))
        self._blocks[-1][row] = vector
        self._names.append(name)

    def prepare(self) -> None:
        """Compares the prepared texts with all accepted texts so far, in one matrix product per block."""
        texts = self._embeddings.texts()
        self._compared, self._nearest = len(self._names), {}
        if not texts or not self._names:
            return
        vectors = self._embeddings.all()
        best = np.full(len(texts), -2.0, dtype=np.float32)
        best_index = np.zeros(len(texts), dtype=np.int64)
        for start, block in self._filled_blocks(0):
            cosines = _product(vectors, block.T)
            nearest = cosines.argmax(axis=1)
            values = cosines[np.arange(len(texts)), nearest]
            better = values > best  # of equals the earliest
            best[better], best_index[better] = values[better], start + nearest[better]
        self._nearest = {
            text: (float(cosine), int(index)) for text, cosine, index in zip(texts, best, best_index, strict=True)
        }

    def find(self, text: str) -> tuple[str, float] | None:
        """The most similar text's name and cosine, when that reaches the threshold."""
        prepared = text in self._nearest
        cosine, index = self._nearest.get(text, (-2.0, 0))
        vector = self._embeddings.of(text)
        for start, block in self._filled_blocks(self._compared if prepared else 0):
            cosines = _product(block, vector)
            nearest = int(cosines.argmax())
            if cosines[nearest] > cosine:
                cosine, index = float(cosines[nearest]), start + nearest
        return (self._names[index], min(1.0, cosine)) if cosine >= self._threshold else None

    def _filled_blocks(self, start: int) -> list[tuple[int, Vectors]]:
        """The vectors from index `start` on, as (index of the first vector, vectors) per block."""
        blocks = []
        for number in range(start // _BLOCK, len(self._blocks)):
            first = max(start, number * _BLOCK)
            last = min(len(self._names), (number + 1) * _BLOCK)
            if first < last:
                block = self._blocks[number]
                blocks.append((first, block[first - number * _BLOCK : last - number * _BLOCK]))
        return blocks


def _product(a: Vectors, b: Vectors) -> Vectors:
    """The matrix product of finite float32 arrays. BLAS kernels may set the processor's "invalid" flag on finite input,
    and numpy then warns (https://github.com/numpy/numpy/issues/24067); `Embedder` refuses what is not finite."""
    with np.errstate(invalid="ignore"):
        product: Vectors = a @ b
    return product

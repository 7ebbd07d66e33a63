"""The sizes in the header of a GGUF file, read before transformers makes a model of these sizes.

transformers takes ten seconds to read the settings in a GGUF; this takes less than one. The format:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

from marginalia.schemas.errors import ModelError
from marginalia.schemas.storage.regular_files import open_regular

MOST_KEYS, MOST_WEIGHTS, MOST_LAYERS = 10_000, 100_000, 1_000
# the types of numbers, by their code in the file, as struct has them
_NUMBERS = dict(enumerate(("B", "b", "H", "h", "I", "i", "f", "?"))) | {10: "Q", 11: "q", 12: "d"}
_TEXT, _LIST = 8, 9
# settings that are a dimension of some weight: of tokens, and of attention and feed-forward layers
DIMENSIONS = ("vocab_size", "embedding_length", "feed_forward_length", "attention.key_length", "attention.value_length")


def check_gguf(reference: str, path: Path) -> None:
    """Raises ModelError when the header has very many entries, asks for very many layers, or has a size that is larger
    than every dimension of the file's weights. A damaged header is left for transformers to report."""
    with os.fdopen(open_regular(path), "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            numbers, largest = _Header(data).read()
        except (struct.error, IndexError, KeyError, UnicodeDecodeError, OverflowError):
            return
        except _TooManyError as error:
            raise ModelError(f"the model '{reference}': {path.name}: {error}") from None
    for key, value in numbers.items():
        setting = key.partition(".")[2]
        if setting in ("block_count", "nextn_predict_layers") and value > MOST_LAYERS:
            raise ModelError(
                f"the model '{reference}': {path.name}: {value:,} layers; at most {MOST_LAYERS:,} are read"
            )
        if setting in DIMENSIONS and value > largest:
            raise ModelError(
                f"the model '{reference}': {path.name}: {key} is {value:,}, and no dimension of its weights is larger "
                f"than {largest:,}",
                hint="download the model again",
            )


class _TooManyError(Exception):
    """The header has more entries than a model needs."""


class _Header:
    def __init__(self, data: mmap.mmap) -> None:
        self._data, self._at = data, 4  # after the letters GGUF

    def read(self) -> tuple[dict[str, int], int]:
        """(whole numbers by key, the largest dimension of a weight)."""
        self._number("I")  # version
        weights, keys = self._number("Q"), self._number("Q")
        if weights > MOST_WEIGHTS or keys > MOST_KEYS:
            raise _TooManyError(
                f"{weights:,} weights and {keys:,} settings; at most {MOST_WEIGHTS:,} and {MOST_KEYS:,}"
            )
        numbers: dict[str, int] = {}
        for _ in range(keys):
            key = self._text().decode()
            value = self._value(self._number("I"))
            if isinstance(value, int):
                numbers[key] = value
        largest = 0
        for _ in range(weights):
            self._text()
            largest = max(largest, *(self._number("Q") for _ in range(self._number("I"))))
            self._at += 12  # type and offset
        return numbers, largest

    def _value(self, kind: int) -> int | float | None:
        """A number, or the largest of a list of whole numbers; None for texts and other lists."""
        if kind == _TEXT:
            self._text()
            return None
        if kind != _LIST:
            return self._number(_NUMBERS[kind])
        kind, length = self._number("I"), self._number("Q")
        if length > len(self._data):  # each item has at least one byte
            raise IndexError
        if kind in _NUMBERS:
            size = struct.calcsize(f"<{_NUMBERS[kind]}")
            layout = f"<{length}{_NUMBERS[kind]}"
            found = struct.unpack_from(layout, self._data, self._at) if 0 < length <= MOST_LAYERS else ()
            self._at += size * length
            return max(found) if found and all(isinstance(value, int) for value in found) else None
        if kind != _TEXT:
            raise KeyError  # a list of lists, which no model has
        for _ in range(length):
            self._text()
        return None

    def _number(self, code: str) -> int:
        (value,) = struct.unpack_from(f"<{code}", self._data, self._at)
        self._at += struct.calcsize(f"<{code}")
        return value  # type: ignore[no-any-return]

    def _text(self) -> bytes:
        length = self._number("Q")
        self._at += length
        if self._at > len(self._data):
            raise IndexError
        return self._data[self._at - length : self._at]

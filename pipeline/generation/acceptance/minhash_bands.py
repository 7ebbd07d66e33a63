"""Finds texts that share a band of their MinHash: a hash table in two arrays, with a tenth of a dict's memory."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

_MAX_LOAD = 0.75  # share of used buckets above which the table is made twice as large


class MinHashBands:
    """Texts by number (from 0, in the order in which they are added), each with `count` hashes of 64 bits.
    `expected_texts` sets the initial size of the table.

    Open addressing with linear probing. A bucket has a hash and the last entry with this hash; entries with the same
    hash are chained. Entry e is hash e % count of text e // count."""

    def __init__(self, count: int, expected_texts: int) -> None:
        self._count = count
        self._previous = array("i")  # by entry: the entry before it with the same hash, or -1
        self._buckets_used = 0
        self._allocate(1 << max(6, (2 * count * expected_texts).bit_length() - 1))

    def add(self, hashes: Sequence[int]) -> None:
        """Adds the next text by its hashes."""
        if self._buckets_used + self._count > _MAX_LOAD * len(self._hashes):
            self._grow()
        for band_hash in hashes:
            bucket = self._bucket_of(band_hash)
            entry = len(self._previous)
            self._previous.append(self._last[bucket])
            if self._last[bucket] < 0:
                self._hashes[bucket] = band_hash
                self._buckets_used += 1
            self._last[bucket] = entry

    def find(self, hashes: Sequence[int]) -> set[int]:
        """The numbers of the texts that have at least one of these hashes."""
        numbers = set()
        table, last, mask = self._hashes, self._last, len(self._hashes) - 1
        for band_hash in hashes:
            # the code of `_bucket_of` without the call: this runs for every band of every text
            bucket = band_hash & mask
            while (entry := last[bucket]) >= 0 and table[bucket] != band_hash:
                bucket = (bucket + 1) & mask
            while entry >= 0:
                numbers.add(entry // self._count)
                entry = self._previous[entry]
        return numbers

    def _bucket_of(self, band_hash: int) -> int:
        """The bucket of a hash, or the free bucket for it."""
        hashes, last, mask = self._hashes, self._last, len(self._hashes) - 1
        bucket = band_hash & mask
        while last[bucket] >= 0 and hashes[bucket] != band_hash:
            bucket = (bucket + 1) & mask
        return bucket

    def _allocate(self, size: int) -> None:
        self._hashes = array("Q", bytes(8 * size))
        self._last = array("i", b"\xff" * (4 * size))

    def _grow(self) -> None:
        hashes, last = self._hashes, self._last
        self._allocate(2 * len(hashes))
        for band_hash, entry in zip(hashes, last, strict=True):
            if entry >= 0:
                bucket = self._bucket_of(band_hash)
                self._hashes[bucket], self._last[bucket] = band_hash, entry

"""Which texts share a band of their MinHash: a hash table in two arrays, a tenth of what a dict would take."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

_FULL = 0.75  # share of the table from which it is made twice as large


class MinHashBands:
    """Texts by number (from 0, in the order in which they are added), each with `count` hashes of 64 bits.

    Open addressing with linear probing: a hash and the last entry that has it; entries with the same hash are chained.
    Entry e is hash e % count of text e // count."""

    def __init__(self, count: int, room: int) -> None:
        self._count = count
        self._next = array("i")  # by entry: the entry before it with the same hash, or -1
        self._different = 0
        self._make(1 << max(6, (2 * count * room).bit_length() - 1))

    def add(self, hashes: Sequence[int]) -> None:
        """The next text's hashes."""
        if self._different + self._count > _FULL * len(self._hashes):
            self._grow()
        for each in hashes:
            place = self._find(each)
            entry = len(self._next)
            self._next.append(self._last[place])
            if self._last[place] < 0:
                self._hashes[place] = each
                self._different += 1
            self._last[place] = entry

    def find(self, hashes: Sequence[int]) -> set[int]:
        """The numbers of the texts that have one of these hashes in its place."""
        found = set()
        table, last, mask = self._hashes, self._last, len(self._hashes) - 1
        for each in hashes:
            # as `_find`, here without a call: this is done for every band of every text, and nearly always in vain
            place = each & mask
            while (entry := last[place]) >= 0 and table[place] != each:
                place = (place + 1) & mask
            while entry >= 0:
                found.add(entry // self._count)
                entry = self._next[entry]
        return found

    def _find(self, wanted: int) -> int:
        """The place of a hash, or the free one where it belongs."""
        hashes, last, mask = self._hashes, self._last, len(self._hashes) - 1
        place = wanted & mask
        while last[place] >= 0 and hashes[place] != wanted:
            place = (place + 1) & mask
        return place

    def _make(self, size: int) -> None:
        self._hashes = array("Q", bytes(8 * size))
        self._last = array("i", b"\xff" * (4 * size))

    def _grow(self) -> None:
        hashes, last = self._hashes, self._last
        self._make(2 * len(hashes))
        for each, entry in zip(hashes, last, strict=True):
            if entry >= 0:
                place = self._find(each)
                self._hashes[place], self._last[place] = each, entry

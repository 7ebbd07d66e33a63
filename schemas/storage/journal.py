"""Append-only journals: nothing an LLM answered or a person submitted is ever lost or counted twice.

A line is on disk (fsync) before `append` returns. Who writes very many may `write` each line, which outlives a kill of
the process, and `sync` them together, after which they outlive a power cut. A process killed in the middle of a line
leaves a torn tail without a newline; opening the journal cuts it off and says so. A broken line anywhere else is
damage, not a torn write, and is refused; each line ends with a checksum, so that a flipped bit is damage, too."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from marginalia.schemas.errors import ArtifactError
from marginalia.schemas.storage.files import cannot_write, fsync_folder, jsonl_line

CHECKSUM = b'"crc":"%08x"}\n'
_VALUE = b'":"%08x"}\n'
RESTORE = "restore the file from a back-up; it is never rewritten"


class Journal:
    """An append-only JSONL file, one process at a time (the run's lock sees to that).

    `torn_bytes` is how much of an unfinished last line was cut off on opening (0 when none)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.torn_bytes = 0
        self._broken: OSError | None = None  # what the disk said when a failed write could not be taken back either
        self._open = threading.Lock()  # held while the file may be closed and opened again
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = not path.exists()
            if not fresh:
                self._cut_torn_tail()
            self._file = path.open("ab")
            try:
                if fresh:
                    fsync_folder(path.parent)
                self._synced = self._written = self._file.tell()
            except OSError:
                self._file.close()
                raise
        except OSError as error:
            raise cannot_write(path, error) from error

    def append(self, entry: dict[str, Any]) -> None:
        self.extend([entry])

    def extend(self, entries: Iterable[dict[str, Any]]) -> None:
        """Appends all entries with one fsync; after a failure the file holds what it held before."""
        self.write(entries)
        self.sync()

    def write(self, entries: Iterable[dict[str, Any]]) -> None:
        """Hands all entries to the operating system: a killed process loses none of them, a power cut may until `sync`.

        After a failure the file holds what it held before."""
        data = b"".join(checked_line(entry) for entry in entries)
        with self._open:
            self._refuse_if_broken()
            try:
                self._file.write(data)
                self._file.flush()
                self._written = self._file.tell()
            except OSError as error:
                self._take_back(self._written)
                raise cannot_write(self.path, error) from error

    def sync(self) -> None:
        """Puts on disk (fsync) what was written before this call; may run beside `write`, in another thread.

        After a failure the file holds what it held at the last `sync`."""
        with self._open:
            self._refuse_if_broken()
            size, descriptor = self._file.tell(), self._file.fileno()
        try:
            os.fsync(descriptor)
        except OSError as error:
            with self._open:
                self._take_back(self._synced)
            raise cannot_write(self.path, error) from error
        self._synced = size

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _take_back(self, size: int) -> None:
        # after a failed write (disk full) a part of the line may stand in the file or still in Python's buffer
        with contextlib.suppress(OSError):
            self._file.close()
        try:
            os.truncate(self.path, size)
            self._written = size
            self._file = self.path.open("ab")
        except OSError as error:
            self._broken = error

    def _refuse_if_broken(self) -> None:
        # nothing may follow a torn line: the next process that opens the journal cuts it off
        if self._broken is not None:
            raise cannot_write(self.path, self._broken)

    def _cut_torn_tail(self) -> None:
        size = self.path.stat().st_size
        if size == 0:
            return
        with self.path.open("rb") as file:
            end = size
            while end > 0:
                start = max(0, end - 65536)
                file.seek(start)
                newline = file.read(end - start).rfind(b"\n")
                if newline >= 0:
                    end = start + newline + 1
                    break
                end = start
        if end < size:
            self.torn_bytes = size - end
            os.truncate(self.path, end)
            with contextlib.suppress(OSError):  # standard error may be a file on the same full disk
                print(f"{self.path}: {size - end:,} bytes of an unfinished last line were cut off", file=sys.stderr)


def read_journal(
    path: Path, keys: Collection[str] = (), check: Callable[[dict[str, Any]], object] | None = None
) -> Iterator[dict[str, Any]]:
    """The entries of a journal in order; none when the file does not exist. A torn last line is passed over.

    Raises ArtifactError with the line of an entry that is damaged (its checksum tells), is no JSON object, lacks one of
    `keys`, or does not pass `check`, which raises ValueError. Lines without a checksum, as earlier versions wrote them,
    are taken as they are."""
    return (entry for _, entry in read_places(path, keys, check))


def read_places(
    path: Path, keys: Collection[str] = (), check: Callable[[dict[str, Any]], object] | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The same, each entry with the byte at which its line starts: for `read_at`."""
    if not path.exists():
        return
    place = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                entry = _entry(line, keys)
                if check is not None:
                    check(entry)
            except (ValueError, RecursionError) as error:
                raise ArtifactError.at(path, f"damaged: {error}", line=number, hint=RESTORE) from error
            yield place, entry
            place += len(line)


def read_at(path: Path, places: Iterable[int]) -> Iterator[dict[str, Any]]:
    """The entries whose lines start at these bytes, in this order: a journal larger than memory, in an order of one's
    own. The places are those that `read_places` told, and checked, before."""
    with path.open("rb") as file:
        for place in places:
            file.seek(place)
            yield _entry(file.readline(), ())


def checked_line(entry: dict[str, Any]) -> bytes:
    """The entry as a line of a journal: JSON whose last key is the CRC-32 of all before it."""
    text = jsonl_line(entry)[:-2]
    head = text + b"," if entry else text
    return head + CHECKSUM % zlib.crc32(text)


def _entry(line: bytes, keys: Collection[str]) -> dict[str, Any]:
    """Raises ValueError when the line is not what was written."""
    entry = json.loads(line)
    if not isinstance(entry, dict):
        raise ValueError(f"expected a JSON object, saw {type(entry).__name__}")
    if entry.pop("crc", None) is not None:
        text = line[: -len(CHECKSUM % 0)].removesuffix(b",")
        if line != text + (b"" if text == b"{" else b",") + CHECKSUM % zlib.crc32(text):
            raise ValueError("its checksum differs")
    elif line.endswith(_VALUE % zlib.crc32(line[: -len(CHECKSUM % 0)].removesuffix(b","))):
        raise ValueError("its checksum goes by another name")  # a flipped bit there must not add a key to the entry
    if missing := [key for key in keys if key not in entry]:
        raise ValueError(f"it has no '{missing[0]}'")
    return entry

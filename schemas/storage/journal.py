"""Append-only JSONL journals, so that no LLM response, annotator's answer or score is lost or counted twice.

A line is on disk (fsync) before `append` returns. A caller with many lines can `write` each, which survives a killed
process, and `sync` them together, after which they also survive a power failure. A process that is killed while it
writes leaves an incomplete last line without a newline; opening the journal truncates it, with a warning. Any other
invalid line is an error. Each line ends with a checksum, so a flipped bit is detected."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from io import BufferedWriter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from marginalia.schemas.errors import ArtifactError
from marginalia.schemas.storage.files import cannot_write, fsync_folder, jsonl_line, write_whole
from marginalia.schemas.storage.regular_files import open_regular

CHECKSUM = b'"crc":"%08x"}\n'
_VALUE = b'":"%08x"}\n'
RESTORE = "restore it from a backup, or in a run, to set such lines aside: marginalia repair --run FOLDER"
DAMAGED = ".damaged"  # added to a journal's name: the lines that could not be read


class Journal:
    """An append-only JSONL file. Only one process may have it open, which the run's lock ensures.

    A symbolic link is not followed: its target would be appended to, and an incomplete last line of it truncated.
    `torn_bytes` is the length of the incomplete last line that was truncated on opening, 0 if there was none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.torn_bytes = 0
        self._broken: OSError | None = None  # set when a failed write could not be undone either
        self._open = threading.Lock()  # held while the file may be closed and reopened
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = not path.exists()
            if not fresh:
                self._truncate_torn_line()
            self._file = self._opened()
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
        """Appends one entry, with an fsync."""
        self.extend([entry])

    def extend(self, entries: Iterable[dict[str, Any]]) -> None:
        """Appends all entries with one fsync. After a failure the file is as before. Raises InputError."""
        self.write(entries)
        self.sync()

    def write(self, entries: Iterable[dict[str, Any]]) -> None:
        """Hands all entries to the operating system. A killed process loses none; before `sync` a power failure may.

        After a failure the file is as before. Raises InputError."""
        data = b"".join(checked_line(entry) for entry in entries)
        with self._open:
            self._refuse_if_broken()
            try:
                self._file.write(data)
                self._file.flush()
                self._written = self._file.tell()
            except OSError as error:
                self._truncate_to(self._written)
                raise cannot_write(self.path, error) from error

    def sync(self) -> None:
        """Puts on disk (fsync) what was written before this call. Another thread may `write` at the same time.

        After a failure the file is as it was at the last `sync`. Raises InputError."""
        with self._open:
            self._refuse_if_broken()
            size, descriptor = self._file.tell(), self._file.fileno()
        try:
            os.fsync(descriptor)
        except OSError as error:
            with self._open:
                self._truncate_to(self._synced)
            raise cannot_write(self.path, error) from error
        self._synced = size

    def close(self) -> None:
        """Closes the file. All that was written stays."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _truncate_to(self, size: int) -> None:
        # after a failed write (disk full) part of a line may be in the file or still in Python's buffer
        with contextlib.suppress(OSError):
            self._file.close()
        try:
            os.truncate(self.path, size)
            self._written = size
            self._file = self._opened()
        except OSError as error:
            self._broken = error

    def _opened(self) -> BufferedWriter:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        return os.fdopen(open_regular(self.path, flags, links=False), "ab")

    def _refuse_if_broken(self) -> None:
        # a line after an incomplete one would be part of it, so nothing more is written
        if self._broken is not None:
            raise cannot_write(self.path, self._broken)

    def _truncate_torn_line(self) -> None:
        size = self.path.stat().st_size
        if size == 0:
            return
        with os.fdopen(open_regular(self.path, links=False), "rb") as file:
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
                print(f"{self.path}: truncated an incomplete last line of {self.torn_bytes:,} bytes", file=sys.stderr)


def read_journal(
    path: Path, keys: Collection[str] = (), check: Callable[[dict[str, Any]], object] | None = None
) -> Iterator[dict[str, Any]]:
    """The entries of a journal in order; none if the file does not exist. An incomplete last line is ignored.

    Raises ArtifactError with the line of an entry whose checksum differs, that is not a JSON object, lacks one of
    `keys`, or for which `check` raises ValueError. Lines of earlier versions have no checksum and are accepted."""
    return (entry for _, entry in read_with_offsets(path, keys, check))


def read_with_offsets(
    path: Path, keys: Collection[str] = (), check: Callable[[dict[str, Any]], object] | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The same as (offset, entry), where offset is the byte at which the line starts, for `read_at`."""
    try:
        descriptor = open_regular(path, links=False)
    except FileNotFoundError:
        return
    offset = 0
    with os.fdopen(descriptor, "rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                entry = _entry(line, keys)
                if check is not None:
                    check(entry)
            except (ValueError, RecursionError) as error:
                raise ArtifactError.at(path, f"damaged: {error}", line=number, hint=RESTORE) from error
            yield offset, entry
            offset += len(line)


def read_at(path: Path, offsets: Iterable[int]) -> Iterator[dict[str, Any]]:
    """The entries at these offsets of `read_with_offsets`, in the given order, without loading the whole journal."""
    with os.fdopen(open_regular(path, links=False), "rb") as file:
        for offset in offsets:
            file.seek(offset)
            yield _entry(file.readline(), ())


def repair_journal(
    path: Path, keys: Collection[str] = (), check: Callable[[dict[str, Any]], object] | None = None
) -> int:
    """Moves the lines that `read_journal` refuses, and an incomplete last line, to `NAME.damaged` next to the journal;
    returns their number. Nothing is deleted: these lines are on disk before the journal is replaced.

    No other process may have the journal open. Raises InputError when a file cannot be written."""
    damaged = [line for line, is_valid in _judged(path, keys, check) if not is_valid]
    if not damaged:
        return 0
    mode = path.stat().st_mode & 0o777
    aside = path.with_name(path.name + DAMAGED)
    try:
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, mode), "ab") as file:
            file.writelines(line if line.endswith(b"\n") else line + b"\n" for line in damaged)
            file.flush()
            os.fsync(file.fileno())
        fsync_folder(path.parent)
    except OSError as error:
        raise cannot_write(aside, error) from error
    valid = (line for line, is_valid in _judged(path, keys, check) if is_valid)
    write_whole(path, lambda file: file.writelines(valid), mode=mode)
    return len(damaged)


def _judged(
    path: Path, keys: Collection[str], check: Callable[[dict[str, Any]], object] | None
) -> Iterator[tuple[bytes, bool]]:
    """Each line of a journal, and whether it is complete and valid."""
    with path.open("rb") as file:
        for line in file:
            try:
                entry = _entry(line, keys)
                if check is not None:
                    check(entry)
            except (ValueError, RecursionError):
                yield line, False
            else:
                yield line, line.endswith(b"\n")


def checked_line(entry: dict[str, Any]) -> bytes:
    """The entry as a line of a journal: JSON whose last key is the CRC-32 of the text before it."""
    text = jsonl_line(entry)[:-2]
    head = text + b"," if entry else text
    return head + CHECKSUM % zlib.crc32(text)


def _entry(line: bytes, keys: Collection[str]) -> dict[str, Any]:
    """The entry of a line. Raises ValueError if it is damaged or lacks one of `keys`."""
    entry = json.loads(line)
    if not isinstance(entry, dict):
        raise ValueError(f"expected a JSON object, saw {type(entry).__name__}")
    if entry.pop("crc", None) is not None:
        text = line[: -len(CHECKSUM % 0)].removesuffix(b",")
        if line != text + (b"" if text == b"{" else b",") + CHECKSUM % zlib.crc32(text):
            raise ValueError("its checksum differs")
    elif line.endswith(_VALUE % zlib.crc32(line[: -len(CHECKSUM % 0)].removesuffix(b","))):
        raise ValueError("the key of its checksum is damaged")  # else the entry would have a key too many
    if missing := [key for key in keys if key not in entry]:
        raise ValueError(f"it has no '{missing[0]}'")
    return entry

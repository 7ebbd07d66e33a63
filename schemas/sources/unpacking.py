"""Opens files that may be compressed. What is unpacked is counted, so that a decompression bomb is refused."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from marginalia.schemas.errors import InputError, first_line
from marginalia.schemas.storage.regular_files import open_regular

MOST_BYTES = 1 << 26  # that a file may unpack to, if that is also more than MOST_RATIO times what was read
MOST_RATIO = 100
BUFFER_BYTES = 1 << 18
_STARTS = {
    b"\x1f\x8b": "is compressed with gzip: its name should end in .gz",
    b"\x28\xb5\x2f\xfd": "is compressed with zstd: its name should end in .zst",
    b"BZh": "is compressed with bzip2: its name should end in .bz2",
    b"PAR1": "is a Parquet file: its name should end in .parquet",
    b"PK\x03\x04": "is a ZIP archive or a spreadsheet: unpack it, or save its sheet as CSV UTF-8",
}


@contextmanager
def open_unpacked(path: Path, codec: str | None) -> Iterator[io.BufferedReader]:
    """The file's bytes, unpacked if `codec` is gzip, zstd or bz2.

    Raises InputError for a file that cannot be read or unpacked, and for one that grows to more than MOST_RATIO times
    its size on disk and to more than MOST_BYTES."""
    try:
        file = os.fdopen(open_regular(path), "rb", buffering=0)
    except OSError as error:
        raise InputError.at(path, f"cannot read: {error.strerror}") from error
    with file:
        raw: io.RawIOBase = file if codec is None else _Unpacked(path, file, codec)
        with io.BufferedReader(raw, BUFFER_BYTES) as buffered:
            yield buffered


def refuse_other_formats(path: Path, stream: io.BufferedReader) -> None:
    """Raises InputError if a file that should be text begins like a file of another format."""
    head = stream.peek(4)[:4]
    for start, problem in _STARTS.items():
        if head.startswith(start):
            raise InputError.at(path, problem)


class _Unpacked(io.RawIOBase):
    """The unpacked bytes of `file`."""

    def __init__(self, path: Path, file: BinaryIO | io.FileIO, codec: str) -> None:
        import pyarrow as pa

        self._path, self._file, self._codec, self._size = path, file, codec, 0
        self._stream = pa.CompressedInputStream(pa.PythonFile(file, "r"), codec)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read(len(buffer))
        except OSError as error:  # damaged and truncated files
            problem = f"not a readable {self._codec} file: {first_line(error)}"
            raise InputError.at(self._path, problem, hint="pack it again, or give the unpacked file") from error
        buffer[: len(data)] = data
        self._size += len(data)
        read = self._file.tell()
        if self._size > MOST_BYTES and self._size > MOST_RATIO * read:
            problem = (
                f"its first {read:,} bytes unpack to more than {self._size:,}; at most {MOST_BYTES:,} bytes, or "
                f"{MOST_RATIO} times those on disk, are read"
            )
            raise InputError.at(self._path, problem, hint="unpack it yourself if you trust it, and give that file")
        return len(data)

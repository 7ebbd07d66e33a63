"""Rows that are needed again late or rarely, kept on disk during a stage instead of in memory."""

from __future__ import annotations

import tempfile
import weakref
from pathlib import Path

from marginalia.schemas.storage.files import cannot_write

_IN_MEMORY = 1 << 20  # bytes; a small run needs no file


class TemporaryRows:
    """Byte strings by the offset that `add` returned. Beyond one megabyte they are in an unnamed file in `folder`
    (None: the folder for temporary files), which the system removes even if the process is killed."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = Path(tempfile.gettempdir()) if folder is None else folder
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY, dir=str(self._folder))  # noqa: SIM115
        self.close = weakref.finalize(self, self._file.close)
        self._end = 0

    def add(self, data: bytes) -> int:
        """Stores `data` and returns its offset, for `read`. Raises InputError if it cannot be written."""
        offset = self._end
        try:
            self._file.seek(offset)
            self._file.write(len(data).to_bytes(4, "little") + data)
        except OSError as error:
            raise cannot_write(self._folder, error) from error
        self._end += 4 + len(data)
        return offset

    def read(self, offset: int) -> bytes:
        """The bytes stored at `offset`. Raises InputError if bytes still in the buffer cannot be written first."""
        try:
            self._file.seek(offset)
            return self._file.read(int.from_bytes(self._file.read(4), "little"))
        except OSError as error:
            raise cannot_write(self._folder, error) from error

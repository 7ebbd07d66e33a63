"""Rows that are only needed again at the end, or seldom: kept on disk for the time of a stage instead of in memory."""

from __future__ import annotations

import tempfile
import weakref
from pathlib import Path

from marginalia.schemas.storage.files import cannot_write

_IN_MEMORY = 1 << 20  # bytes; a small run needs no file at all


class TemporaryRows:
    """Byte strings by the place that `add` gave them. What does not fit into a megabyte lies in an unnamed file in
    `folder` (None: where temporary files lie), of which a killed process leaves nothing behind."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = Path(tempfile.gettempdir()) if folder is None else folder
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY, dir=str(self._folder))  # noqa: SIM115
        self.close = weakref.finalize(self, self._file.close)
        self._end = 0

    def add(self, data: bytes) -> int:
        """Its place, for `read`. Raises InputError when the disk refuses it."""
        place = self._end
        try:
            self._file.seek(place)
            self._file.write(len(data).to_bytes(4, "little") + data)
        except OSError as error:
            raise cannot_write(self._folder, error) from error
        self._end += 4 + len(data)
        return place

    def read(self, place: int) -> bytes:
        """What was added there. Raises InputError when the disk refuses what was not yet written to it."""
        try:
            self._file.seek(place)
            return self._file.read(int.from_bytes(self._file.read(4), "little"))
        except OSError as error:
            raise cannot_write(self._folder, error) from error

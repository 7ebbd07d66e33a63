"""Lines of text in one of several encodings, with their numbers and with limits."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from io import BufferedReader, TextIOWrapper
from pathlib import Path

from marginalia.schemas.errors import InputError
from marginalia.schemas.sources.file_format import Encoding

MOST_ROW_CHARACTERS = 1 << 24  # in all lines of one row
_UNDECODED = re.compile("[\udc80-\udcff]")  # bytes, as the error handler surrogateescape writes them
_MARKS: tuple[tuple[bytes, Encoding], ...] = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def detected_encoding(file: BufferedReader) -> Encoding:
    """UTF-8, unless the file begins with the byte order mark of UTF-16. Other encodings cannot be told apart safely."""
    head = file.peek(4)[:4]
    return next((encoding for mark, encoding in _MARKS if head.startswith(mark)), "utf-8")


class TextLines(Iterator[str]):
    """The lines of a file with their line ends: those of Unix, Windows or old Macs. `number`: of the last line, from 1.

    Call `begin_row` before each row: one row may have many lines, but at most MOST_ROW_CHARACTERS. Raises InputError
    with the line for that, for bytes that are not valid in the encoding, and for NUL characters."""

    def __init__(self, path: Path, file: BufferedReader, encoding: Encoding) -> None:
        self._path, self._encoding = path, encoding
        # with an error handler, because a decoding error would not know its line
        self._file = TextIOWrapper(file, encoding, errors="surrogateescape", newline="")
        self.number = 0
        self._row_start = 1
        self._size = 0

    def begin_row(self, line: int) -> None:
        """A row begins at this line."""
        self._row_start, self._size = line, 0

    def __next__(self) -> str:
        try:
            line = self._file.readline(MOST_ROW_CHARACTERS + 1)
        except UnicodeError as error:  # UTF-16
            problem = f"is not valid {self._encoding}: {error}"
            raise InputError.at(self._path, problem, line=self.number + 1, hint="save it as UTF-8") from None
        if not line:
            raise StopIteration
        if not self.number:
            line = line.removeprefix("\ufeff")
        self.number += 1
        self._size += len(line)
        if self._size > MOST_ROW_CHARACTERS:
            problem = f"the row that begins here has more than {MOST_ROW_CHARACTERS:,} characters"
            hint = "is a quote never closed?"
            raise InputError.at(self._path, problem, line=self._row_start, hint=hint)
        if not line.isascii() and (match := _UNDECODED.search(line)):
            raise self._undecoded(ord(match[0]) - 0xDC00)
        if "\0" in line:
            problem = f"a NUL character at position {line.index(chr(0))}"
            hint = "if the file is UTF-16, save it as UTF-8; or fix the row"
            raise InputError.at(self._path, problem, line=self.number, hint=hint)
        return line

    def _undecoded(self, byte: int) -> InputError:
        name = self._encoding.removesuffix("-sig").upper()
        if name != "UTF-8":
            problem = f"byte 0x{byte:02X} is not {name}"
            return InputError.at(self._path, problem, line=self.number, hint="state another encoding, or save as UTF-8")
        windows = bytes([byte]).decode("cp1252", "replace")
        problem = f"byte 0x{byte:02X} is not UTF-8; in Windows-1252 it is {windows!r}"
        hint = "save it as UTF-8, or state files: {encoding: cp1252} in the mapping of marginalia import"
        return InputError.at(self._path, problem, line=self.number, hint=hint)

    def close(self) -> None:
        """Leaves the file to its owner, who closes it."""
        self._file.detach()

"""Rows of a JSON file that holds a list of objects, at its top or inside objects, or an object of objects. It is read
piece by piece."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from io import BufferedReader
from itertools import count
from json import JSONDecodeError
from pathlib import Path
from typing import Any

from marginalia.schemas.errors import InputError
from marginalia.schemas.sources.json_values import DECODER, DuplicateKeyError

MOST_VALUE_CHARACTERS = 1 << 26  # of one row, and of one value next to the list
MOST_DEPTH = 10  # of objects around the list
VALUES = "*"  # the key of the rows of an object whose values are the rows
KEY = "(key)"  # the column with their keys
_CHUNK = 1 << 16
_FEWEST_VALUES = 10  # fewer could be parts of one data set, such as train and test
_MOST_NAMED = 5  # lists, in a message
_SPACE = re.compile("[ \t\n\r]*")
_NEAR = 16  # characters from the end of what was read: an error there can be a value that is cut
_TURNS = {"role", "from"}  # a list of these is a conversation, not a list of rows


ALL_VALUES = 'if the rows are the values of the object: files: {records: "*"}'


class JsonPieces:
    """A JSON text of which only a part is in memory. Positions are characters in `text`."""

    def __init__(self, path: Path, file: BufferedReader) -> None:
        self._path, self._file = path, file
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self.text, self.at, self._is_end = "", 0, False
        self._lines, self._counted = 0, 0  # line ends before the position in `text` up to which they were counted

    @property
    def line(self) -> int:
        """The line (from 1) of the current position."""
        self._lines += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._lines + 1

    def problem(self, message: str) -> InputError:
        """The error at the current position."""
        return InputError.at(self._path, message, line=self.line, hint="expected JSON with a list of objects")

    def peek(self) -> str:
        """The next character that is not white space, or an empty text at the end."""
        while True:
            space = _SPACE.match(self.text, self.at)
            self.at = space.end() if space else self.at
            if self.at < len(self.text):
                return self.text[self.at]
            if not self._more():
                return ""

    def take(self, character: str) -> bool:
        """Whether the next character is this one, which is then passed."""
        found = self.peek() == character
        self.at += found
        return found

    def expect(self, character: str) -> None:
        """Passes this character, or raises InputError."""
        if not self.take(character):
            raise self.problem(f"expected '{character}', saw {self.peek()!r}")

    def value(self) -> Any:
        """The next value. Raises InputError if it is not valid JSON or has more than MOST_VALUE_CHARACTERS."""
        self.peek()
        while True:
            try:
                value, end = DECODER.raw_decode(self.text, self.at)
            except DuplicateKeyError as error:
                raise self.problem(str(error)) from None
            except JSONDecodeError as error:
                is_cut = error.pos > len(self.text) - _NEAR or error.msg.startswith("Unterminated string")
                if not (is_cut and self._more()):
                    self.at = min(error.pos, len(self.text))
                    raise self.problem(f"not JSON: {error.msg}") from None
            except (ValueError, RecursionError) as error:
                raise self.problem(f"not JSON: {error}") from None
            else:
                # a number may go on after the end of what was read
                if end < len(self.text) or not self._more():
                    self.at = end
                    return value
            if len(self.text) - self.at > MOST_VALUE_CHARACTERS:
                raise self.problem(f"a value has more than {MOST_VALUE_CHARACTERS:,} characters")

    def _more(self) -> bool:
        """Reads on, as much as the text from the current position, so that a long value is not parsed too often."""
        if self._is_end:
            return False
        data = self._file.read(max(_CHUNK, len(self.text) - self.at))
        self._lines += self.text.count("\n", self._counted, self.at)
        kept = self.text[self.at :]
        self.at = self._counted = 0
        try:
            self.text = kept + self._decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            self.text = kept
            raise self.problem(f"byte 0x{error.object[error.start]:02X} is not UTF-8, in or after this line") from None
        self._is_end = not data
        return bool(data) or self.at < len(self.text) > len(kept)


def list_rows(path: Path, file: BufferedReader, records: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(`item 12 (line 40)`, row) for each object in the list with the key `records` (`a.b`: b in the object a; empty:
    the file is the list; `*`: each value of the object, whose key becomes the column KEY). Items count from 0, lines
    from 1.

    Raises InputError for what is not JSON, an item that is not an object, and a key that is missing."""
    pieces = JsonPieces(path, file)
    found = False
    for row in _at(pieces, records):
        found = True
        if row is not None:
            yield row
    if not found:
        raise InputError.at(
            path, f"has no list '{records}'", hint="files.records in the mapping is the key of the list"
        )
    if pieces.peek():
        raise pieces.problem("more than one JSON value; JSONL (.jsonl) has one object per line")


def find_lists(path: Path, file: BufferedReader) -> list[str]:
    """The keys of all lists of objects inside the objects of a JSON file. Raises InputError for what is not JSON."""
    pieces = JsonPieces(path, file)
    found: list[str] = []
    _search(pieces, "", 0, found)
    if pieces.peek():
        raise pieces.problem("more than one JSON value; JSONL (.jsonl) has one object per line")
    return found


def only_list(path: Path, found: list[str]) -> str:
    """The key of the only list of objects. Raises InputError if there is none or a choice."""
    if not found:
        hint = f"expected [{{…}}, {{…}}], or an object with one such list; {ALL_VALUES}"
        raise InputError.at(path, "has no list of objects", hint=hint)
    if len(found) > 1:
        named, hint = ", ".join(found[:_MOST_NAMED]), f"state one in the mapping: files: {{records: {found[0]}}}"
        if len(found) > _MOST_NAMED:
            named, hint = f"{named} and {len(found) - _MOST_NAMED:,} more", f"{hint}; {ALL_VALUES}"
        raise InputError.at(path, f"has several lists of objects: {named}", hint=hint)
    return found[0]


def has_rows_as_values(path: Path, file: BufferedReader) -> bool:
    """Whether a JSON file is an object of many rows: each value is an object with some text or number."""
    pieces = JsonPieces(path, file)
    if pieces.peek() != "{":
        return False
    number = 0
    for _ in _keys(pieces):
        value = pieces.value()
        if not isinstance(value, dict) or not any(isinstance(cell, str | int | float) for cell in value.values()):
            return False
        number += 1
    return number >= _FEWEST_VALUES


def refuse_columns(path: Path, row: dict[str, Any]) -> None:
    """Raises InputError if the only object of a JSON file has a whole column in each value, as pandas writes it."""
    columns = list(row.values())
    if not columns or not all(isinstance(column, dict) and "0" in column and "1" in column for column in columns):
        return
    if all(column.keys() == columns[0].keys() for column in columns):
        hint = "write one object per row; in pandas: to_json(orient='records')"
        raise InputError.at(path, f"is stored by column, with {len(columns[0]):,} rows in each", hint=hint)


def _at(pieces: JsonPieces, key: str) -> Iterator[tuple[str, dict[str, Any]] | None]:
    """The rows of the list, after None as the sign that it was found."""
    if not key:
        yield None
        yield from _items(pieces)
        return
    if key == VALUES:
        yield None
        yield from _values(pieces)
        return
    for name in _keys(pieces):
        if name == key:
            yield from _at(pieces, "")
        elif key.startswith(f"{name}.") and pieces.peek() == "{":
            yield from _at(pieces, key.removeprefix(f"{name}."))
        else:
            pieces.value()


def _items(pieces: JsonPieces) -> Iterator[tuple[str, dict[str, Any]]]:
    pieces.expect("[")
    number = 0
    while not pieces.take("]"):
        if number:
            pieces.expect(",")
        pieces.peek()
        line, value = pieces.line, pieces.value()
        where = f"item {number} (line {line})"
        if not isinstance(value, dict):
            raise pieces.problem(f"item {number}: expected a JSON object, saw {type(value).__name__}")
        yield where, value
        number += 1


def _values(pieces: JsonPieces) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in _keys(pieces):
        pieces.peek()
        line, value = pieces.line, pieces.value()
        if not isinstance(value, dict):
            raise pieces.problem(f"'{name}': expected a JSON object, saw {type(value).__name__}")
        yield f"'{name}' (line {line})", {KEY: name, **value}


def _keys(pieces: JsonPieces) -> Iterator[str]:
    """The keys of an object; the caller reads the value after each."""
    pieces.expect("{")
    seen: set[str] = set()
    while not pieces.take("}"):
        if seen:
            pieces.expect(",")
        if pieces.peek() != '"':
            raise pieces.problem(f"expected a key, saw {pieces.peek()!r}")
        name = str(pieces.value())
        if name in seen:
            raise pieces.problem(f"duplicate key '{name}'")
        seen.add(name)
        pieces.expect(":")
        yield name


def _search(pieces: JsonPieces, key: str, depth: int, found: list[str]) -> None:
    start = pieces.peek()
    if start == "{" and depth < MOST_DEPTH:
        for name in _keys(pieces):
            _search(pieces, f"{key}.{name}" if key else name, depth + 1, found)
    elif start == "[":
        pieces.expect("[")
        for number in count():
            if pieces.take("]"):
                return
            if number:
                pieces.expect(",")
            value = pieces.value()
            if not number and isinstance(value, dict) and not _TURNS & value.keys():
                found.append(key)
    else:
        pieces.value()

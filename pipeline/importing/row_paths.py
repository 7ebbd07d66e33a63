"""Cells of a row by their paths: `labels`, `meta.topic`, `answers[0].label`, `answers[*].label`.

A key that has this exact name takes precedence at every level, so a column `meta.topic` needs no quotes. `[*]` gives a
list of all items. Null, and an item after the end of a list, have nothing inside: the cell is null. Text with JSON in
it is read. In JSON, a row may lack the key of a label, an attribute or an optional
message, if another row has it: the cell is null."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from marginalia.schemas.errors import InputError, did_you_mean
from marginalia.schemas.messages import refuse_binary

INDEX = re.compile(r"\[(\*|-?\d+)\]\.?")
SHOWN = 80  # characters of a value in a message
FILE = "(file)"  # the key of a row that names its file, for annotators.files


class MissingKeyError(LookupError):
    """An object does not have the key that a path names."""


class AbsentColumns:
    """The `optional` paths that some rows of a source lack: JSON may leave out a key without a value. No row need have
    those of them that are `needless`."""

    def __init__(self, optional: Collection[str], needless: Collection[str] = ()) -> None:
        self.optional, self._needless = optional, needless
        self.counts = Counter[str]()  # path of labels → how many rows, or answers inside a row, lack it
        self._found: set[str] = set()
        self._first: dict[str, InputError] = {}

    def found(self, path: str) -> None:
        """A row has this path."""
        self._found.add(path)

    def absent(self, key: str, path: str, error: InputError) -> None:
        """A row lacks this path of the mapping's `key`; `error` is what to say if no row has it."""
        if path not in self._needless:
            self.counts[path] += key.startswith("labels.")
            self._first.setdefault(path, error)

    def refuse_unknown(self) -> None:
        """Raises the error of the first path that no row has: the mapping names a column that does not exist."""
        for path, error in self._first.items():
            if path not in self._found:
                raise error


def cells_of(
    paths: Iterable[tuple[str, str]], row: Mapping[str, Any], where: str, absent: AbsentColumns | None = None
) -> dict[str, Any]:
    """Path → cell, for pairs of a mapping's key and a path. With `absent`, an optional path that the row lacks is null
    and noted there. Raises InputError, which begins with `where`, for another path that the row does not have; the
    hint names the key."""
    cells: dict[str, Any] = {}
    missing: list[tuple[str, str, str]] = []
    optional: list[tuple[str, str, str]] = []
    for key, path in paths:
        try:
            cells[path] = value_at(row, path)
        except LookupError as error:
            may_lack = absent is not None and path in absent.optional and isinstance(error, MissingKeyError)
            (optional if may_lack else missing).append((key, path, error.args[0]))
        else:
            refuse_binary(cells[path], f"column '{path}'", where)
            if absent is not None:
                absent.found(path)
    if missing:
        raise _missing([*missing, *optional], cells, row, where)
    for problem in optional:
        cells[problem[1]] = None
        if absent is not None:
            absent.absent(problem[0], problem[1], _missing([problem], cells, row, where))
    return cells


def _missing(
    missing: list[tuple[str, str, str]], cells: Mapping[str, Any], row: Mapping[str, Any], where: str
) -> InputError:
    """The error for (key of the mapping, path, problem) of paths that the row lacks. `cells`: what was found."""
    if len(missing) > 1 and not cells:
        named = ", ".join(f"{key} '{path}'" for key, path, _ in missing)
        has = f"the mapping fits no column: it names {named}; the row has {_keys(row)}"
        return InputError(f"{where}: {has}", hint="--mapping takes a YAML file that names its columns")
    key, _, problem = missing[0]
    hint = f"--mapping takes a YAML file; its key {key} names the column"
    if key == "id":
        hint += ", and without it ids are made from the texts"
    return InputError(f"{where}: {problem}", hint=hint)


def value_at(row: Mapping[str, Any], path: str) -> Any:
    """The cell at `path`. Raises LookupError, with what was found instead, for a path that the row does not have."""
    return row[path] if path in row else _follow(row, path, path)


def read_json(text: str) -> Any:
    """The JSON list or object in a text; None if it is not one."""
    if text.lstrip()[:1] not in ("[", "{"):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list | dict) else None


def _follow(value: Any, rest: str, path: str) -> Any:
    if not rest or value is None:
        return value
    if isinstance(value, str):
        if not value.strip():
            return None
        parsed = read_json(value)
        value = value if parsed is None else parsed
    return _item(value, rest, path) if rest.startswith("[") else _member(value, rest, path)


def _item(value: Any, rest: str, path: str) -> Any:
    found = INDEX.match(rest)
    if found is None:
        raise LookupError(f"'{path}' is not a path: expected a number or * in brackets")
    if not isinstance(value, list):
        return _not_inside(value, rest, path)
    index, after = found[1], rest[found.end() :]
    if index != "*":
        at = int(index)
        return _follow(value[at], after, path) if -len(value) <= at < len(value) else None
    items = [_follow(item, after, path) for item in value]
    if "[*]" not in after:
        return items
    return [part for item in items for part in item or []]


def _member(value: Any, rest: str, path: str) -> Any:
    if not isinstance(value, dict):
        return _not_inside(value, rest, path)
    for key, after in _splits(rest):
        if key in value:
            return _follow(value[key], after, path)
    parents = path[: len(path) - len(rest)].rstrip(".")
    key = re.split(r"[.\[]", rest, maxsplit=1)[0]
    near = did_you_mean(rest, map(str, value)) or did_you_mean(key, map(str, value))
    kind = f"no key '{key}' in '{parents}'" if parents else f"no column '{rest}'"
    raise MissingKeyError(f"{kind}{near}; it has {_keys(value)}")


def _keys(value: Mapping[str, Any]) -> str:
    return ", ".join(sorted(str(key) for key in value if key != FILE))


def _splits(rest: str) -> Iterator[tuple[str, str]]:
    """(key, rest of the path) for every place where the key may end, the longest key first."""
    yield rest, ""
    for at in sorted((found.start() for found in re.finditer(r"[.\[]", rest)), reverse=True):
        yield rest[:at], rest[at:].removeprefix(".")


def _not_inside(value: Any, rest: str, path: str) -> Any:
    parents = path[: len(path) - len(rest)].rstrip(".")
    expected = "a list" if rest.startswith("[") else "an object"
    raise LookupError(f"'{parents}' is {str(value)[:SHOWN]!r}, expected {expected} for the path '{path}'")

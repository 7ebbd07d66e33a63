"""Cells of a row by their paths: `labels`, `meta.topic`, `answers[0].label`, `answers[*].label`.

A key that has this exact name takes precedence at every level, so a column `meta.topic` needs no quotes. `[*]` gives a
list of all items. Null, and an item after the end of a list, have nothing inside: the cell is null. Text with JSON in
it is read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from marginalia.schemas.errors import InputError, did_you_mean
from marginalia.schemas.messages import refuse_binary

INDEX = re.compile(r"\[(\*|-?\d+)\]\.?")
SHOWN = 80  # characters of a value in a message
FILE = "(file)"  # the key of a row that names its file, for annotators.files


class AbsentPaths:
    """Optional paths that some rows do not have: a JSON object may leave out a key, and its cell is blank then. A path
    that no row has is a mistake in the mapping."""

    def __init__(self, optional: Iterable[str]) -> None:
        self._optional = frozenset(optional)
        self._missing: dict[str, InputError] = {}
        self._found: set[str] = set()

    def found(self, paths: Iterable[str]) -> None:
        """Notes that a row has these paths."""
        self._found.update(paths)

    def allows(self, path: str, error: InputError) -> bool:
        """Whether a row may lack the path; keeps the first error of each."""
        if path not in self._optional:
            return False
        self._missing.setdefault(path, error)
        return True

    def check(self) -> None:
        """Raises the first error of a path that no row has. Call it after the last row."""
        for path, error in self._missing.items():
            if path not in self._found:
                raise error


def cells_of(
    paths: Iterable[tuple[str, str]], row: Mapping[str, Any], where: str, absent: AbsentPaths | None = None
) -> dict[str, Any]:
    """Path → cell, for pairs of a mapping's key and a path; null for a path that may be absent. Raises InputError,
    which begins with `where`, for another path that the row does not have; the hint names the key."""
    cells, missing = {}, []
    for key, path in paths:
        try:
            cells[path] = value_at(row, path)
        except LookupError as error:
            missing.append((key, path, error.args[0]))
        else:
            refuse_binary(cells[path], f"column '{path}'", where)
    if absent is not None:
        absent.found(cells)
    if not missing:
        return cells
    if len(missing) > 1 and not cells:
        named = ", ".join(f"{key} '{path}'" for key, path, _ in missing)
        has = f"the mapping fits no column: it names {named}; the row has {_keys(row)}"
        raise InputError(f"{where}: {has}", hint="--mapping takes a YAML file that names its columns")
    for key, path, problem in missing:
        hint = f"--mapping takes a YAML file; its key {key} names the column"
        if key == "id":
            hint += ", and without it ids are made from the texts"
        no_path = InputError(f"{where}: {problem}", hint=hint)
        if absent is None or not absent.allows(path, no_path):
            raise no_path
        cells[path] = None
    return cells


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
    raise LookupError(f"{kind}{near}; it has {_keys(value)}")


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

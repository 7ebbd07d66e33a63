"""JSON as plain Python values: NaN is read as null, and a duplicate key is an error."""

from __future__ import annotations

import json
from typing import Any


class DuplicateKeyError(ValueError):
    """An object has the same key twice; `json` alone would keep the last."""


def json_value(text: str) -> Any:
    """The value that `text` contains. Raises ValueError (also for a number of 5000 digits), its subclass
    DuplicateKeyError, and RecursionError."""
    return json.loads(text, object_pairs_hook=_object, parse_constant=_constant)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        raise DuplicateKeyError(f"duplicate key '{next(name for name in names if names.count(name) > 1)}'")
    return value


def _constant(name: str) -> float | None:
    return None if name == "NaN" else float(name)


DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)

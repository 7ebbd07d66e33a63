"""Functions over JSON columns that SQLite calls for each row of a search.

SQLite's own JSON paths cannot name every key (a quote in a question's name, or a letter stored as \\u00e9), and its
expressions may not nest deeper than 1,000, which a long search text would exceed. Here a path is a JSON list of keys,
and a search is one call. None of the functions raises: an exception would end the whole query.
"""

import hashlib
import html
import json
import math
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

LARGEST_INTEGER = 2**63 - 1  # SQLite's


def has_term(document: str | None, path: str, terms: str) -> bool:
    """Whether the value at `path`, or any item of it when it is a list, is among `terms` (a JSON list of strings:
    filters arrive as strings)."""
    value = _at(document, path)
    decoded_terms = _decoded(terms)
    return any(
        _as_term(item) in decoded_terms for item in (value if isinstance(value, list) else [value]) if item is not None
    )


def number_at(document: str | None, path: str) -> int | float | None:
    """The number at `path`; NULL when there is no number."""
    value = _at(document, path)
    return _for_sql(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def sort_key_at(document: str | None, path: str) -> int | float | str | None:
    """The value at `path` to sort by: a number, a string, or the largest number of a list; else NULL."""
    value = _at(document, path)
    if isinstance(value, list):
        numbers = [item for item in value if isinstance(item, int | float)]
        value = max(numbers) if numbers else None
    return _for_sql(value) if isinstance(value, int | float | str) else None


def has_text(fields: str | None, query: str) -> bool:
    """Whether a record's fields contain every required phrase and none of the excluded ones, ignoring case.

    `query` is JSON: {"fields": names of the fields to search, "required": [phrase, …], "excluded": [phrase, …]}, with
    folded phrases (see `fold`).
    """
    values = _at(fields, "[]")
    decoded = _decoded(query)
    if not isinstance(values, dict):
        return False
    # Texts are stored escaped, so that the UI shows them unchanged; a search is for the text that annotators see.
    text = fold(html.unescape("\n".join(part for name in decoded["fields"] for part in _texts(values.get(name)))))
    required, excluded = decoded["required"], decoded["excluded"]
    return all(phrase in text for phrase in required) and not any(phrase in text for phrase in excluded)


def shuffle_key(record_id: str, seed: str) -> bytes:
    """A sort key that shuffles records: each seed gives another order, the same at every call."""
    return hashlib.blake2b(f"{seed}/{record_id}".encode(), digest_size=8).digest()


SQL_FUNCTIONS = (has_term, number_at, sort_key_at, has_text, shuffle_key)


def fold(text: str) -> str:
    """`text` in the form in which texts are compared: case and compatibility forms (full-width letters, ligatures)
    folded."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()


@lru_cache(maxsize=256)
def _decoded(argument: str) -> Any:
    """A JSON argument, cached because it is the same for every row of a query."""
    return json.loads(argument)


def _at(document: str | None, path: str) -> Any:
    """The value at `path` of a JSON document, or None."""
    try:
        value = None if document is None else json.loads(document)
    except (ValueError, RecursionError):
        return None
    for key in _decoded(path):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _for_sql(value: int | float | str) -> int | float | str:
    """`value` in a form that SQLite accepts: no integer above 64 bits, no lone surrogate."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    return value if abs(value) <= LARGEST_INTEGER else math.copysign(math.inf, value)


def _as_term(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _texts(value: Any) -> Iterator[str]:
    """The texts in a field's value: a string, the contents (not the roles) of a chat, all strings of a custom field."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for message in value:
            if isinstance(message, dict):
                yield from _texts(message.get("content"))
    elif isinstance(value, dict):
        for part in value.values():
            yield from _texts(part)

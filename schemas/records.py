"""Records as users bring them: JSONL or Parquet with `id` and `messages` (or `text`, read as one user message), and
optionally `labels`. Every flaw is refused with its file and line; nothing is repaired in silence."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from schemas.artifacts import GoldRecord
from schemas.errors import InputError

MAX_CHARACTERS = 1_000_000
ROLES = ("system", "user", "assistant")
RECORD_SCHEMA = pl.Schema(
    {"id": pl.String(), "messages": GoldRecord.polars_schema()["messages"], "labels": pl.List(pl.String())}
)
# invisible characters that reorder what a reader sees (Unicode UAX 9 overrides and isolates)
_REORDERING = re.compile("[\u202a-\u202e\u2066-\u2069]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def read_records(path: Path) -> pl.DataFrame:
    """Records with the columns id, messages, labels (null where none are given), in file order.

    Raises InputError that names the line (JSONL, from 1) or the row (Parquet, from 0)."""
    rows = []
    seen: dict[str, str] = {}
    for place, value in read_rows(path):
        row = _record(path, place, value)
        if row["id"] in seen:
            raise InputError(f"{path}: {place}: id '{row['id']}' stands there twice, first in {seen[row['id']]}")
        seen[row["id"]] = place
        rows.append(row)
    if not rows:
        raise InputError.at(path, "holds no records", hint="one JSON object a line, with id and text or messages")
    return pl.DataFrame(rows, schema=RECORD_SCHEMA, orient="row")


def read_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, row) of a JSONL or Parquet file, where place reads `line 12` or `row 12`."""
    if not path.exists():
        raise InputError.at(path, "no such file")
    if path.is_dir():
        raise InputError.at(path, "is a folder, expected a .jsonl or .parquet file")
    if path.suffix == ".parquet":
        yield from _parquet_rows(path)
    elif path.suffix in (".jsonl", ".ndjson", ".json"):
        yield from _jsonl_rows(path)
    else:
        raise InputError.at(path, f"cannot tell the format of '{path.suffix}'", hint="expected .jsonl or .parquet")


def _jsonl_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        opened = path.open("rb")
    except OSError as error:
        raise InputError.at(path, f"cannot read: {error.strerror}") from error
    with opened as file:
        for number, raw in enumerate(file, start=1):
            if not raw.strip():
                continue
            try:
                value = json.loads(raw.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise InputError.at(
                    path, f"byte {error.start} is not UTF-8", line=number, hint="save as UTF-8"
                ) from None
            except (ValueError, RecursionError) as error:  # a number of 5000 digits is a plain ValueError
                raise InputError.at(path, f"not a JSON object: {error}", line=number) from None
            if not isinstance(value, dict):
                raise InputError.at(path, f"expected a JSON object, saw {type(value).__name__}", line=number)
            yield f"line {number}", value


def _parquet_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        frame = pl.read_parquet(path)
    except Exception as error:  # polars raises many kinds for damaged files
        raise InputError.at(path, f"not a readable Parquet file: {str(error).partition(chr(10))[0]}") from error
    for number, row in enumerate(frame.iter_rows(named=True)):
        yield f"row {number}", row


def _record(path: Path, place: str, value: dict[str, Any]) -> dict[str, Any]:
    where = f"{path}: {place}"
    identifier = value.get("id")
    if isinstance(identifier, int) and not isinstance(identifier, bool):
        identifier = str(identifier)
    if not isinstance(identifier, str) or not identifier:
        raise InputError(f"{where}: 'id' must be a non-empty string, saw {identifier!r}; columns: {sorted(value)}")
    check_text(identifier, f"{where}: id")
    where = f"{where}: record '{identifier}'"
    labels = value.get("labels")
    if labels is not None and (not isinstance(labels, list) or any(not isinstance(item, str) for item in labels)):
        raise InputError(f"{where}: 'labels' must be a list of strings, saw {str(labels)[:80]!r}")
    for label in labels or []:
        check_text(label, f"{where}: labels")
    return {"id": identifier, "messages": messages_of(value, where), "labels": labels}


def messages_of(value: dict[str, Any], where: str) -> list[dict[str, str]]:
    """The checked `messages` of a row, or its `text` as one user message."""
    messages = value.get("messages")
    if messages is None:
        if "text" not in value:
            raise InputError(f"{where}: neither 'messages' nor 'text'; columns: {sorted(value)}")
        messages = [{"role": "user", "content": value["text"]}]
    if not isinstance(messages, list) or not messages:
        raise InputError(f"{where}: 'messages' must be a non-empty list of {{role, content}}")
    for message in messages:
        if not isinstance(message, dict) or set(message) != {"role", "content"}:
            raise InputError(f"{where}: a message must be {{role, content}}, saw {str(message)[:80]!r}")
        if message["role"] not in ROLES:
            raise InputError(f"{where}: role {message['role']!r}; expected one of {', '.join(ROLES)}")
        if not isinstance(message["content"], str) or not message["content"].strip():
            raise InputError(f"{where}: the {message['role']} message has no text")
        check_text(message["content"], where)
    return messages


def check_text(text: str, where: str) -> str:
    """`text` if it can be shown, stored and tokenised faithfully; raises InputError that says what is wrong with it."""
    if len(text) > MAX_CHARACTERS:
        raise InputError(f"{where}: text of {len(text):,} characters; the limit is {MAX_CHARACTERS:,}")
    if "\0" in text:
        raise InputError(f"{where}: a NUL character at position {text.index(chr(0))}")
    if found := _SURROGATE.search(text):
        raise InputError(f"{where}: a lone surrogate U+{ord(found[0]):04X} at position {found.start()}")
    if found := _REORDERING.search(text):
        raise InputError(f"{where}: the reordering character U+{ord(found[0]):04X} at position {found.start()}")
    return text

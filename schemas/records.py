"""Records as users bring them: JSONL or Parquet with `id` and `messages` (or `text`, read as one user message), and
optionally `labels`. Every flaw is refused with its file and line; nothing is repaired in silence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from schemas.artifacts import GoldRecord
from schemas.errors import InputError
from schemas.text import check_text

ROLES = ("system", "user", "assistant")
RECORD_SCHEMA = pl.Schema(
    {"id": pl.String(), "messages": GoldRecord.polars_schema()["messages"], "labels": pl.List(pl.String())}
)
NEEDED = "each record needs id, and text or messages; marginalia import reads other columns, by a mapping"
OWN_ID = "each record needs an id of its own; marginalia import keeps the first with duplicates: first in its mapping"
UNUSABLE = "mend the row; marginalia import leaves such rows out with unusable: skip in its mapping"
LABELS = "labels are a list of ids, [] where no category applies"


def read_records(path: Path) -> pl.DataFrame:
    """Records with the columns id, messages, labels (null where none are given), in file order.

    Raises InputError that names the line (JSONL, from 1) or the row (Parquet, from 0)."""
    rows = []
    seen: dict[str, str] = {}
    for place, value in read_rows(path):
        row = _record(path, place, value)
        if row["id"] in seen:
            twice = f"{path}: {place}: id '{row['id']}' stands there twice, first in {seen[row['id']]}"
            raise InputError(twice, hint=OWN_ID)
        seen[row["id"]] = place
        rows.append(row)
    if not rows:
        raise InputError.at(path, "holds no records", hint=NEEDED)
    return pl.DataFrame(rows, schema=RECORD_SCHEMA, orient="row")


def read_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, row) of a JSONL or Parquet file, where place reads `line 12` or `row 12`."""
    if not path.exists():
        raise InputError.at(path, "no such file", hint="expected a .jsonl or .parquet file")
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
            if number == 1 and raw.startswith(b"\xef\xbb\xbf"):
                problem = "begins with a byte order mark"
                raise InputError.at(path, problem, line=1, hint="save it as UTF-8 without one")
            try:
                value = json.loads(raw.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise InputError.at(
                    path, f"byte {error.start} is not UTF-8", line=number, hint="save it as UTF-8"
                ) from None
            except (ValueError, RecursionError) as error:  # a number of 5000 digits is a plain ValueError
                hint = "expected one JSON object a line"
                raise InputError.at(path, f"not a JSON object: {error}", line=number, hint=hint) from None
            if not isinstance(value, dict):
                seen = f"expected a JSON object, saw {type(value).__name__}"
                raise InputError.at(path, seen, line=number, hint="one JSON object a line")
            yield f"line {number}", value


def _parquet_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        frame = pl.read_parquet(path)
    except Exception as error:  # polars raises many kinds for damaged files
        problem = f"not a readable Parquet file: {str(error).partition(chr(10))[0]}"
        raise InputError.at(path, problem, hint="write it again, or give the records as JSONL") from error
    for number, row in enumerate(frame.iter_rows(named=True)):
        yield f"row {number}", row


def _record(path: Path, place: str, value: dict[str, Any]) -> dict[str, Any]:
    where = f"{path}: {place}"
    identifier = value.get("id")
    if isinstance(identifier, int) and not isinstance(identifier, bool):
        identifier = str(identifier)
    if "id" not in value:
        raise InputError(f"{where}: no column 'id'; it has {', '.join(sorted(value))}", hint=NEEDED)
    if not isinstance(identifier, str) or not identifier:
        raise InputError(f"{where}: 'id' must be a non-empty string, saw {identifier!r}", hint=NEEDED)
    check_text(identifier, f"{where}: id", hint=UNUSABLE)
    where = f"{where}: record '{identifier}'"
    labels = value.get("labels")
    if labels is not None and (not isinstance(labels, list) or any(not isinstance(item, str) for item in labels)):
        raise InputError(f"{where}: 'labels' must be a list of strings, saw {str(labels)[:80]!r}", hint=LABELS)
    for label in labels or []:
        check_text(label, f"{where}: labels", hint=UNUSABLE)
    return {"id": identifier, "messages": messages_of(value, where), "labels": labels}


def messages_of(value: dict[str, Any], where: str) -> list[dict[str, str]]:
    """The checked `messages` of a row, or its `text` as one user message."""
    messages = value.get("messages")
    if messages is None:
        if "text" not in value:
            raise InputError(f"{where}: neither 'messages' nor 'text'; it has {', '.join(sorted(value))}", hint=NEEDED)
        messages = [{"role": "user", "content": value["text"]}]
    if not isinstance(messages, list) or not messages:
        raise InputError(f"{where}: 'messages' must be a non-empty list of {{role, content}}", hint=NEEDED)
    for message in messages:
        if not isinstance(message, dict) or set(message) != {"role", "content"}:
            raise InputError(f"{where}: a message must be {{role, content}}, saw {str(message)[:80]!r}", hint=NEEDED)
        if message["role"] not in ROLES:
            raise InputError(f"{where}: role {message['role']!r}; expected one of {', '.join(ROLES)}", hint=UNUSABLE)
        if not isinstance(message["content"], str) or not message["content"].strip():
            raise InputError(f"{where}: the {message['role']} message has no text", hint=UNUSABLE)
        check_text(message["content"], where, hint=UNUSABLE)
    return messages

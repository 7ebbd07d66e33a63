"""Rows of JSONL: one JSON object per line."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Any

from marginalia.schemas.errors import InputError
from marginalia.schemas.sources.json_values import DuplicateKeyError, json_value

MOST_LINE_BYTES = 1 << 26
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def jsonl_rows(path: Path, file: BufferedReader) -> Iterator[tuple[str, dict[str, Any]]]:
    """(`line 12`, row) for each line that is not blank. Lines count from 1 and end at newlines only.

    Raises InputError for a line that is not a JSON object or has more than MOST_LINE_BYTES."""
    for number, raw in enumerate(iter(partial(file.readline, MOST_LINE_BYTES + 1), b""), start=1):
        if len(raw) > MOST_LINE_BYTES:
            problem = f"has more than {MOST_LINE_BYTES:,} bytes"
            raise InputError.at(path, problem, line=number, hint="expected one JSON object per line")
        line = raw.removeprefix(BYTE_ORDER_MARK) if number == 1 else raw
        if line.strip():
            yield f"line {number}", _row(path, number, line)


def _row(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        value = json_value(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        problem = f"byte {error.start} is not UTF-8"
        raise InputError.at(path, problem, line=number, hint="save it as UTF-8") from None
    except DuplicateKeyError as error:
        raise InputError.at(path, str(error), line=number, hint="give each key once") from None
    except (ValueError, RecursionError) as error:
        hint = "expected one JSON object per line"
        raise InputError.at(path, f"not a JSON object: {error}", line=number, hint=hint) from None
    if not isinstance(value, dict):
        seen = f"expected a JSON object, saw {type(value).__name__}"
        raise InputError.at(path, seen, line=number, hint="one JSON object per line")
    return value

"""Rows of a user's JSONL or Parquet file as plain Python values, each with its position in the file.

NaN is read as null, and JSON inside Parquet (the Arrow type `json`, which `datasets` writes for mixed values) is
parsed. Nothing else is changed: the caller checks the values."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marginalia.schemas.errors import InputError, MarginaliaError
from marginalia.schemas.storage.parquet_limits import check_size_in_memory
from marginalia.schemas.storage.regular_files import check_regular, open_regular

if TYPE_CHECKING:
    import pyarrow as pa

SourceRow = dict[str, Any]
Reader = Callable[[Any], Any]
BATCH_ROWS = 20  # few, because a dictionary can repeat one long text in all of them
MOST_LINE_BYTES = 1 << 26  # of a line of JSONL


class _DuplicateKeyError(ValueError):
    pass


def read_rows(path: Path) -> Iterator[tuple[str, SourceRow]]:
    """(position, row) for each row of a JSONL or Parquet file; position is `line 12` (from 1) or `row 12` (from 0).

    Raises InputError for a file that cannot be read, and for a line that is not a JSON object."""
    if not path.exists():
        raise InputError.at(path, "no such file", hint="expected a .jsonl or .parquet file")
    if path.is_dir():
        raise InputError.at(path, "is a folder, expected a .jsonl or .parquet file")
    check_regular(path)
    if path.suffix == ".parquet":
        yield from _parquet_rows(path)
    elif path.suffix in (".jsonl", ".ndjson", ".json"):
        yield from _jsonl_rows(path)
    else:
        raise InputError.at(path, f"unknown format '{path.suffix}'", hint="expected .jsonl or .parquet")


def _jsonl_rows(path: Path) -> Iterator[tuple[str, SourceRow]]:
    try:
        opened = os.fdopen(open_regular(path), "rb")
    except OSError as error:
        raise InputError.at(path, f"cannot read: {error.strerror}") from error
    with opened as file:
        for number, raw in enumerate(iter(partial(file.readline, MOST_LINE_BYTES + 1), b""), start=1):
            if len(raw) > MOST_LINE_BYTES:
                problem = f"has more than {MOST_LINE_BYTES:,} bytes"
                raise InputError.at(path, problem, line=number, hint="expected one JSON object per line")
            if not raw.strip():
                continue
            if number == 1 and raw.startswith(b"\xef\xbb\xbf"):
                problem = "begins with a byte order mark"
                raise InputError.at(path, problem, line=1, hint="save it as UTF-8 without one")
            try:
                value = _json_value(raw.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise InputError.at(
                    path, f"byte {error.start} is not UTF-8", line=number, hint="save it as UTF-8"
                ) from None
            except _DuplicateKeyError as error:
                raise InputError.at(path, str(error), line=number, hint="give each key once") from None
            except (ValueError, RecursionError) as error:  # a number of 5000 digits is a plain ValueError
                hint = "expected one JSON object per line"
                raise InputError.at(path, f"not a JSON object: {error}", line=number, hint=hint) from None
            if not isinstance(value, dict):
                seen = f"expected a JSON object, saw {type(value).__name__}"
                raise InputError.at(path, seen, line=number, hint="one JSON object per line")
            yield f"line {number}", value


def _json_value(text: str) -> Any:
    """Raises ValueError, also for a duplicate key in an object, of which `json` alone would keep the last."""
    return json.loads(text, object_pairs_hook=_object, parse_constant=_constant)


def _object(pairs: list[tuple[str, Any]]) -> SourceRow:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        raise _DuplicateKeyError(f"duplicate key '{next(name for name in names if names.count(name) > 1)}'")
    return value


def _constant(name: str) -> float | None:
    return None if name == "NaN" else float(name)


def _parquet_rows(path: Path) -> Iterator[tuple[str, SourceRow]]:
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            check_size_in_memory(path, file.metadata)
            names = file.schema_arrow.names
            if repeated := next((name for name in names if names.count(name) > 1), None):
                raise InputError.at(path, f"two columns are named '{repeated}'", hint="column names must be unique")
            readers = {field.name: _reader(field.type) for field in file.schema_arrow}
            needed = {name: reader for name, reader in readers.items() if reader is not None}
            for batch in file.iter_batches(BATCH_ROWS):
                for row in batch.to_pylist(maps_as_pydicts="strict"):
                    for name, reader in needed.items():
                        row[name] = _read(reader, row[name], f"{path}: row {number}: '{name}'")
                    yield f"row {number}", row
                    number += 1
    except MarginaliaError:
        raise
    except Exception as error:  # pyarrow raises many types for damaged files
        problem = f"not a readable Parquet file: {str(error).partition(chr(10))[0]}"
        raise InputError.at(path, problem, hint="write it again, or give the records as JSONL") from error


def _read(reader: Reader, value: Any, where: str) -> Any:
    try:
        return reader(value)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON: {error}", hint="fix the row, or store the column as text") from None


def _reader(dtype: pa.DataType) -> Reader | None:
    """Converts a value of this Arrow type to a plain one; None if pyarrow already gives a plain value."""
    reader = _reader_of_values(dtype)
    return None if reader is None else lambda value: None if value is None else reader(value)


def _reader_of_values(dtype: pa.DataType) -> Reader | None:
    """The same for values that are not null."""
    import pyarrow as pa

    if isinstance(dtype, pa.JsonType):
        return _json_value
    if isinstance(dtype, pa.UuidType):
        return str
    if pa.types.is_floating(dtype):
        return lambda value: None if math.isnan(value) else value
    if pa.types.is_dictionary(dtype):
        return _reader(dtype.value_type)
    if pa.types.is_struct(dtype):
        fields = {field.name: reader for field in dtype if (reader := _reader(field.type)) is not None}
        return (lambda value: value | {name: read(value[name]) for name, read in fields.items()}) if fields else None
    if pa.types.is_map(dtype) and (read_item := _reader(dtype.item_type)):
        return lambda value: {key: read_item(item) for key, item in value.items()}
    if hasattr(dtype, "value_type") and (read_element := _reader(dtype.value_type)):  # lists of all types
        return lambda value: [read_element(element) for element in value]
    return None

"""Rows of somebody's JSONL or Parquet file as plain Python values, with the place of each.

NaN is read as null, JSON inside Parquet (the Arrow type `json`, which `datasets` writes for mixed values) as the value
that it stands for. Nothing else is changed: whether a value fits is for the reader of the row to say."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marginalia.schemas.errors import InputError, MarginaliaError

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]
Reader = Callable[[Any], Any]
BATCH_ROWS = 1000


class _DuplicateKeyError(ValueError):
    pass


def read_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """(place, row) of a JSONL or Parquet file, where place reads `line 12` (from 1) or `row 12` (from 0)."""
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


def _jsonl_rows(path: Path) -> Iterator[tuple[str, Row]]:
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
                value = _json_value(raw.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise InputError.at(
                    path, f"byte {error.start} is not UTF-8", line=number, hint="save it as UTF-8"
                ) from None
            except _DuplicateKeyError as error:
                raise InputError.at(path, str(error), line=number, hint="give each key once") from None
            except (ValueError, RecursionError) as error:  # a number of 5000 digits is a plain ValueError
                hint = "expected one JSON object a line"
                raise InputError.at(path, f"not a JSON object: {error}", line=number, hint=hint) from None
            if not isinstance(value, dict):
                seen = f"expected a JSON object, saw {type(value).__name__}"
                raise InputError.at(path, seen, line=number, hint="one JSON object a line")
            yield f"line {number}", value


def _json_value(text: str) -> Any:
    """Raises ValueError, also for a key that an object has twice: json would take the last one."""
    return json.loads(text, object_pairs_hook=_object, parse_constant=_constant)


def _object(pairs: list[tuple[str, Any]]) -> Row:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _DuplicateKeyError(f"duplicate key '{next(name for name in names if names.count(name) > 1)}'")
    return found


def _constant(name: str) -> float | None:
    return None if name == "NaN" else float(name)


def _parquet_rows(path: Path) -> Iterator[tuple[str, Row]]:
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if repeated := next((name for name in names if names.count(name) > 1), None):
                raise InputError.at(path, f"two columns are called '{repeated}'", hint="give each a name of its own")
            readers = {field.name: _reader(field.type) for field in file.schema_arrow}
            changed = {name: reader for name, reader in readers.items() if reader is not None}
            for batch in file.iter_batches(BATCH_ROWS):
                for row in batch.to_pylist(maps_as_pydicts="strict"):
                    for name, reader in changed.items():
                        row[name] = _read(reader, row[name], f"{path}: row {number}: '{name}'")
                    yield f"row {number}", row
                    number += 1
    except MarginaliaError:
        raise
    except Exception as error:  # pyarrow raises many kinds for damaged files
        problem = f"not a readable Parquet file: {str(error).partition(chr(10))[0]}"
        raise InputError.at(path, problem, hint="write it again, or give the records as JSONL") from error


def _read(reader: Reader, value: Any, where: str) -> Any:
    try:
        return reader(value)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON: {error}", hint="mend the row, or give the column as text") from None


def _reader(kind: pa.DataType) -> Reader | None:
    """How a value of this Arrow type becomes a plain one; None: it stays as pyarrow gives it."""
    reader = _reader_of_values(kind)
    return None if reader is None else lambda value: None if value is None else reader(value)


def _reader_of_values(kind: pa.DataType) -> Reader | None:
    """The same for values that are not null."""
    import pyarrow as pa

    if isinstance(kind, pa.JsonType):
        return _json_value
    if isinstance(kind, pa.UuidType):
        return str
    if pa.types.is_floating(kind):
        return lambda value: None if math.isnan(value) else value
    if pa.types.is_dictionary(kind):
        return _reader(kind.value_type)
    if pa.types.is_struct(kind):
        fields = {field.name: reader for field in kind if (reader := _reader(field.type)) is not None}
        return (lambda value: value | {name: read(value[name]) for name, read in fields.items()}) if fields else None
    if pa.types.is_map(kind) and (read_item := _reader(kind.item_type)):
        return lambda value: {key: read_item(item) for key, item in value.items()}
    if hasattr(kind, "value_type") and (read_element := _reader(kind.value_type)):  # lists of all kinds
        return lambda value: [read_element(element) for element in value]
    return None

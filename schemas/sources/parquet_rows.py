"""Rows of Parquet as plain Python values.

NaN is read as null, and JSON inside Parquet (the Arrow type `json`, which `datasets` writes for mixed values) is
parsed. Nothing else is changed: the caller checks the values."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from marginalia.schemas.errors import InputError, MarginaliaError
from marginalia.schemas.sources.json_values import json_value
from marginalia.schemas.sources.unpacking import open_unpacked
from marginalia.schemas.storage.parquet_limits import check_size_in_memory

if TYPE_CHECKING:
    import pyarrow as pa

Reader = Callable[[Any], Any]
BATCH_ROWS = 20  # few, because a dictionary can repeat one long text in all of them


@contextmanager
def _seekable(path: Path, codec: str | None) -> Iterator[Path | IO[bytes]]:
    """The file for pyarrow, which reads its end first: a compressed one is unpacked into a temporary file."""
    if codec is None:
        yield path
        return
    with open_unpacked(path, codec) as packed, tempfile.TemporaryFile() as unpacked:
        shutil.copyfileobj(packed, unpacked)
        yield unpacked


def parquet_rows(path: Path, codec: str | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """(`row 12`, row) for each row, from 0. Raises InputError for a damaged file, two columns of the same name, and
    columns that are far larger in memory than on disk."""
    import pyarrow.parquet as pq

    number = 0
    try:
        with _seekable(path, codec) as opened, pq.ParquetFile(opened) as file:
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
        return json_value
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

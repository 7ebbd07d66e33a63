"""Refuses Parquet files that are small on disk and very large in memory, before their values are read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from marginalia.schemas.errors import InputError

if TYPE_CHECKING:
    from pyarrow.parquet import FileMetaData

MOST_BYTES = 1 << 26  # of one column of one row group, if it is also MOST_RATIO times as large as on disk
MOST_DICTIONARY = 1 << 24  # the same for a column with a dictionary, whose values can be repeated in every row
MOST_RATIO = 100
HINT = "write it again with smaller row groups, or give the records as JSONL"


def check_size_in_memory(path: Path, metadata: FileMetaData) -> None:
    """Raises InputError for a column that grows to more than MOST_RATIO times its size on disk when it is read, and
    would then be large. Texts and numbers are usually compressed to between a half and a thirtieth."""
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group)
        for index in range(rows.num_columns):
            column = rows.column(index)
            size, on_disk = column.total_uncompressed_size, column.total_compressed_size
            most = MOST_DICTIONARY if column.has_dictionary_page else MOST_BYTES
            if size > most and size > MOST_RATIO * max(on_disk, 1):
                problem = (
                    f"column '{column.path_in_schema}' has {size:,} bytes in memory and {on_disk:,} on disk; at most "
                    f"{most:,} bytes, or {MOST_RATIO} times those on disk, are read"
                )
                raise InputError.at(path, problem, hint=HINT)


def check_file_in_memory(path: Path) -> None:
    """The same for a file that another library reads. A damaged file is left for that library to report."""
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(path)
    except Exception:  # pyarrow raises many types for damaged files
        return
    check_size_in_memory(path, metadata)

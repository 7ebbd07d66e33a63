"""Tables that are too large for memory, or for readers other than ours: written piece by piece, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import IO

import polars as pl

from marginalia.schemas.storage.files import check_frame, write_whole
from marginalia.schemas.table_row import Row


def write_frames(path: Path, frames: Iterable[pl.DataFrame], model: type[Row]) -> int:
    """Writes the frames below each other as one Parquet file, a row group each; returns the number of rows.

    Each is checked against the row model on its own: that no key comes twice in two of them is the caller's matter.
    The file names no Arrow types, so that every reader takes its own plain ones: polars' large_string and large_list
    would keep `datasets` from joining the table with others."""
    import pyarrow.parquet as pq

    empty = model.frame([])
    rows = 0

    def write(file: IO[bytes]) -> None:
        nonlocal rows
        with pq.ParquetWriter(file, empty.to_arrow().schema, compression="zstd", store_schema=False) as writer:
            for frame in frames:
                checked = check_frame(path, frame, model)
                writer.write_table(checked.to_arrow())
                rows += checked.height

    write_whole(path, write)
    return rows

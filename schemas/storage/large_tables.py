"""Tables that are too large for memory, written frame by frame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

import polars as pl

from marginalia.schemas.storage.files import check_frame, write_whole
from marginalia.schemas.table_row import Row


def write_frames(path: Path, frames: Iterable[pl.DataFrame], model: type[Row], *, without: Sequence[str] = ()) -> int:
    """Writes the frames as the row groups of one Parquet file, completely or not at all; returns the number of rows.

    Each frame is checked against the row model on its own; the caller ensures that no key is in two of them. The Arrow
    schema is not stored, because with polars' large_string and large_list `datasets` cannot concatenate the table with
    others. `without`: columns that the file does not have; the model must allow files to lack them."""
    import pyarrow.parquet as pq

    empty = model.frame([]).drop(without)
    rows = 0

    def write(file: IO[bytes]) -> None:
        nonlocal rows
        with pq.ParquetWriter(file, empty.to_arrow().schema, compression="zstd", store_schema=False) as writer:
            for frame in frames:
                checked = check_frame(path, frame, model).drop(without)
                writer.write_table(checked.to_arrow())
                rows += checked.height

    write_whole(path, write)
    return rows

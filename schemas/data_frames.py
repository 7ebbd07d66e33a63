"""Data frames from Python: polars, pandas, or any table that follows Arrow's PyCapsule interface.

pandas is not needed. Its frames are read through their own methods and through pyarrow, and a frame is made from the
class of the frame that was given."""

from __future__ import annotations

from typing import Any

import polars as pl

from marginalia.schemas.errors import InputError

KINDS = "a polars or pandas DataFrame"


def is_pandas(frame: object) -> bool:
    """Whether this is a pandas DataFrame."""
    return type(frame).__module__.partition(".")[0] == "pandas" and type(frame).__name__ == "DataFrame"


def is_frame(frame: object) -> bool:
    """Whether `as_polars` accepts this."""
    if isinstance(frame, pl.DataFrame | pl.LazyFrame) or is_pandas(frame):
        return True
    # a single column, such as a polars Series, has the first of these and not the second
    return hasattr(frame, "__arrow_c_stream__") and hasattr(frame, "column_names")


def as_polars(frame: Any, name: str) -> pl.DataFrame:
    """The table as a polars frame; pandas' missing values become nulls, and its index is left out.

    `name` is what a message calls it. Raises InputError for anything else, and for a column of mixed types."""
    if isinstance(frame, pl.LazyFrame):
        return frame.collect()
    if isinstance(frame, pl.DataFrame):
        return frame
    try:
        if is_pandas(frame):
            return pl.from_pandas(frame)
        if is_frame(frame):
            return pl.DataFrame(frame)
    except Exception as error:  # pandas columns can hold anything, and pyarrow has an exception for each
        raise InputError(
            f"{name}: cannot read this frame: {error}", hint="give each column values of one type"
        ) from error
    raise InputError(f"{name} must be {KINDS}, saw {type(frame).__name__}")


def column_values(frame: Any, name: str) -> list[Any]:
    """The cells of one column as Python values, each as it is: a wrong one must not make the others unreadable."""
    if is_pandas(frame):
        return list(frame[name].tolist())
    return list(as_polars(frame, "the frame")[name].to_list())


def columns_of(frame: Any) -> list[str]:
    """The names of the columns."""
    if is_pandas(frame):
        return [str(name) for name in frame.columns]
    return as_polars(frame, "the frame").columns


def like(frame: Any, made: pl.DataFrame) -> Any:
    """`made` as the same kind of frame as `frame`: pandas for pandas, otherwise polars."""
    return made.to_pandas() if is_pandas(frame) else made

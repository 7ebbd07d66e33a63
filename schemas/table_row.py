"""The base class of table rows. A pydantic model describes one row; the polars schema is derived from it."""

from __future__ import annotations

import types
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Literal, Union, get_args, get_origin

import polars as pl
from pydantic import BaseModel

from marginalia.schemas.base_model import StrictModel

_SCALARS: Mapping[type, pl.DataType] = {
    str: pl.String(),
    int: pl.Int64(),
    float: pl.Float64(),
    bool: pl.Boolean(),
    datetime: pl.Datetime("us", "UTC"),
}


class Row(StrictModel):
    """One row of a table. `key` names the columns that identify a row: never null, and unique together."""

    key: ClassVar[tuple[str, ...]] = ()
    open_ended: ClassVar[bool] = False  # further string columns may follow (the attributes of a plan)

    @classmethod
    def polars_schema(cls) -> pl.Schema:
        """The columns and their types, in the order of the fields."""
        return pl.Schema({name: dtype_of(field.annotation) for name, field in cls.model_fields.items()})

    @classmethod
    def required(cls) -> list[str]:
        """Columns that may not contain nulls."""
        return [name for name, field in cls.model_fields.items() if not _optional(field.annotation)]

    @classmethod
    def added_later(cls) -> list[str]:
        """Columns that files of older versions may lack: those with a default, which is null."""
        return [name for name, field in cls.model_fields.items() if not field.is_required()]

    @classmethod
    def choices(cls) -> dict[str, list[str]]:
        """Column → the values that it may contain, for columns with a fixed set of values."""
        literals = {name: _literal_values(field.annotation) for name, field in cls.model_fields.items()}
        return {name: values for name, values in literals.items() if values}

    @classmethod
    def frame(cls, rows: list[dict[str, Any]]) -> pl.DataFrame:
        """A frame of these rows with exactly this model's columns, also if `rows` is empty."""
        return pl.DataFrame(rows, schema=cls.polars_schema(), orient="row")


def dtype_of(annotation: Any) -> pl.DataType:
    """The polars type of a field's annotation: a scalar, `X | None`, `list[X]`, `Literal` or a nested model."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        (inner,) = (arg for arg in get_args(annotation) if arg is not type(None))
        return dtype_of(inner)
    if origin is list:
        return pl.List(dtype_of(get_args(annotation)[0]))
    if origin is Literal:
        return pl.String()
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return pl.Struct({name: dtype_of(field.annotation) for name, field in annotation.model_fields.items()})
    return _SCALARS[annotation]


def _literal_values(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [value for part in get_args(annotation) for value in _literal_values(part)] if _optional(annotation) else []


def _optional(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType) and type(None) in get_args(annotation)

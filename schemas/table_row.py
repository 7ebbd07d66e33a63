"""A row of an artifact is a pydantic model; its polars schema and its JSON Schema are both read off that model."""

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
    """One row of a tabular artifact. `key` names the columns that identify a row; they are never null or repeated."""

    key: ClassVar[tuple[str, ...]] = ()
    open_ended: ClassVar[bool] = False  # more string columns may follow (the attributes of a plan)

    @classmethod
    def polars_schema(cls) -> pl.Schema:
        return pl.Schema({name: dtype_of(field.annotation) for name, field in cls.model_fields.items()})

    @classmethod
    def required(cls) -> list[str]:
        """Columns that may hold no null."""
        return [name for name, field in cls.model_fields.items() if not _optional(field.annotation)]

    @classmethod
    def added_later(cls) -> list[str]:
        """Columns that files of an older version lack: those with a default, which is null."""
        return [name for name, field in cls.model_fields.items() if not field.is_required()]

    @classmethod
    def choices(cls) -> dict[str, list[str]]:
        """The words that a column may hold, for columns of a closed set."""
        literals = {name: _literal(field.annotation) for name, field in cls.model_fields.items()}
        return {name: words for name, words in literals.items() if words}

    @classmethod
    def frame(cls, rows: list[dict[str, Any]]) -> pl.DataFrame:
        """A frame of these rows with exactly this model's columns, also when there are none."""
        return pl.DataFrame(rows, schema=cls.polars_schema(), orient="row")


def dtype_of(annotation: Any) -> pl.DataType:
    """The polars type of a column annotated so: scalars, `X | None`, `list[X]`, `Literal` and nested models."""
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


def _literal(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [word for part in get_args(annotation) for word in _literal(part)] if _optional(annotation) else []


def _optional(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType) and type(None) in get_args(annotation)

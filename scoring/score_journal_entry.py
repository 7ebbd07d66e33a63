"""Checks the lines of a score journal before tables are made from them."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from marginalia.schemas.tables import LevelScore


class Entry(BaseModel):
    """One journal line. `scores`: by estimator, three lists with the probability, lower and upper bound of each of
    `rows`; the probability is null where only the bounds are known. `levels`: only in lines of guards that have any."""

    model_config = ConfigDict(extra="allow", strict=True)
    id: str
    key: str
    rows: list[str]
    scores: dict[str, list[list[float | None]]]
    answer: str | None
    predicted: list[str] | None
    off_language: float | None
    unexplored: float | None
    nodes: int
    forward_passes: int
    seconds: float
    error: str | None
    levels: list[LevelScore] | None = None

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        for name, numbers in self.scores.items():
            if [len(column) for column in numbers] != [len(self.rows)] * 3:
                raise ValueError(f"{name}: expected 3 × {len(self.rows)} numbers")
            if None in numbers[1] or None in numbers[2]:
                raise ValueError(f"{name}: a bound is null")
        return self


KEYS = tuple(name for name, field in Entry.model_fields.items() if field.is_required())


def check_entry(entry: dict[str, Any]) -> None:
    """Raises ValueError with the first invalid field."""
    try:
        Entry.model_validate(entry)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{where}: {first['msg']}" if where else first["msg"]) from None

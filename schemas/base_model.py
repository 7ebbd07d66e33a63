"""The base class of all models, the pattern of ids, and the error that validators raise."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError

ID_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,63}$"
LOCATED = "located"  # pydantic's type of the errors that located_error makes


class StrictModel(BaseModel):
    """A pydantic model that is frozen and refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def located_error(message: str, *at: int | str, hint: str | None = None) -> PydanticCustomError:
    """An error for a validator to raise. `at` is the path (keys and indices) of the wrong part inside the validated
    value; `load_yaml` turns it into a line number."""
    return PydanticCustomError(LOCATED, "{message}", {"message": message, "at": at, "hint": hint})

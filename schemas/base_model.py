"""The base of every model: frozen, and a key that it does not know is an error. And the form of our ids."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError

ID_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,63}$"


class StrictModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def flaw(message: str, *at: int | str, hint: str | None = None) -> PydanticCustomError:
    """An error for a validator to raise, about the place `at` (keys and numbers) inside the value that it validates."""
    return PydanticCustomError("flaw", "{message}", {"message": message, "at": at, "hint": hint})

"""The base of every model: frozen, and a key that it does not know is an error. And the form of our ids."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

ID_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,63}$"


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

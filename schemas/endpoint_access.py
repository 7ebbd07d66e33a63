"""What the sections for an OpenAI-compatible endpoint have in common: its key, and further keys of each request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, field_validator

from marginalia.schemas.base_model import StrictModel
from marginalia.schemas.extra_body import check_extra_body
from marginalia.schemas.server_addresses import check_variable


class EndpointAccess(StrictModel):
    """How an endpoint is reached. `OWN_KEYS`: keys of a request that extra_body cannot hold, with the config key that
    changes each, None where there is none."""

    OWN_KEYS: ClassVar[Mapping[str, str | None]] = {}

    api_key_env: str | None = Field(
        default=None, description="name of the environment variable that holds the key (never the key itself)"
    )
    allow_http: bool = Field(
        default=False,
        exclude=True,  # changes no answer
        description="send the key unencrypted to an http:// address of another machine",
    )
    extra_body: dict[str, Any] = Field(
        default={},
        exclude_if=lambda value: not value,  # configs without it keep their hash
        description="additional keys for each request, as in the endpoint's API, such as {enable_thinking: false} or "
        "{min_p: 0.05}",
    )

    @field_validator("api_key_env")
    @classmethod
    def _variable(cls, value: str | None) -> str | None:
        return None if value is None else check_variable(value)

    @field_validator("extra_body")
    @classmethod
    def _extra_body(cls, value: dict[str, Any]) -> dict[str, Any]:
        return check_extra_body(value, cls.OWN_KEYS)

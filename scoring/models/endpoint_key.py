"""The key of an endpoint, from the environment."""

from __future__ import annotations

import os

from marginalia.schemas.endpoint_access import EndpointAccess
from marginalia.schemas.errors import InputError


def endpoint_key(options: EndpointAccess) -> str | None:
    """The key in the variable that `api_key_env` names; None when it names none. Raises InputError when the variable is
    not set, or holds what cannot be a key."""
    if options.api_key_env is None:
        return None
    key = os.environ.get(options.api_key_env, "").strip()
    if not key:
        raise InputError(
            f"the environment variable {options.api_key_env}, which should hold the endpoint's key, is not set",
            hint=f"export {options.api_key_env}=…, or change api_key_env (--api-key-env)",
        )
    if not (key.isascii() and key.isprintable()):
        raise InputError(f"the environment variable {options.api_key_env} contains characters that a key cannot have")
    return key

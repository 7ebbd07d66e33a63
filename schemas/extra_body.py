"""`extra_body`: keys that a user adds to each request to an OpenAI-compatible server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def check_extra_body(body: dict[str, Any], own: Mapping[str, str | None]) -> dict[str, Any]:
    """`body`, if all of it may be added. `own`: keys that we set ourselves, with the config key that changes each, None
    where there is none. Raises ValueError."""
    for name in body:
        if name in own:
            setting = own[name]
            instead = f"set {setting} instead" if setting else "it must be what it is"
            raise ValueError(f"extra_body cannot hold '{name}', which each request has already: {instead}")
    try:
        json.dumps(body, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"extra_body cannot be written as JSON: {error}") from None
    return body

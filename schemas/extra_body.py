"""`extra_body`: keys that a user adds to each request to an OpenAI-compatible server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def check_extra_body(body: dict[str, Any], own: Mapping[str, str | None]) -> dict[str, Any]:
    """Returns `body` if all its keys may be added. `own` maps each key that every request already has to the config key
    that sets it, or to None if it cannot be changed. Raises ValueError for these keys, and for values that are not
    JSON."""
    for name in body:
        if name in own:
            setting = own[name]
            instead = f"set {setting} instead" if setting else "it cannot be changed"
            raise ValueError(f"extra_body cannot hold '{name}', which every request already has: {instead}")
    try:
        json.dumps(body, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"extra_body cannot be written as JSON: {error}") from None
    return body

"""Addresses and keys of servers as they stand in configs: an address and nothing more, and where the key is found."""

from __future__ import annotations

import re
from urllib.parse import urlsplit


def check_address(url: str) -> str:
    """`url` without a slash at its end. Raises ValueError, which does not repeat it, when it is no http address or
    holds a name, a password or a query, any of which may be a key."""
    try:
        parts = urlsplit(url)
        plain = bool(parts.hostname) and parts.port != 0
        plain = plain and not (parts.username or parts.password or parts.query or parts.fragment)
    except ValueError:  # [ without ], a port that is no number
        plain = False
    if not plain or not url.startswith(("http://", "https://")) or any(letter.isspace() for letter in url):
        raise ValueError(
            "expected an address and nothing more, such as http://127.0.0.1:8000/v1; "
            "a key belongs in an environment variable, which api_key_env names"
        )
    return url.rstrip("/")


def check_variable(name: str) -> str:
    """`name` if it can name an environment variable. Raises ValueError, which does not repeat it: it may be a key."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", name):
        raise ValueError("expected the NAME of an environment variable, such as OPENAI_API_KEY, not a key")
    return name

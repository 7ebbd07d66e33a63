"""Finds personal identifiers and secrets in a text.

Identifiers are the ones that the generation filter replaces, so generated texts always pass."""

from __future__ import annotations

import re

from marginalia.pipeline.generation.acceptance.reserved_identifiers import clean

# not personal: the generation filter replaces web addresses for another reason
_PUBLIC = {"web address"}
_SECRET = re.compile(
    r"\bhf_[A-Za-z0-9]{20,}|\bsk-[A-Za-z0-9_-]{20,}|\bgh[pousr]_[A-Za-z0-9]{30,}|\bAKIA[A-Z0-9]{16}\b"
    r"|\bxox[abprs]-[A-Za-z0-9-]{10,}|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)


def private_data(text: str) -> list[str]:
    """The kinds of private data in `text`, each once: e-mail address, phone number, card number and so on, secret."""
    cleaned = clean(text)
    kinds = [kind for kind in cleaned.replaced if kind not in _PUBLIC]
    return [*kinds, *([cleaned.refused] if cleaned.refused else []), *(["secret"] if contains_secret(text) else [])]


def contains_secret(text: str) -> bool:
    """Whether `text` contains what looks like an access token or a private key."""
    return _SECRET.search(text) is not None

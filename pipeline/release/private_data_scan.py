"""What in a text could belong to a person or open a door. Identifiers are those that the generation filter replaces, so
that what we wrote ourselves always passes; secrets are looked for besides."""

from __future__ import annotations

import re

from marginalia.pipeline.generation.acceptance.reserved_identifiers import clean

# a link is no person's secret; the filter replaces them for another reason
_PUBLIC = {"web address"}
_SECRET = re.compile(
    r"\bhf_[A-Za-z0-9]{20,}|\bsk-[A-Za-z0-9_-]{20,}|\bgh[pousr]_[A-Za-z0-9]{30,}|\bAKIA[A-Z0-9]{16}\b"
    r"|\bxox[abprs]-[A-Za-z0-9-]{10,}|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)


def private_data(text: str) -> list[str]:
    """The kinds found in `text`, each once: e-mail address, phone number, card number and so on, secret."""
    cleaned = clean(text)
    kinds = [kind for kind in cleaned.replaced if kind not in _PUBLIC]
    return [*kinds, *([cleaned.refused] if cleaned.refused else []), *(["secret"] if holds_secret(text) else [])]


def holds_secret(text: str) -> bool:
    """Whether something like an access token or a private key stands in `text`."""
    return _SECRET.search(text) is not None

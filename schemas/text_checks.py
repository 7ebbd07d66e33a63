"""Text that can be shown, stored and tokenised as it stands, and what is wrong with text that cannot."""

from __future__ import annotations

import re

from marginalia.schemas.errors import InputError

MAX_CHARACTERS = 1_000_000
# invisible characters that reorder what a reader sees (Unicode UAX 9 overrides and isolates)
_REORDERING = re.compile("[\u202a-\u202e\u2066-\u2069]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def flaw_of(text: str) -> str | None:
    """What is wrong with `text` and at which character (from 0); None when nothing is."""
    if problem := too_long(text):
        return problem
    if "\0" in text:
        return f"a NUL character at position {text.index(chr(0))}"
    if found := _SURROGATE.search(text):
        return f"a lone surrogate U+{ord(found[0]):04X} at position {found.start()}"
    if found := _REORDERING.search(text):
        return f"the reordering character U+{ord(found[0]):04X} at position {found.start()}"
    return None


def too_long(text: str) -> str | None:
    """What is wrong with the length of `text`, if anything."""
    return f"text of {len(text):,} characters; the limit is {MAX_CHARACTERS:,}" if len(text) > MAX_CHARACTERS else None


def check_text(text: str, where: str, *, hint: str | None = None) -> str:
    """`text` if nothing is wrong with it; raises InputError, with `where` in front, otherwise."""
    if problem := flaw_of(text):
        raise InputError(f"{where}: {problem}", hint=hint)
    return text

"""Escapes text for Markdown, so that text from configs and files never becomes markup or a new table cell."""

from __future__ import annotations

import re

_MARKUP = re.compile(r"([\\`*_{}\[\]()#+!|<>~&])")


def inline(text: str) -> str:
    """`text` on one line with all markup escaped."""
    return (
        _MARKUP.sub(r"\\\1", " ".join(text.split()))
        .replace("\\<", "&lt;")
        .replace("\\>", "&gt;")
        .replace("\\&", "&amp;")
    )


def code(text: str) -> str:
    """`text` on one line as a code span that is valid in a table cell. Backticks and pipes are replaced."""
    return "`" + " ".join(text.replace("`", "'").replace("|", "¦").split()) + "`"

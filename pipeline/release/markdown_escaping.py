"""Text of others inside Markdown: never markup, never a table cell of its own."""

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
    """`text` on one line as a code span, fit for table cells."""
    return "`" + " ".join(text.replace("`", "'").replace("|", "¦").split()) + "`"

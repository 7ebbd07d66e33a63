"""Escapes text for its place in a Markdown file, so that text from configs and files never becomes markup, a link, a
new table cell or the end of a block."""

from __future__ import annotations

import re

from marginalia.schemas.base_model import ID_PATTERN
from marginalia.schemas.text_checks import displayable

_MARKUP = re.compile(r"([\\`*_{}\[\]()#+!|<>~&$@])|(?<=www)(\.)|(:)(?=//)")
_BLOCK_START = re.compile(r"^([-=])|^(\d{1,9})([.)])")  # a list item, a line, the underline of a heading
_ADDRESS = re.compile(r"https?://[A-Za-z0-9.-]+(:\d+)?(/[A-Za-z0-9._~/?=&%#+,;:@-]*)?|[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+")
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
# braces cannot be escaped in BibTeX, which counts them
_LATEX = {"\\": r"\textbackslash ", "{": "(", "}": ")", "~": r"\textasciitilde ", "^": r"\textasciicircum "}


def inline(text: str) -> str:
    """`text` on one line with all markup escaped, and without links."""
    line = " ".join(displayable(text).split())
    line = _MARKUP.sub(lambda match: _ENTITIES.get(match[0], f"\\{match[0]}"), line)
    return _BLOCK_START.sub(lambda match: f"{match[2] or ''}\\{match[1] or match[3]}", line)


def code(text: str) -> str:
    """`text` on one line as a code span that is valid in a table cell. Backticks and pipes are replaced."""
    line = " ".join(displayable(text).replace("`", "'").replace("|", "¦").split())
    return f"`{line or ' '}`"


def link(text: str) -> str:
    """`text` as a link if it is nothing but a web or e-mail address, else as `inline`."""
    return f"<{text}>" if _ADDRESS.fullmatch(text) else inline(text)


def label_id(text: str) -> str:
    """A label's id: as it is if it can be one, else as `inline`."""
    return text if re.fullmatch(ID_PATTERN, text) else inline(text)


def fenced(text: str, language: str) -> str:
    """`text` as a block of code, whose fence is longer than any row of backticks in it."""
    shown = displayable(text).strip()
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", shown)), default=0))
    return f"{fence}{language}\n{shown}\n{fence}"


def paragraphs(text: str) -> str:
    """`text` with all markup escaped; its empty lines divide paragraphs."""
    return "\n\n".join(inline(part) for part in re.split(r"\n\s*\n", text.strip()))


def bibtex(text: str) -> str:
    """`text` as a value between the braces of a BibTeX field."""
    line = " ".join(displayable(text).split())
    return re.sub(r"[\\{}~^]|[%$&#_]", lambda match: _LATEX.get(match[0], f"\\{match[0]}"), line)

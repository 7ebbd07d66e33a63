"""Checks that a text can be shown, stored and tokenised unchanged."""

from __future__ import annotations

import re

from marginalia.schemas.errors import InputError

MAX_CHARACTERS = 1_000_000
# invisible characters that change the displayed order (Unicode UAX 9 overrides and isolates)
_REORDERING = re.compile("[\u202a-\u202e\u2066-\u2069]")
# what ends a line or moves the cursor: control characters, Unicode's line ends, and the marks that reorder
_NOT_ON_ONE_LINE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


# not shown, or not allowed in XML and HTML; tab and the line ends \n and \r are
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")


def text_problem(text: str) -> str | None:
    """What is wrong with `text` and at which character (from 0); None if nothing is."""
    if problem := too_long(text):
        return problem
    if "\0" in text:
        return f"a NUL character at position {text.index(chr(0))}"
    if match := _SURROGATE.search(text):
        return f"a lone surrogate U+{ord(match[0]):04X} at position {match.start()}"
    if match := _REORDERING.search(text):
        return f"the reordering character U+{ord(match[0]):04X} at position {match.start()}"
    return None


def too_long(text: str) -> str | None:
    """The problem with the length of `text`, or None."""
    return f"text of {len(text):,} characters; the limit is {MAX_CHARACTERS:,}" if len(text) > MAX_CHARACTERS else None


def displayable(text: str) -> str:
    """`text` for pages and files that people read: characters that reorder the text around them are left out, and
    control characters, which XML cannot hold, are replaced by U+FFFD."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", _REORDERING.sub("", text))


def not_a_formula(text: str) -> str:
    """`text` for a cell of a CSV file, quoted if a spreadsheet would take it for a formula. A carriage return would end
    the row."""
    text = text.replace("\r", "\n")
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\n")) else text


def one_line(text: str) -> str:
    """`text` on one line, for names and notes that others wrote: each run of line ends and control characters becomes
    one space. A text without any is returned unchanged."""
    return " ".join(_NOT_ON_ONE_LINE.sub(" ", text).split()) if _NOT_ON_ONE_LINE.search(text) else text


def check_text(text: str, where: str, *, hint: str | None = None) -> str:
    """Returns `text` if nothing is wrong with it; otherwise raises InputError, with `where` in front."""
    if problem := text_problem(text):
        raise InputError(f"{where}: {problem}", hint=hint)
    return text

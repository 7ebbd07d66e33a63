"""When two texts count as equal: the normalisation used to find duplicates and to keep equal texts in one split."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache


def _ranges(category: str) -> Iterator[tuple[int, int]]:
    first = None
    for code in range(0x300, 0x20001):
        if unicodedata.category(chr(code))[0] == category and code < 0x20000:
            first = code if first is None else first
        elif first is not None:
            yield first, code - 1
            first = None


# combining marks (Unicode category M, below U+20000), to put inside a regular expression's character class
MARKS = "".join(f"{chr(first)}-{chr(last)}" for first, last in _ranges("M"))
_WORD = re.compile(r"\w+")
# \w does not match vowel signs and tone marks (Indic scripts, Thai and others), which are parts of words
_MARKED_WORD = re.compile(rf"[\w{MARKS}]+")


@lru_cache(maxsize=4)  # the same text is folded once for each list that it is compared with
def fold(text: str) -> str:
    """The words of `text`, case-folded, in Unicode NFKC and separated by single spaces; punctuation is dropped."""
    if text.isascii():
        return " ".join(_WORD.findall(text.casefold()))
    return " ".join(_MARKED_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def same_text(messages: Sequence[Mapping[str, str]]) -> str:
    """A key that is equal for two records if and only if their messages have the same roles and the same folded texts.

    A text without words (emoji, punctuation) folds to an empty string; then the text itself is compared."""
    parts = ((message["role"], fold(message["content"]) or message["content"].strip()) for message in messages)
    return "\0".join(f"{role}\0{text}" for role, text in parts)

"""When two texts are the same text: the normalisation that finds duplicates and keeps equal texts in one split."""

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


# combining marks (Unicode's category M, below U+20000) as the inside of a character class
MARKS = "".join(f"{chr(first)}-{chr(last)}" for first, last in _ranges("M"))
_WORD = re.compile(r"\w+")
# vowel signs and tone marks of Indic scripts, Thai and others are no letters to Python, and yet parts of a word
_MARKED_WORD = re.compile(rf"[\w{MARKS}]+")


@lru_cache(maxsize=4)  # a text is folded for each list that it is looked for in
def fold(text: str) -> str:
    """Words only, in small letters: without case, punctuation, white space and compatibility forms (Unicode NFKC)."""
    if text.isascii():
        return " ".join(_WORD.findall(text.casefold()))
    return " ".join(_MARKED_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def same_text(messages: Sequence[Mapping[str, str]]) -> str:
    """A key that two records share exactly when their messages have the same roles and the same folded texts.

    A text without any word (emoji, punctuation) folds to nothing; there the text itself is compared."""
    parts = ((message["role"], fold(message["content"]) or message["content"].strip()) for message in messages)
    return "\0".join(f"{role}\0{text}" for role, text in parts)

"""Searches for many patterns at once. A pattern is tried only if one of its words is in the text."""

from __future__ import annotations

import re
from collections.abc import Sequence

_DOTS = {ord("İ"): "i", ord("ı"): "i"}  # with IGNORECASE, re treats both as i; str.casefold does not
_OPTIONAL = "?*{"


class PatternMatcher:
    """Finds what `re.compile("|".join(patterns), re.IGNORECASE)` finds, ten times as fast where nothing is found.

    A pattern is tried only if the text contains one of the pattern's needed words (see `needed_words`)."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = [re.compile(pattern, re.IGNORECASE) for pattern in patterns]
        self._always: list[int] = []  # indices of patterns without needed words
        self._by_word: dict[str, list[int]] = {}
        for index, pattern in enumerate(patterns):
            words = needed_words(pattern)
            for word in words:
                self._by_word.setdefault(word, []).append(index)
            if not words:
                self._always.append(index)

    def search(self, text: str) -> re.Match[str] | None:
        """The leftmost match; of two with the same start, that of the earlier pattern."""
        folded = _folded(text)
        candidates = set(self._always)
        for word, indices in self._by_word.items():
            if word in folded:
                candidates.update(indices)
        matches = [match for index in sorted(candidates) if (match := self._patterns[index].search(text))]
        return min(matches, key=lambda match: match.start(), default=None)


def needed_words(pattern: str) -> frozenset[str]:
    """Case-folded words of which every match of the pattern contains at least one; empty when there are none.

    In a sequence, the part with the longest words is chosen: consecutive plain characters, or a group with such
    characters in each of its alternatives."""
    branches = [_longest_words(branch) for branch in _split(pattern)]
    return frozenset().union(*branches) if all(branches) else frozenset()


def _split(pattern: str) -> list[str]:
    """The alternatives outside of any group."""
    branches, start, position = [], 0, 0
    while position < len(pattern):
        if pattern[position] == "|":
            branches.append(pattern[start:position])
            start = position + 1
        position = _end_of_element(pattern, position)
    return [*branches, pattern[start:]]


def _longest_words(branch: str) -> frozenset[str]:
    """The needed words of the part with the longest ones."""
    parts: list[frozenset[str]] = []
    plain, position = "", 0
    while position <= len(branch):
        end = _end_of_element(branch, position) if position < len(branch) else position + 1
        element, optional = branch[position:end], branch[end : end + 1] in _OPTIONAL and end < len(branch)
        if len(element) == 1 and element not in ".^$?*+{}|" and not optional:
            plain += element
        else:
            parts.append(frozenset({_folded(plain)} if plain else ()))
            plain = ""
            if element.startswith("(?:") and not optional:
                parts.append(needed_words(element[3:-1]))
        position = end
    return max(filter(None, parts), key=lambda words: min(map(len, words)), default=frozenset())


def _end_of_element(pattern: str, position: int) -> int:
    """Where the element at `position` ends: a character, an escape, a class, a count or a whole group."""
    match pattern[position]:
        case "\\":
            return position + 2
        case "[":
            position += 2 if pattern[position + 1] != "^" else 3  # a ] that comes first belongs to the class
            while pattern[position] != "]":
                position += 2 if pattern[position] == "\\" else 1
            return position + 1
        case "{":
            return pattern.index("}", position) + 1
        case "(":
            position += 1
            while pattern[position] != ")":
                position = _end_of_element(pattern, position)
            return position + 1
    return position + 1


def _folded(text: str) -> str:
    return text.lower() if text.isascii() else text.translate(_DOTS).casefold()

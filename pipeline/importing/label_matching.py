"""Which ids of a taxonomy a source's name of a label may mean, by id, name and the words of the definition."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from marginalia.schemas.taxonomy import Label, Taxonomy

SURE = 0.85  # from this similarity on, the nearest id is taken as the meaning
NEAR = 0.3  # from this one on, an id is suggested
ALIKE = 0.7  # share of equal letters from which on two spellings count as similar
SUGGESTED = 3
NOTHING = {
    "none", "no", "safe", "ok", "clean", "neutral", "benign", "normal", "nothing", "not applicable", "no category",
    "no label", "none of these", "none of above", "non toxic", "not toxic", "nontoxic", "non violation",
    "no violation", "unproblematic", "negative",
}  # fmt: skip
_SMALL = {
    "is",
    "has",
    "a",
    "an",
    "and",
    "or",
    "of",
    "the",
    "to",
    "label",
    "category",
    "other",
    "content",
    "related",
    "speech",
    "violation",
}


@dataclass(frozen=True)
class Match:
    """What a value means: `label` if that is clear, else None. `near`: the nearest ids, the most similar first.
    `is_nothing`: the value is a word for "no category applies"."""

    value: str
    label: str | None
    near: Sequence[str]
    is_nothing: bool = False


def match_label(value: str, taxonomy: Taxonomy | None) -> Match:
    """The meaning of a source's value or column; without a taxonomy only words for "nothing" are recognised."""
    labels = taxonomy.labels if taxonomy else []
    if value in {label.id for label in labels}:
        return Match(value, value, [])
    words = _words(value)
    if " ".join(words) in NOTHING or " ".join(word for word in words if word not in ("is", "label")) in NOTHING:
        return Match(value, None, [], is_nothing=True)
    scores = {label.id: similarity(value, label) for label in labels}
    ranked = sorted(scores, key=lambda label_id: -scores[label_id])
    is_initials = len(value) < 3  # which are like parts of many names
    near = [label_id for label_id in ranked if scores[label_id] >= NEAR and not is_initials][:SUGGESTED]
    is_sure = bool(near) and scores[near[0]] >= SURE and (len(near) == 1 or scores[near[1]] < scores[near[0]])
    return Match(value, near[0] if is_sure else None, near)


def similarity(value: str, label: Label) -> float:
    """From 0 to 1: 1 for the id or the name, apart from case, punctuation and small words; less for shared words, and
    at most 0.6 for words of the definition."""
    words = _content(value)
    if not words:
        return 0.0
    names = [_content(label.id), _content(label.name)]
    definition = {_stem(word) for word in _words(" ".join([label.definition, *label.includes]))}
    shared = len({_stem(word) for word in words} & definition) / len(words)
    return max(*(_of_words(words, name) for name in names if name), 0.6 * shared)


def _of_words(words: Sequence[str], name: Sequence[str]) -> float:
    ours, theirs = {_stem(word) for word in words}, {_stem(word) for word in name}
    if ours == theirs:
        return 1.0
    common = len(ours & theirs)
    spelling = SequenceMatcher(None, "".join(words), "".join(name)).ratio()
    contained = 0.8 * common / min(len(ours), len(theirs)) if common else 0.0
    return max(common / len(ours | theirs), contained, spelling if spelling >= ALIKE else 0.0)


def _content(text: str) -> list[str]:
    words = _words(text)
    return [word for word in words if word not in _SMALL] or words


def _words(text: str) -> list[str]:
    """Lower-case words; camelCase is split."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    return re.findall(r"[^\W_]+", spaced.lower())


def _stem(word: str) -> str:
    """The word without a plural or verb ending, roughly."""
    for ending in ("ies", "ing", "ed", "es", "s", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word.removesuffix(ending)
    return word

from __future__ import annotations

import re
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marginalia.pipeline.generation.acceptance.pattern_matcher import PatternMatcher, _folded, needed_words
from marginalia.pipeline.generation.acceptance.refusal_phrases import _REFUSAL, _REPLY


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        (r"\bas an? (?:ai|bot)\b", {"as a"}),
        (r"\b(?:sorry|apologi[sz]e),? (?:but )?i", {"sorry", "apologi"}),
        (r"wir (?:bitten|danken)(?: sehr)? [^.]{0,40}ab", {"bitten", "danken"}),
        (r"a|bcd", {"a", "bcd"}),
        (r"(?:ab)?c+de", {"de"}),
        (r"[]x]\d{2}", set()),
        (r"abc|\w+", set()),
        (r"STRASSE|straße", {"strasse"}),
    ],
)
def test_the_words_that_every_match_holds(pattern: str, words: set[str]) -> None:
    assert needed_words(pattern) == words


def test_the_leftmost_match_and_of_two_the_earlier_pattern() -> None:
    patterns = [r"b+", r"\babc", r"abcd"]
    match = PatternMatcher(patterns).search("x ABCD bb")
    assert match is not None
    assert match[0] == "ABC"
    assert PatternMatcher(patterns).search("cda") is None


def test_case_is_folded_at_least_as_far_as_re_ignores_it() -> None:
    """Every character that re takes for another one when it ignores case is the same after folding."""
    cased = [chr(code) for code in range(sys.maxunicode + 1) if chr(code).lower() != chr(code).upper()]
    for letter in {case for both in cased for case in (both.lower(), both.upper()) if len(case) == 1}:
        same = re.compile(re.escape(letter), re.IGNORECASE)
        related = {letter.upper(), letter.lower(), letter.swapcase(), letter.casefold()}
        assert all(_folded(other) == _folded(letter) for other in related if len(other) == 1 and same.fullmatch(other))
    for letter, others in {"i": "İıI", "s": "ſS", "k": "\u212aK", "å": "\u212bÅ", "µ": "μΜ", "β": "ϐ"}.items():
        assert {_folded(other) for other in others} == {_folded(letter)}


SEVERAL = {"refusal": _REFUSAL, "reply": _REPLY}
WHOLE = {
    name: re.compile("|".join(p.pattern for p in matcher._patterns), re.IGNORECASE) for name, matcher in SEVERAL.items()
}
MATCHES = st.sampled_from([item for matcher in SEVERAL.values() for item in matcher._patterns]).flatmap(st.from_regex)


@settings(max_examples=200, deadline=None)
@given(MATCHES, MATCHES, st.integers(0, 40))
def test_it_finds_what_one_large_pattern_finds(first: str, second: str, cut: int) -> None:
    """In texts that match, once or twice, or of which a part was cut off."""
    for text in (first, second + first, first[cut:] + second, first[: -cut or None]):
        for name, several in SEVERAL.items():
            expected, match = WHOLE[name].search(text), several.search(text)
            assert (match and match.span()) == (expected and expected.span())
    assert any(several.search(first) for several in SEVERAL.values())

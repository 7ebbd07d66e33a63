from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from marginalia.pipeline.generation.acceptance.text_duplicates import (
    TextDuplicates,
    contains_most_of,
    jaccard,
    shingles,
)
from marginalia.schemas.text_equality import fold


def test_jaccard_of_shingles_by_hand() -> None:
    # abcdef: {abcde, bcdef}; abcdeg: {abcde, bcdeg}; one of three is shared
    assert jaccard(shingles("abcdef"), shingles("abcdeg")) == 1 / 3
    assert shingles("ab") == {"ab"}


def test_folding_leaves_the_words() -> None:
    assert fold("  Hello,   WORLD! (again) ") == "hello world again"


def test_the_nearest_text_is_named() -> None:
    seen = TextDuplicates(0.5)
    seen.add("first", "my parcel has not come for nine days now")
    seen.add("second", "my parcel has not come for eight days now")
    match = seen.find("my parcel has not come for nine days today")
    assert match is not None
    assert match[0] == "first"
    assert 0.5 <= match[1] < 1
    assert seen.find("something else entirely about vouchers") is None


def test_texts_of_symbols_only_are_equal_to_each_other() -> None:
    seen = TextDuplicates(0.7)
    seen.add("first", "!!!")
    assert seen.find("???") == ("first", 1.0)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text("abcd ", min_size=8, max_size=40), min_size=2, max_size=12), st.sampled_from([0.6, 0.8, 1.0]))
def test_what_is_found_reaches_the_threshold_and_is_the_nearest(texts: list[str], threshold: float) -> None:
    seen = TextDuplicates(threshold)
    for number, text in enumerate(texts[:-1]):
        seen.add(str(number), text)
    match = seen.find(texts[-1])
    similar = {
        str(number): jaccard(shingles(fold(text)), shingles(fold(texts[-1]))) for number, text in enumerate(texts[:-1])
    }
    if match is not None:
        assert similar[match[0]] == match[1] >= threshold
    if any(value == 1.0 for value in similar.values()):
        assert match is not None


def test_nearly_all_pairs_above_the_threshold_are_found() -> None:
    """400 texts, each with one that has one of 40 words changed: about 0.9 similar."""
    draw = random.Random(4)
    words = ["".join(draw.choices("abcdefghij", k=6)) for _ in range(300)]
    texts = [draw.choices(words, k=40) for _ in range(400)]
    seen = TextDuplicates(0.7)
    for number, text in enumerate(texts):
        seen.add(str(number), " ".join(text))
    changed = [[*text[:20], "changed", *text[21:]] for text in texts]
    matches = [seen.find(" ".join(text)) for text in changed]
    assert sum(match is not None and match[0] == str(number) for number, match in enumerate(matches)) >= 396
    fresh = [seen.find(" ".join(draw.choices(words, k=40))) for _ in range(100)]
    assert fresh == [None] * 100


def test_a_text_that_holds_an_example() -> None:
    example = "nobody has answered a single one of my letters"
    assert contains_most_of(f"Hello there, {example}, and it is May.", example, 0.8)
    assert not contains_most_of("nobody has answered me since Monday", example, 0.8)


def test_more_texts_than_there_was_room_for() -> None:
    """The table grows again and again, and many texts share their bands."""
    seen = TextDuplicates(1.0, expected_texts=1)
    texts = [f"number {number}" for number in range(300)] + ["the same"] * 200
    for number, text in enumerate(texts):
        seen.add(str(number), text)
    assert [seen.find(text) for text in texts[:300]] == [(str(number), 1.0) for number in range(300)]
    assert seen.find("the same") == ("300", 1.0)
    assert seen.find("number 300") is None

"""Diversity against numbers worked out by hand."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest

from marginalia.pipeline.generation.diversity import balance, distinct, diversity, self_bleu, tokens
from marginalia.schemas.tables import PromptRecord


def test_distinct_n() -> None:
    texts = [tokens("a b a"), tokens("a b")]
    assert distinct(texts, 1) == 2 / 5
    assert distinct(texts, 2) == 2 / 3
    assert distinct([["a"]], 2) is None
    assert distinct([], 1) is None


def test_words_and_where_a_script_has_none_letters() -> None:
    assert tokens("Where's my parcel?") == ["where", "s", "my", "parcel"]
    assert tokens("Straße 12b") == ["strasse", "12b"]
    assert tokens("荷物は2個です。") == ["荷", "物", "は", "2", "個", "で", "す"]
    assert tokens("주문이 늦어요") == ["주문이", "늦어요"]


def test_self_bleu() -> None:
    # precisions 4/5, 3/4, 2/3, 1/2; the same lengths
    assert self_bleu([list("abcde"), list("abcdf")]) == pytest.approx(0.2**0.25)
    assert self_bleu([list("abcde"), list("abcde")]) == pytest.approx(1)
    # nothing in common: half a match for each order
    apart = (0.5**4 / (5 * 4 * 3 * 2)) ** 0.25
    assert self_bleu([list("abcde"), list("vwxyz")]) == pytest.approx(apart)
    # the short one: both its orders match, and e^(1 - 4/2) for its brevity; the long one: 2/4, 1/3, 0.5/2, 0.5/1
    both = (math.exp(-1) + (2 / 4 * 1 / 3 * 0.5 / 2 * 0.5) ** 0.25) / 2
    assert self_bleu([list("ab"), list("abcd")]) == pytest.approx(both)
    assert self_bleu([list("ab")]) is None


def test_self_bleu_takes_the_best_of_the_others_and_never_a_text_itself() -> None:
    # "aab" repeats what the others have once each: its two a's match one; pairs: ab of two; the triple not at all
    first = (2 / 3 * 1 / 2 * 0.5 / 1) ** (1 / 3)
    # "abc": all three letters; ab of two; not abc
    second = (3 / 3 * 1 / 2 * 0.5) ** (1 / 3)
    third = (2 / 3 * 0.5 / 2 * 0.5) ** (1 / 3)  # "cxa": c and a; no pair
    assert self_bleu([list("aab"), list("abc"), list("cxa")]) == pytest.approx((first + second + third) / 3)


def test_balance() -> None:
    assert balance([5, 5, 5]) == pytest.approx(1)
    assert balance([10, 0]) == 0
    assert balance([3, 1]) == pytest.approx((0.75 * math.log(4 / 3) + 0.25 * math.log(4)) / math.log(2))
    assert balance([7]) is None
    assert balance([0, 0]) is None


def test_one_entry_a_generator() -> None:
    def row(number: int, generator: str, labels: list[str]) -> dict[str, object]:
        return {
            "id": str(number),
            "messages": [{"role": "user", "content": "abcd efgh"[: 4 + number]}],
            "intended_labels": labels,
            "slot_id": None,
            "generator": generator,
            "created_at": datetime(2026, 1, 1, tzinfo=UTC),
            "attributes": [],
        }

    rows = [row(0, "small", ["x"]), row(1, "large", ["x", "y"]), row(2, "large", []), row(3, "large", ["y"])]
    large, small = diversity(PromptRecord.frame(rows).lazy(), ["x", "y", "z"], seed=1)
    assert (large.generator, large.texts, large.without_label) == ("large", 3, 1)
    assert large.labels == {"x": 1, "y": 2, "z": 0}
    assert large.lengths is not None
    assert (large.lengths.mean, large.lengths.median) == (6.0, 6.0)
    assert (small.texts, small.self_bleu, small.distinct_2) == (1, None, None)
    assert diversity(PromptRecord.frame([]).lazy(), ["x"], seed=1) == []

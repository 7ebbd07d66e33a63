from __future__ import annotations

import pytest

from marginalia.annotation.gold.anchoring import anchoring
from marginalia.schemas.tables import SuggestedRecord
from tests.annotation.answers import answers

SUGGESTED = SuggestedRecord.frame(
    [
        {"record_id": "r1", "source": "intended", "labels": ["b", "a"], "shown": True},
        {"record_id": "r2", "source": "check", "labels": ["a"], "shown": True},
        {"record_id": "r3", "source": "intended", "labels": [], "shown": False},
        {"record_id": "r4", "source": "check", "labels": ["c"], "shown": False},
        {"record_id": "r5", "source": "check", "labels": None, "shown": False},
        {"record_id": "r6", "source": None, "labels": None, "shown": False},
    ]
)


def test_answers_are_compared_with_what_was_and_was_not_suggested() -> None:
    # shown on r1, r2: 3 of 4 answers are the suggestion; not shown on r3, r4: 1 of 3
    frame = answers(
        {
            "r1": {"X": "ab", "Y": "ab"},
            "r2": {"X": "a", "Y": ""},
            "r3": {"X": "", "Y": "a"},
            "r4": {"X": ""},
            "r5": {"X": "a"},
            "r6": {"X": ""},  # has no suggestion and is ignored
        }
    )
    result = anchoring(frame, SUGGESTED, 200, seed="s")
    assert result is not None
    assert result.sources == ["check", "intended"]
    assert (result.suggested.value, result.suggested.n) == (0.75, 2)
    assert (result.control.value, result.control.n) == (pytest.approx(1 / 3), 2)
    assert result.difference.value == pytest.approx(0.75 - 1 / 3)
    assert result.difference.low is not None and result.difference.low < 0.75 - 1 / 3


def test_without_a_control_nothing_is_claimed() -> None:
    result = anchoring(answers({"r1": {"X": "ab"}}), SUGGESTED.filter("shown"), 20, seed="s")
    assert result is not None
    assert (result.suggested.value, result.control.value, result.difference.value) == (1.0, None, None)


def test_without_suggestions_there_is_no_anchoring() -> None:
    assert anchoring(answers({"r3": {"X": "a"}}), SUGGESTED.filter(~SUGGESTED["shown"]), 20, seed="s") is None

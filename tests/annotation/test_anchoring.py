from __future__ import annotations

import polars as pl
import pytest

from annotation.anchoring import anchoring
from tests.annotation.answers import answers

SUGGESTED = pl.DataFrame({"id": ["r1", "r2", "r3", "r4"], "intended_labels": [["b", "a"], ["a"], [], ["c"]]})


def test_answers_are_compared_with_what_was_and_was_not_suggested() -> None:
    # shown on r1, r2: 3 of 4 answers are the suggestion; not shown on r3, r4: 1 of 3
    frame = answers(
        {"r1": {"X": "ab", "Y": "ab"}, "r2": {"X": "a", "Y": ""}, "r3": {"X": "", "Y": "a"}, "r4": {"X": ""}}
    )
    found = anchoring(frame, SUGGESTED, ["r3", "r4"], 200, seed="s")
    assert (found.suggested.value, found.suggested.n) == (0.75, 2)
    assert (found.control.value, found.control.n) == (pytest.approx(1 / 3), 2)
    assert found.difference.value == pytest.approx(0.75 - 1 / 3)
    assert found.difference.low is not None and found.difference.low < 0.75 - 1 / 3


def test_without_a_control_nothing_is_claimed() -> None:
    found = anchoring(answers({"r1": {"X": "ab"}}), SUGGESTED, [], 20, seed="s")
    assert (found.suggested.value, found.control.value, found.difference.value) == (1.0, None, None)

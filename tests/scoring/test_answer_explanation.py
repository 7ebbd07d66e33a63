"""Why a label got its probability, in words."""

from __future__ import annotations

import pytest

from marginalia.scoring.answer_explanation import explanation
from marginalia.scoring.answer_tree import answer_tree
from marginalia.scoring.marginal.answer_search import Limits, Search
from tests.scoring.scripted import run, token_language
from tests.scoring.test_estimators import forked, leaves

CODES = ["S1", "S2", "S10"]
LABELS = list(zip(CODES, ["late", "refund", "return"], strict=True))


def search_of(script: object, **limits: object) -> Search:
    return run(token_language(CODES), script, Limits(tolerance=0, **limits))  # type: ignore[arg-type]


def test_the_parts_of_each_label_and_the_rest() -> None:
    """forked: safe 0.2, S1 0.28, S10 0.168, S1,S2 0.112, S2 0.24."""
    assert list(explanation(search_of(forked), LABELS)) == [
        "S1 (late): 0.39 = 0.28 alone + 0.11 before others; the rest says safe (0.20) or names other labels (0.41)",
        "S2 (refund): 0.35 = 0.24 alone + 0.11 after late; the rest says safe (0.20) or names other labels (0.45)",
        "S10 (return): 0.17 = 0.17 alone; the rest says safe (0.20) or names other labels (0.63)",
    ]


@pytest.mark.parametrize("script", [forked, leaves])
def test_the_numbers_are_the_lower_bounds_of_the_marginal(script: object) -> None:
    from marginalia.scoring.marginal.estimators import estimate

    search = search_of(script)
    lower = estimate(search, ["marginal"])["marginal"].lower
    shown = {line.split(" (")[0]: float(line.split(": ")[1].split(" ")[0]) for line in explanation(search, LABELS)}
    assert shown == {
        code: pytest.approx(lower[row], abs=0.005) for row, code in enumerate(CODES) if lower[row] >= 0.005
    }


def test_what_leaves_the_format_or_was_not_explored() -> None:
    assert any("leaves the format (0." in line for line in explanation(search_of(leaves), LABELS))
    assert any("was not explored (0." in line for line in explanation(search_of(forked, node_budget=1), LABELS))


def test_no_label() -> None:
    def refuses(text: bytes) -> dict[bytes | None, float]:
        return {b"s": 0.3, b"n": 0.7} if not text else {b"safe"[len(text) : len(text) + 1] or None: 1.0}

    assert list(explanation(search_of(refuses), LABELS)) == [
        "no label reaches 0.005: the guard says safe (0.30) or leaves the format (0.70)"
    ]


def test_the_tree_names_the_labels_of_each_answer() -> None:
    lines = list(answer_tree(search_of(forked), labels=[name for _, name in LABELS]))
    assert "│  │  └ 0.1120  ,S2 ■ late, refund" in lines
    assert "│  │  ├ 0.1680  0 ■ return" in lines
    assert "└ 0.2000  safe ■" in lines

"""The printed tree of answers."""

from __future__ import annotations

from marginalia.scoring.answer_tree import answer_tree
from marginalia.scoring.marginal.answer_search import Limits
from tests.scoring.scripted import run, token_language
from tests.scoring.test_estimators import forked, leaves

CODES = ["S1", "S2", "S10"]


def test_branches_with_masses_and_ends() -> None:
    search = run(token_language(CODES), forked, Limits(tolerance=0))
    assert list(answer_tree(search)) == [
        "1.0000  (prompt)",
        "├ 0.8000  unsafe⏎S",
        "│  ├ 0.5600  1",
        "│  │  ├ 0.2800   ■",
        "│  │  ├ 0.1680  0 ■",
        "│  │  └ 0.1120  ,S2 ■",
        "│  └ 0.2400  2 ■",
        "└ 0.2000  safe ■",
    ]


def test_what_leaves_the_format_is_shown() -> None:
    search = run(token_language(CODES), leaves, Limits(tolerance=0))
    lines = list(answer_tree(search))
    assert "└ 0.1000   ✗ leaves the format" in lines
    assert any("0.3600   ✗ leaves the format" in line for line in lines)


def test_small_branches_are_summed_up() -> None:
    search = run(token_language(CODES), forked, Limits(tolerance=0))
    assert any("0.2800  (smaller ones)" in line for line in answer_tree(search, smallest=0.25))

"""Thresholds: the best F1 against trying all, and promises that hold as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from scoring.thresholds import best_f1, false_positive_rate_at_most, label_thresholds, outcome, precision_at_least


@pytest.mark.parametrize("seed", range(6))
def test_best_f1_is_the_best_of_all_thresholds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, p = rng.random(80) < 0.3, rng.random(80).round(1 + seed % 3)
    found = best_f1(truth, p)
    assert found is not None
    best = max(f1_score(truth, p >= threshold) for threshold in np.unique(p))
    assert f1_score(truth, p >= found) == pytest.approx(best)


def test_best_f1_lies_between_two_scores_and_needs_positives() -> None:
    assert best_f1(np.array([True, False]), np.array([0.8, 0.2])) == pytest.approx(0.5)
    assert best_f1(np.array([False, False]), np.array([0.8, 0.2])) is None


def test_precision_promise_by_hand() -> None:
    # 40 flagged and right: Clopper-Pearson's one-sided lower bound at 95 % is 0.05 ** (1 / 40) = 0.928
    truth, p = np.r_[np.ones(40, bool), np.zeros(60, bool)], np.r_[np.full(40, 0.9), np.full(60, 0.1)]
    found, why = precision_at_least(truth, p, 0.9, confidence=0.95)
    assert why is None
    assert found is not None
    assert 0.1 < found <= 0.9
    assert precision_at_least(truth, p, 0.93, confidence=0.95)[0] is None


def test_too_few_records_for_a_promise_is_said_with_the_number_needed() -> None:
    truth, p = np.zeros(100, bool), np.linspace(0, 1, 100)
    found, why = false_positive_rate_at_most(truth, p, 0.01, confidence=0.95)
    assert found is None
    assert why is not None
    assert "at least 299" in why  # 0.99 ** 299 <= 0.05 < 0.99 ** 298
    assert why.endswith("the split has 100")
    found, why = precision_at_least(truth[:20], p[:20], 0.9, confidence=0.95)
    assert found is None
    assert why is not None
    assert "at least 29" in why  # 0.9 ** 29 <= 0.05


def test_false_positive_promise_takes_the_lowest_threshold_that_holds() -> None:
    truth = np.zeros(1000, bool)
    p = (np.arange(1000) + 0.5) / 1000
    found, _ = false_positive_rate_at_most(truth, p, 0.05, confidence=0.95)
    assert found is not None
    wrong = int((p >= found).sum())
    assert 25 <= wrong <= 50  # the exact bound allows 38 of 1000; the grid is coarser


def true_precision(threshold: float) -> float:
    """Share of positives among scores above the threshold, for p uniform and P(positive) = p."""
    return (1 + threshold) / 2


def test_promises_hold_at_their_confidence() -> None:
    rng = np.random.default_rng(12)
    broken_precision = broken_rate = attained = 0
    for _ in range(300):
        p = rng.random(400)
        truth = rng.random(400) < p
        threshold, _ = precision_at_least(truth, p, 0.8, confidence=0.9)
        if threshold is not None:
            attained += 1
            broken_precision += true_precision(threshold) < 0.8
        threshold, _ = false_positive_rate_at_most(truth, p, 0.1, confidence=0.9)
        assert threshold is not None
        broken_rate += (1 - threshold) ** 2 > 0.1  # P(score >= t | negative)
    assert attained > 200
    assert broken_precision / 300 <= 0.1 + 0.04
    assert broken_rate / 300 <= 0.1 + 0.04


def test_a_rare_label_uses_the_overall_threshold_and_says_so() -> None:
    truth, p = np.array([True] + [False] * 19), np.linspace(1, 0, 20)
    rows = label_thresholds(
        (truth, p),
        (truth, p),
        overall=0.4,
        precision_targets=[0.9],
        false_positive_targets=[],
        min_positives=10,
        confidence=0.95,
    )
    assert rows[0].goal == "max_f1"
    assert (rows[0].threshold, rows[0].source) == (0.4, "global")
    assert rows[0].reason == "1 positives on the calibration split; 10 are asked for"
    assert rows[1].threshold is None


def test_outcome_counts_by_hand() -> None:
    truth = np.array([True, True, False, False, False])
    p = np.array([0.9, 0.1, 0.8, 0.5, 0.2])
    found = outcome(truth, p, 0.5, split="test", confidence=0.95)
    assert (found.flagged, found.positives) == (3, 2)
    assert found.precision.value == pytest.approx(1 / 3)
    assert found.recall.value == pytest.approx(1 / 2)
    assert found.false_positive_rate.value == pytest.approx(2 / 3)
    assert found.f1.value == pytest.approx(2 / 5)

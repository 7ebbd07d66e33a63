"""Thresholds: the best F1 against trying all, and guarantees that hold as often as stated."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from marginalia.scoring.measures.thresholds import (
    best_f1,
    false_positive_rate_at_most,
    label_thresholds,
    outcome,
    precision_at_least,
)


@pytest.mark.parametrize("seed", range(6))
def test_best_f1_is_the_best_of_all_thresholds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, p = rng.random(80) < 0.3, rng.random(80).round(1 + seed % 3)
    result = best_f1(truth, p)
    assert result is not None
    best = max(f1_score(truth, p >= threshold) for threshold in np.unique(p))
    assert f1_score(truth, p >= result) == pytest.approx(best)


def test_best_f1_lies_between_two_scores_and_needs_positives() -> None:
    assert best_f1(np.array([True, False]), np.array([0.8, 0.2])) == pytest.approx(0.5)
    assert best_f1(np.array([False, False]), np.array([0.8, 0.2])) is None


def test_precision_guarantee_by_hand() -> None:
    # 40 flagged and right: Clopper-Pearson's one-sided lower bound at 95 % is 0.05 ** (1 / 40) = 0.928
    truth, p = np.r_[np.ones(40, bool), np.zeros(60, bool)], np.r_[np.full(40, 0.9), np.full(60, 0.1)]
    result, why = precision_at_least(truth, p, 0.9, confidence=0.95)
    assert why is None
    assert result is not None
    assert 0.1 < result <= 0.9
    assert precision_at_least(truth, p, 0.93, confidence=0.95)[0] is None


def test_too_few_records_for_a_guarantee_are_reported_with_the_number_needed() -> None:
    truth, p = np.zeros(100, bool), np.linspace(0, 1, 100)
    result, why = false_positive_rate_at_most(truth, p, 0.01, confidence=0.95)
    assert result is None
    assert why is not None
    assert "at least 299" in why  # 0.99 ** 299 <= 0.05 < 0.99 ** 298
    assert why.endswith("the split has 100")
    result, why = precision_at_least(truth[:20], p[:20], 0.9, confidence=0.95)
    assert result is None
    assert why is not None
    assert "at least 29" in why  # 0.9 ** 29 <= 0.05


def test_false_positive_guarantee_takes_the_lowest_threshold_that_holds() -> None:
    truth = np.zeros(1000, bool)
    p = (np.arange(1000) + 0.5) / 1000
    result, _ = false_positive_rate_at_most(truth, p, 0.05, confidence=0.95)
    assert result is not None
    wrong = int((p >= result).sum())
    assert 25 <= wrong <= 50  # the exact bound allows 38 of 1000; the grid is coarser


def true_precision(threshold: float) -> float:
    """Share of positives among scores above the threshold, for p uniform and P(positive) = p."""
    return (1 + threshold) / 2


def test_guarantees_hold_with_their_confidence() -> None:
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


def test_a_rare_label_uses_the_overall_threshold_with_a_reason() -> None:
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
    assert rows[0].reason == "1 positive on the calibration split; at least 10 are required"
    assert rows[1].threshold is None


def test_outcome_counts_by_hand() -> None:
    truth = np.array([True, True, False, False, False])
    p = np.array([0.9, 0.1, 0.8, 0.5, 0.2])
    result = outcome(truth, p, 0.5, split="test", confidence=0.95)
    assert (result.flagged, result.positives) == (3, 2)
    assert result.precision.value == pytest.approx(1 / 3)
    assert result.recall.value == pytest.approx(1 / 2)
    assert result.false_positive_rate.value == pytest.approx(2 / 3)
    assert result.f1.value == pytest.approx(2 / 5)


def broken_guarantees(chance: np.ndarray, precision_above, trials: int, n: int, seed: int) -> tuple[int, int]:  # type: ignore[no-untyped-def]
    """(how many guarantees of precision 0.8 at 90 % were given, how many have a true precision below it) over many data
    sets; `chance` is P(positive) on a fine grid of p, which is uniform."""
    rng = np.random.default_rng(seed)
    made = broken = 0
    for _ in range(trials):
        p = rng.random(n)
        truth = rng.random(n) < chance[(p * len(chance)).astype(int)]
        threshold, _ = precision_at_least(truth, p, 0.8, confidence=0.9)
        if threshold is not None:
            made += 1
            broken += precision_above(threshold) < 0.8
    return made, broken


@pytest.mark.parametrize(
    "chance",
    [
        np.full(100, 0.79),  # no threshold is good enough, but all nearly are
        np.r_[np.full(90, 0.95), np.full(10, 0.5)],  # the guard is worst where it is most confident
        np.r_[np.full(70, 0.3), np.full(30, 0.82)],  # barely good enough down to 0.7
    ],
    ids=["never", "upside down", "a cliff"],
)
def test_a_precision_guarantee_fails_no_more_often_than_stated(chance: np.ndarray) -> None:
    upward = np.cumsum(chance[::-1])[::-1]

    def precision_above(threshold: float) -> float:
        first = min(int(np.ceil(threshold * len(chance))), len(chance) - 1)
        return float(upward[first] / (len(chance) - first))

    made, broken = broken_guarantees(chance, precision_above, 300, 600, seed=21)
    assert broken / 300 <= 0.1 + 0.04  # 0.1, and two standard errors of 300 trials
    if chance.max() > 0.8 and chance[-1] > 0.8:
        assert made > 10


def test_an_impossible_goal_is_not_attainable() -> None:
    truth, p = np.zeros(500, bool), np.linspace(0, 1, 500)
    assert precision_at_least(truth, p, 0.9, confidence=0.95) == (
        None,
        "not attainable at 95% confidence; the split has 0 positives",
    )
    tied = false_positive_rate_at_most(truth, np.ones(500), 0.05, confidence=0.95)
    assert tied[0] is None
    assert tied[1] is not None
    assert "too many records without the label score near 1" in tied[1]


def test_neighbouring_floats_leave_the_better_one_flagged_alone() -> None:
    low = 0.3
    high = np.nextafter(low, 1)
    result = best_f1(np.array([True, False]), np.array([high, low]))
    assert result == high


def test_without_negatives_no_threshold_is_promised() -> None:
    """As for the verdict of records that are all partly judged: it is known only where a label applies."""
    values = (np.ones(20, dtype=bool), np.linspace(0.1, 0.9, 20))
    chosen = label_thresholds(
        values, values, overall=None, precision_targets=[0.9], false_positive_targets=[0.05], min_positives=1,
        confidence=0.95,
    )  # fmt: skip
    assert [(row.threshold, row.reason) for row in chosen[:2]] == [(None, "no negatives on the calibration split")] * 2
    assert chosen[2].threshold is None

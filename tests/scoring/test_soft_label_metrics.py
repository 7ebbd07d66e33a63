"""Metrics against soft labels: by hand, against all single votes, and against annotators with known error rates."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from sklearn import metrics as reference

from marginalia.scoring.measures.metrics import Measure
from marginalia.scoring.measures.soft_label_metrics import against_soft, among_annotators, by_label


def pooled(measure: Measure, n: int) -> dict[str, float]:
    return {name: float(values[0]) for name, values in measure(np.ones((1, n))).pooled.items()}


def test_two_records_by_hand() -> None:
    soft = np.array([[1.0, 0.5], [0.0, np.nan]])
    p = np.array([[0.8, 0.6], [0.1, 0.9]])
    result = pooled(against_soft(soft, p, p >= 0.5), 2)
    assert result["brier"] == pytest.approx((0.04 + 0.01 + 0.01) / 3)
    assert result["disagreement"] == pytest.approx(0.25 / 3)
    assert result["brier_against_votes"] == pytest.approx(result["brier"] + result["disagreement"])
    cross = -np.log(0.8) - 0.5 * np.log(0.6) - 0.5 * np.log(0.4) - np.log(0.9)
    assert result["log_loss"] == pytest.approx(cross / 3)
    assert result["entropy"] == pytest.approx(np.log(2) / 3)
    assert result["expected_micro_f1"] == pytest.approx(2 * 1.5 / (2 + 1.5))
    assert result["expected_hamming_loss"] == pytest.approx(0.5 / 3)


def votes(seed: int, n: int = 40, n_labels: int = 3, annotators: int = 4) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.random((annotators, n, n_labels)) < rng.uniform(0.1, 0.6, (n, n_labels))


@pytest.mark.parametrize("seed", range(4))
def test_expected_numbers_are_those_of_all_single_votes(seed: int) -> None:
    cast = votes(seed)
    rng = np.random.default_rng(seed + 100)
    p = rng.random(cast.shape[1:])
    result = pooled(against_soft(cast.mean(0), p, p >= 0.4), len(p))
    single, repeated = cast.reshape(-1), np.broadcast_to(p, cast.shape).reshape(-1)
    assert result["brier_against_votes"] == pytest.approx(reference.brier_score_loss(single, repeated))
    assert result["log_loss"] == pytest.approx(reference.log_loss(single, repeated))
    assert result["expected_micro_f1"] == pytest.approx(reference.f1_score(single, repeated >= 0.4))
    assert result["expected_micro_precision"] == pytest.approx(reference.precision_score(single, repeated >= 0.4))
    assert result["expected_micro_recall"] == pytest.approx(reference.recall_score(single, repeated >= 0.4))
    assert result["expected_hamming_loss"] == pytest.approx(np.mean(single != (repeated >= 0.4)))


@pytest.mark.parametrize("seed", range(4))
def test_the_ceiling_is_that_of_all_pairs_of_annotators(seed: int) -> None:
    cast = votes(seed)
    pairs = list(permutations(range(len(cast)), 2))
    one = np.concatenate([cast[first].ravel() for first, _ in pairs])
    other = np.concatenate([cast[second].ravel() for _, second in pairs])
    gold = cast.mean(0) > 0.5
    result = pooled(among_annotators(gold, cast.sum(0).astype(float), np.full(gold.shape, 4.0)), len(gold))
    assert result["annotator_micro_f1"] == pytest.approx(reference.f1_score(one, other))
    assert result["annotator_hamming_loss"] == pytest.approx(np.mean(one != other))
    against = np.broadcast_to(gold, cast.shape).ravel()
    assert result["annotator_gold_micro_f1"] == pytest.approx(reference.f1_score(against, cast.ravel()))


@pytest.mark.parametrize("seed", range(3))
def test_labels_are_the_same_numbers_on_one_column(seed: int) -> None:
    cast = votes(seed)
    p = np.random.default_rng(seed).random(cast.shape[1:])
    soft, yes, answers = cast.mean(0), cast.sum(0).astype(float), np.full(p.shape, 4.0)
    result = by_label(soft, p, p >= 0.4, yes, answers)
    for at in range(3):
        one = slice(at, at + 1)
        alone = pooled(against_soft(soft[:, one], p[:, one], p[:, one] >= 0.4), len(p))
        among = pooled(among_annotators(soft[:, one] > 0.5, yes[:, one], answers[:, one]), len(p))
        assert result["brier"][at] == pytest.approx(alone["brier"])
        assert result["disagreement"][at] == pytest.approx(alone["disagreement"])
        assert result["expected_f1"][at] == pytest.approx(alone["expected_micro_f1"])
        assert result["annotator_f1"][at] == pytest.approx(among["annotator_micro_f1"])


def test_without_two_answers_there_is_no_ceiling() -> None:
    truth = np.array([[True], [False]])
    for answers in (np.ones((2, 1)), np.full((2, 1), np.nan), np.zeros((2, 1))):
        result = pooled(among_annotators(truth, np.ones((2, 1)), answers), 2)
        assert np.isnan(result["annotator_micro_f1"])
        assert np.isnan(result["annotator_hamming_loss"])


def test_a_guard_that_answers_like_an_annotator_just_reaches_the_ceiling() -> None:
    rng = np.random.default_rng(5)
    n = 4000
    true = rng.random((n, 2)) < 0.3

    def answer() -> np.ndarray:
        return true ^ (rng.random(true.shape) < 0.1)

    cast = np.stack([answer() for _ in range(3)])
    ceiling = pooled(among_annotators(true, cast.sum(0).astype(float), np.full(true.shape, 3.0)), n)
    guard = answer()
    result = pooled(against_soft(cast.mean(0), guard.astype(float), guard), n)
    assert result["expected_micro_f1"] == pytest.approx(ceiling["annotator_micro_f1"], abs=0.02)
    # two answers, each wrong with 0.1, differ with 2 * 0.1 * 0.9
    assert ceiling["annotator_hamming_loss"] == pytest.approx(0.18, abs=0.01)


def test_resamples_are_those_of_repeated_records() -> None:
    cast = votes(9, n=12)
    p = np.random.default_rng(1).random(cast.shape[1:])
    weights = np.array([[0, 2, 1, 1, 0, 0, 3, 1, 1, 1, 2, 0.0]])
    drawn = np.repeat(np.arange(12), weights[0].astype(int))
    soft = cast.mean(0)
    once = against_soft(soft, p, p >= 0.5)(weights)
    again = against_soft(soft[drawn], p[drawn], p[drawn] >= 0.5)(np.ones((1, len(drawn))))
    for name, value in once.pooled.items():
        assert value == pytest.approx(again.pooled[name]), name

"""Thresholds chosen again in each resample, compared with the plain function on the drawn records."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score, hamming_loss

from marginalia.scoring.measures.intervals import resample_weights, simultaneous
from marginalia.scoring.measures.refitted_thresholds import OTHER_SPLIT, chosen_thresholds, with_resampled
from marginalia.scoring.measures.thresholds import best_f1

RESAMPLES, SEED, FEWEST = 60, 3, 8


@pytest.mark.parametrize("digits", [1, 6])
def test_thresholds_and_metrics_are_those_of_the_drawn_records(digits: int) -> None:
    """Few digits give many ties; with 8 positives required, some resamples use the threshold of all labels pooled."""
    rng = np.random.default_rng(1)
    truth = rng.random((80, 3)) < [0.1, 0.25, 0.4]
    p = np.round(1 / (1 + np.exp(1 - 2 * truth - rng.normal(size=truth.shape))), digits)
    fit, test = np.arange(40), np.arange(40, 80)
    at = chosen_thresholds(truth[fit], p[fit], min_positives=FEWEST, resamples=RESAMPLES, seed=SEED)
    own = np.array([0.3, 0.4, 0.5])
    result = with_resampled(truth[test], p[test], own, at, SEED)
    draws = [np.concatenate(list(resample_weights(40, RESAMPLES, seed))) for seed in (SEED + OTHER_SPLIT, SEED)]
    borrowed = 0
    for b in range(RESAMPLES):
        drawn = np.repeat(fit, draws[0][b].astype(int))
        overall = best_f1(truth[drawn].ravel(), p[drawn].ravel())
        few = truth[drawn].sum(0) < FEWEST
        borrowed += int(few.sum())
        expected = [overall if few[i] else best_f1(truth[drawn, i], p[drawn, i]) for i in range(3)]
        assert at[b] == pytest.approx(expected)
        judged = np.repeat(test, draws[1][b].astype(int))
        flags = p[judged] >= at[b]
        replicates = result.replicates.pooled
        assert replicates["micro_f1"][b] == pytest.approx(f1_score(truth[judged], flags, average="micro"))
        assert replicates["hamming_loss"][b] == pytest.approx(hamming_loss(truth[judged], flags))
        if truth[judged].any(0).all():
            assert replicates["macro_f1"][b] == pytest.approx(f1_score(truth[judged], flags, average="macro"))
    assert 0 < borrowed < 3 * RESAMPLES
    assert result.value.pooled["micro_f1"][0] == pytest.approx(f1_score(truth[test], p[test] >= own, average="micro"))


def test_many_scores_are_grouped_without_moving_the_threshold_far() -> None:
    rng = np.random.default_rng(2)
    truth = rng.random((6000, 1)) < 0.3
    p = 1 / (1 + np.exp(1 - 2 * truth - rng.normal(size=truth.shape)))
    at = chosen_thresholds(truth, p, min_positives=1, resamples=3, seed=SEED)
    weights = np.concatenate(list(resample_weights(6000, 3, SEED + OTHER_SPLIT)))
    for b in range(3):
        drawn = np.repeat(np.arange(6000), weights[b].astype(int))
        flags = [p[drawn, 0] >= threshold for threshold in (at[b, 0], best_f1(truth[drawn, 0], p[drawn, 0]))]
        reached = [f1_score(truth[drawn, 0], flagged) for flagged in flags]
        assert reached[1] - 0.002 <= reached[0] <= reached[1]


def test_a_resample_without_a_positive_has_no_threshold() -> None:
    truth, p = np.array([[True]] + [[False]] * 9), np.linspace(0.1, 1, 10)[::-1, None]
    at = chosen_thresholds(truth, p, min_positives=1, resamples=200, seed=0)
    without = np.isnan(at[:, 0])
    assert 0.2 < without.mean() < 0.5  # (9 / 10)^10
    result = with_resampled(truth, p, np.array([0.5]), at, 0).replicates.pooled
    assert np.isnan(result["hamming_loss"][without]).all()


@pytest.mark.parametrize("shared", [0.0, 0.95])
def test_simultaneous_intervals_hold_all_at_once(shared: float) -> None:
    """Coverage of 10 means of 15 records at once. Correlated means need hardly wider intervals than a single one."""
    rng = np.random.default_rng(5)
    covered, width = 0, []
    for _ in range(400):
        data = np.sqrt(shared) * rng.normal(size=(15, 1)) + np.sqrt(1 - shared) * rng.normal(size=(15, 10))
        weights = rng.multinomial(15, [1 / 15] * 15, size=400) / 15
        low, high = simultaneous(weights @ data, 0.95, [15.0] * 10)
        covered += bool(((low <= 0) & (high >= 0)).all())
        width.append(float((high - low).mean()))
    assert covered >= 0.93 * 400
    one_alone = 2 * 2.14 / np.sqrt(15)  # Student's t
    assert np.mean(width) < (1.3 if shared else 1.6) * one_alone


def test_one_number_of_a_large_sample_has_the_percentile_interval() -> None:
    replicates = np.random.default_rng(7).normal(size=(4000, 1))
    low, high = simultaneous(replicates, 0.9, [1e9])
    assert (low[0], high[0]) == pytest.approx(tuple(np.quantile(replicates, [0.05, 0.95])), abs=0.05)
    missing = np.where(np.arange(4000)[:, None] % 2 == 0, np.nan, replicates)
    assert np.isfinite(simultaneous(missing, 0.9, [100.0])).all()
    assert np.isnan(simultaneous(np.full((9, 2), np.nan), 0.9, [9.0, 9.0])).all()

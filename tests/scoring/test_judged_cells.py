"""Measures with cells that were not judged, against numbers by hand. Counting such cells as negatives gives others."""

from __future__ import annotations

import numpy as np
import pytest

from marginalia.scoring.measures import calibration, metric_ranges, metrics, refitted_thresholds
from marginalia.scoring.measures.cell_means import cells_per_record, per_record
from marginalia.scoring.measures.intervals import clopper_pearson
from marginalia.scoring.measures.jackknife import label_variances, pooled_variance
from marginalia.scoring.measures.reliability import quality
from marginalia.scoring.measures.thresholds import outcome

ONES = np.ones((1, 4))
# label A is judged in all four records, label B only in the first two
JUDGED = np.array([[True, True], [True, True], [True, False], [True, False]])
TRUTH = np.array([[True, True], [False, False], [True, False], [False, False]])
P = np.array([[0.9, 0.8], [0.2, 0.3], [0.4, 0.9], [0.6, 0.7]])


def pooled(measured: metrics.Measured) -> dict[str, float]:
    return {name: float(values[0]) for name, values in measured.pooled.items()}


def test_decisions() -> None:
    measured = metrics.decisions(TRUTH, P >= 0.5, JUDGED)(ONES)
    assert measured.labels["precision"][0].tolist() == [0.5, 1.0]  # B: 1 of 3 flags if unjudged cells were negative
    assert measured.labels["recall"][0].tolist() == [0.5, 1.0]
    assert measured.labels["f1"][0].tolist() == [0.5, 1.0]
    values = pooled(measured)
    assert values["micro_precision"] == pytest.approx(2 / 3)  # of A's flags 1 of 2, of B's 1 of 1
    assert values["micro_f1"] == pytest.approx(4 / 6)
    assert values["macro_f1"] == 0.75
    assert values["hamming_loss"] == pytest.approx(2 / 6)  # A's third and fourth record, of 6 judged cells
    assert values["subset_accuracy"] == 0.5
    assert values["samples_precision"] == pytest.approx((1 + 0) / 2)  # the first and the last record have judged flags
    assert values["samples_recall"] == pytest.approx((1 + 0) / 2)


def test_a_record_in_which_nothing_was_judged_is_left_out() -> None:
    judged = np.array([[True, True], [True, True], [False, False], [False, False]])
    values = pooled(metrics.decisions(TRUTH, P >= 0.5, judged)(ONES))
    assert (values["subset_accuracy"], values["samples_f1"], values["hamming_loss"]) == (1.0, 1.0, 0.0)
    losses = metrics.ranking_losses(TRUTH, P, judged)
    assert np.isnan(losses).tolist() == [False, False, True, True]


def test_ranking() -> None:
    measured = metrics.ranking(TRUTH, P, JUDGED)(ONES)
    assert measured.labels["roc_auc"][0].tolist() == [0.75, 1.0]  # B: 1 of 3 pairs right with unjudged negatives
    assert measured.labels["average_precision"][0].tolist() == pytest.approx([(1 + 2 / 3) / 2, 1.0])
    values = pooled(measured)
    assert values["micro_roc_auc"] == pytest.approx(8 / 9)  # 0.9, 0.8, 0.4 against 0.2, 0.3, 0.6
    assert values["micro_average_precision"] == pytest.approx((1 + 1 + 3 / 4) / 3)
    both = np.array([[True, True, True]]), np.array([[0.5, 0.9, 0.1]])
    truth, scores = np.array([[True, False, False]]), both[1]
    assert metrics.ranking_losses(truth, scores, both[0]).tolist() == [0.5]
    assert metrics.ranking_losses(truth, scores, np.array([[True, False, True]])).tolist() == [0.0]


def test_resamples_of_records_carry_their_masks() -> None:
    weights = np.array([[0.0, 0.0, 3.0, 1.0], [2.0, 1.0, 1.0, 0.0]])
    measured = metrics.decisions(TRUTH, P >= 0.5, JUDGED)(weights)
    assert measured.pooled["hamming_loss"].tolist() == pytest.approx([1.0, 1 / 7])  # 4 of 4 cells; 1 of 2 · 2 + 2 + 1
    assert np.isnan(measured.labels["f1"][0, 1])  # no record of the first resample judges B
    assert measured.labels["recall"][1].tolist() == [2 / 3, 1.0]
    ranked = metrics.ranking(TRUTH, P, JUDGED)(weights)
    assert np.isnan(ranked.labels["roc_auc"][0, 1])
    assert ranked.labels["roc_auc"][1].tolist() == [1.0, 1.0]


def test_averaged_labels_have_judged_positives_and_negatives() -> None:
    assert metrics.averaged_labels(TRUTH, JUDGED, ranking=True).tolist() == [True, True]
    only_positive = JUDGED & np.array([[True, True], [True, False], [True, False], [True, False]])
    assert metrics.averaged_labels(TRUTH, only_positive, ranking=True).tolist() == [True, False]
    assert metrics.averaged_labels(TRUTH, np.zeros_like(JUDGED), ranking=False).tolist() == [False, False]


def test_variance_of_a_macro_average_knows_how_many_records_judge_a_label() -> None:
    """A label with 12 positives has too few judged negatives, 4, to estimate its variance. It is taken from the other
    label, whose classes have 30 records each."""
    rng = np.random.default_rng(4)
    truth = np.column_stack([np.arange(60) % 2 == 0, np.arange(60) < 12])
    p = np.column_stack([truth[:, 0] * 0.3 + rng.random(60) * 0.7, truth[:, 1] * 0.8])  # the second is always right
    judged = np.ones_like(truth)
    judged[16:, 1] = False
    bootstrapped = metrics.bootstrap(metrics.ranking(truth, p, judged), 60, resamples=50, seed=1, left_out=True)
    variances = [pooled_variance(bootstrapped, "macro_roc_auc", truth, cells) for cells in (judged, None)]
    of_first = label_variances(bootstrapped, "roc_auc")[0]
    assert variances == pytest.approx([of_first / 4 + of_first * 30 / 4 / 4, of_first / 4])


def test_ranges_count_judged_cells_only() -> None:
    lower, upper = P - 0.15, P + 0.05
    ranges = metric_ranges.decision_ranges(TRUTH, lower, upper, 0.5, JUDGED)
    assert ranges.pooled["hamming_loss"] == pytest.approx((1 / 6, 2 / 6))  # only A's 0.6 can cross the threshold
    assert ranges.labels["precision"][0].tolist() == [0.5, 1.0]
    assert ranges.pooled["micro_precision"] == pytest.approx((2 / 3, 1.0))
    ranked = metric_ranges.ranking_ranges(TRUTH, lower, upper, JUDGED)
    assert ranked.labels["roc_auc"][0].tolist() == [2.5 / 4, 1.0]  # A's 0.25 against 0.25 and 0.65: a tie, a loss
    assert metric_ranges.forecast_ranges(TRUTH, P, P, JUDGED)["brier"] == pytest.approx((0.15, 0.15))


@pytest.fixture(name="brier")
def _brier() -> float:
    """(0.01 + 0.04 + 0.04 + 0.09 + 0.36 + 0.36) / 6 of the judged cells; with the two others 0.275."""
    return 0.9 / 6


def test_quality_of_probabilities(brier: float) -> None:
    shown = quality(TRUTH, P, splits=["test"], bins=2, confidence=0.95, resamples=100, seed=1, judged=JUDGED)
    assert shown is not None
    assert (shown.n, shown.positives, shown.brier.n) == (6, 3, 4)
    assert shown.brier.value == pytest.approx(brier)
    assert [(row.n, row.mean_probability) for row in shown.bins] == [
        (3, pytest.approx(0.3)),
        (3, pytest.approx(2.3 / 3)),
    ]
    assert [row.share_positive for row in shown.bins] == pytest.approx([1 / 3, 2 / 3])
    assert shown.brier_parts is not None
    parts = shown.brier_parts
    assert parts.miscalibration - parts.discrimination + parts.uncertainty == pytest.approx(brier)
    nothing = quality(
        TRUTH, P, splits=["test"], bins=2, confidence=0.95, resamples=100, seed=1, judged=np.zeros_like(JUDGED)
    )
    assert nothing is None


def test_the_interval_of_the_brier_score_is_that_of_a_ratio() -> None:
    """Against the Brier scores of 4,000 resamples of records, drawn here."""
    rng = np.random.default_rng(3)
    p = rng.random((120, 4))
    truth = rng.random(p.shape) < p**2
    judged = rng.random(p.shape) < np.linspace(0.1, 0.95, 120)[:, None]
    shown = quality(truth, p, splits=["test"], bins=5, confidence=0.95, resamples=400, seed=1, judged=judged)
    assert shown is not None
    drawn = rng.integers(0, 120, (4000, 120))
    squared, cells = (np.where(judged, (p - truth) ** 2, 0).sum(1), judged.sum(1))
    resampled = squared[drawn].sum(1) / cells[drawn].sum(1)
    expected = np.quantile(resampled, [0.025, 0.975])
    assert (shown.brier.low, shown.brier.high) == pytest.approx(tuple(expected), abs=0.008)
    log_losses = np.where(judged, calibration.log_losses(truth, p), 0).sum(1)
    expected = np.quantile(log_losses[drawn].sum(1) / cells[drawn].sum(1), [0.025, 0.975])
    assert (shown.log_loss.low, shown.log_loss.high) == pytest.approx(tuple(expected), abs=0.03)


def test_means_over_cells() -> None:
    assert cells_per_record(JUDGED).tolist() == pytest.approx([2 / 1.5, 2 / 1.5, 1 / 1.5, 1 / 1.5])
    parts = per_record((P - TRUTH) ** 2, JUDGED)
    assert parts.mean() == pytest.approx(0.15)
    assert cells_per_record(np.ones_like(JUDGED)).tolist() == [1.0] * 4


def test_outcome_of_a_threshold() -> None:
    result = outcome(TRUTH, P, 0.5, split="test", confidence=0.95, judged=JUDGED)
    assert (result.n, result.positives, result.flagged) == (6, 3, 3)
    assert (result.precision.value, result.recall.value) == pytest.approx((2 / 3, 2 / 3))  # else 2 of 5 flags
    assert result.false_positive_rate.value == pytest.approx(1 / 3)  # else 3 of 5
    one = outcome(TRUTH[:, 0], P[:, 0], 0.5, split="test", confidence=0.95, judged=np.array([True, True, True, False]))
    assert (one.precision.low, one.precision.high) == pytest.approx(clopper_pearson(1, 1, confidence=0.95))


def test_outcome_without_records() -> None:
    empty = outcome(np.zeros((0, 3), bool), np.zeros((0, 3)), 0.5, split="test", confidence=0.95)
    assert (empty.n, empty.recall.value, empty.f1.value) == (0, None, None)


def test_calibration_maps_are_fitted_on_judged_cells() -> None:
    """The judged cells are calibrated: half of those at 0.5 are positive. Counting the others as negative would give a
    quarter."""
    truth, judged = np.zeros((80, 1), bool), np.zeros((80, 1), bool)
    truth[:20], judged[:40] = True, True
    p = np.full((80, 1), 0.5)
    settings = {"guard": "g", "estimator": "e", "min_positives": 5, "folds": 4, "seed": 1, "simulated": False}
    fitted = calibration.fit(truth, p, ["a"], method="isotonic", judged=judged, **settings)  # type: ignore[arg-type]
    assert calibration.apply(fitted, "a", 0.5) == pytest.approx(0.5)
    assert calibration.apply_map(fitted.pooled, 0.5) == pytest.approx(0.5)
    assert fitted.labels["a"].positives == 20
    loss = fitted.cross_fitted_log_loss
    assert loss["identity"] == pytest.approx(np.log(2))
    assert loss["isotonic"] == pytest.approx(np.log(2), abs=0.02)  # over all cells 0.56
    none = calibration.fit(truth, p, ["a"], method="auto", judged=np.zeros_like(judged), **settings)  # type: ignore[arg-type]
    assert (none.method, none.labels["a"].source) == ("identity", "identity")


def test_thresholds_chosen_anew_use_judged_cells() -> None:
    """Of A's judged records those with p ≥ 0.5 are positive. Unjudged ones at 0.99 would push the threshold up."""
    truth = np.array([[True], [True], [False], [False]] * 10 + [[False]] * 40)
    p = np.array([[0.6], [0.7], [0.2], [0.3]] * 10 + [[0.65]] * 40)
    judged = np.array([[True]] * 40 + [[False]] * 40)
    at = refitted_thresholds.chosen_thresholds(truth, p, min_positives=1, resamples=30, seed=2, judged=judged)
    assert ((at > 0.3) & (at < 0.6)).all()
    result = refitted_thresholds.with_resampled(truth, p, np.array([0.45]), at, 2, judged)
    assert {name: float(values[0]) for name, values in result.value.pooled.items()} == {
        "micro_f1": 1.0,
        "macro_f1": 1.0,
        "hamming_loss": 0.0,
    }
    for name, values in result.replicates.pooled.items():
        assert set(values.tolist()) == {0.0 if name == "hamming_loss" else 1.0}


def test_a_label_that_nobody_judged_gets_the_pooled_threshold() -> None:
    judged = np.column_stack([np.ones(40, bool), np.zeros(40, bool)])
    truth = np.column_stack([np.arange(40) < 20, np.zeros(40, bool)])
    p = np.column_stack([np.where(truth[:, 0], 0.8, 0.2), np.full(40, 0.9)])
    at = refitted_thresholds.chosen_thresholds(truth, p, min_positives=1, resamples=20, seed=1, judged=judged)
    assert at == pytest.approx(np.full((20, 2), 0.5))
    result = refitted_thresholds.with_resampled(truth, p, np.array([0.5, 0.5]), at, 1, judged)
    assert result.value.pooled["hamming_loss"].tolist() == [0.0]
    assert set(result.replicates.pooled["hamming_loss"].tolist()) == {0.0}

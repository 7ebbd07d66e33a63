"""Metrics against scikit-learn on random and degenerate cases, and the bootstrap against drawing records by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from marginalia.scoring.measures.intervals import clopper_pearson, resample_weights
from marginalia.scoring.measures.metrics import (
    bootstrap,
    combined,
    decisions,
    precision_recall_points,
    ranking,
    roc_points,
)


def case(seed: int, n: int = 60, n_labels: int = 5, ties: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.random((n, n_labels)) < rng.uniform(0.1, 0.6, n_labels)
    truth[0], truth[1] = True, False  # every label has both classes; a record has all labels, another has none
    scores = rng.random((n, n_labels))
    scores = scores.round(1) if ties else scores
    return truth, scores, scores >= 0.5


def measured(measure, n: int) -> dict[str, float]:  # type: ignore[no-untyped-def]
    return {name: float(values[0]) for name, values in measure(np.ones((1, n))).pooled.items()}


@pytest.mark.parametrize("seed", range(8))
def test_decisions_are_scikit_learns(seed: int) -> None:
    truth, _, predicted = case(seed)
    result = measured(decisions(truth, predicted), len(truth))
    for average in ("micro", "macro"):
        assert result[f"{average}_f1"] == pytest.approx(reference.f1_score(truth, predicted, average=average))
        assert result[f"{average}_recall"] == pytest.approx(reference.recall_score(truth, predicted, average=average))
        assert result[f"{average}_precision"] == pytest.approx(
            reference.precision_score(truth, predicted, average=average, zero_division=0)
        )
    assert result["samples_f1"] == pytest.approx(
        reference.f1_score(truth, predicted, average="samples", zero_division=1)
    )
    assert result["samples_recall"] == pytest.approx(
        np.nanmean(reference.recall_score(truth, predicted, average="samples", zero_division=np.nan))
    )
    assert result["hamming_loss"] == pytest.approx(reference.hamming_loss(truth, predicted))
    assert result["subset_accuracy"] == pytest.approx(reference.accuracy_score(truth, predicted))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("ties", [True, False])
def test_ranking_is_scikit_learns(seed: int, ties: bool) -> None:
    truth, scores, _ = case(seed, ties=ties)
    result = measured(ranking(truth, scores), len(truth))
    for average in ("micro", "macro"):
        assert result[f"{average}_roc_auc"] == pytest.approx(reference.roc_auc_score(truth, scores, average=average))
        assert result[f"{average}_average_precision"] == pytest.approx(
            reference.average_precision_score(truth, scores, average=average)
        )
    assert result["ranking_loss"] == pytest.approx(reference.label_ranking_loss(truth, scores))


def test_per_label_values_are_scikit_learns() -> None:
    truth, scores, predicted = case(3)
    ones = np.ones((1, len(truth)))
    by_label = {**decisions(truth, predicted)(ones).labels, **ranking(truth, scores)(ones).labels}
    assert by_label["f1"][0] == pytest.approx(reference.f1_score(truth, predicted, average=None))
    assert by_label["roc_auc"][0] == pytest.approx(reference.roc_auc_score(truth, scores, average=None))
    assert by_label["average_precision"][0] == pytest.approx(
        reference.average_precision_score(truth, scores, average=None)
    )


def test_weights_are_equivalent_to_repeated_records() -> None:
    truth, scores, predicted = case(1, n=20)
    drawn = np.random.default_rng(0).integers(0, 20, 20)
    weights = np.bincount(drawn, minlength=20)[None, :].astype(float)
    for measure in (lambda t, p: decisions(t, p), lambda t, p: ranking(t, scores if p is predicted else scores[drawn])):
        whole = measure(truth, predicted)(weights)
        repeated = measure(truth[drawn], predicted[drawn])(np.ones((1, 20)))
        for name, values in repeated.labels.items():
            assert whole.labels[name][0] == pytest.approx(values[0], nan_ok=True), name
        for name in ("micro_f1", "hamming_loss", "samples_f1", "micro_roc_auc", "ranking_loss"):
            if name in whole.pooled:
                assert whole.pooled[name][0] == pytest.approx(repeated.pooled[name][0]), name


def test_a_label_without_positives_stays_out_of_macro_averages() -> None:
    truth = np.array([[True, False], [False, False], [True, False]])
    predicted = np.array([[True, True], [False, False], [False, False]])
    scores = np.array([[0.9, 0.8], [0.2, 0.1], [0.1, 0.3]])
    ones = np.ones((1, 3))
    result = {**measured(decisions(truth, predicted), 3), **measured(ranking(truth, scores), 3)}
    assert result["macro_f1"] == pytest.approx(2 / 3)  # of the first label alone: 1 right, 0 extra, 1 missed
    assert result["macro_roc_auc"] == pytest.approx(0.5)
    assert np.isnan(decisions(truth, predicted)(ones).labels["f1"][0, 1])
    assert np.isnan(ranking(truth, scores)(ones).labels["roc_auc"][0, 1])
    assert result["micro_f1"] == pytest.approx(0.5)  # the extra flag of the second label counts here


def test_nothing_flagged_has_no_precision_and_zero_recall() -> None:
    truth = np.array([[True], [False]])
    result = measured(decisions(truth, np.zeros_like(truth)), 2)
    assert np.isnan(result["micro_precision"])
    assert result["macro_precision"] == 0
    assert result["micro_recall"] == 0
    assert result["micro_f1"] == 0
    assert np.isnan(result["samples_precision"])


def test_no_records_and_no_labels_give_nothing() -> None:
    for shape in ((0, 3), (4, 0)):
        empty = np.zeros(shape, dtype=bool)
        result = {
            **measured(decisions(empty, empty), shape[0]),
            **measured(ranking(empty, empty.astype(float)), shape[0]),
        }
        assert np.isnan(result["micro_f1"])
        assert np.isnan(result["micro_roc_auc"])
        assert np.isnan(result["hamming_loss"])


def test_a_resample_without_a_class_is_left_out_of_that_metric() -> None:
    truth = np.array([[True], [False], [False], [False]])
    result = bootstrap(ranking(truth, np.array([[0.9], [0.1], [0.2], [0.3]])), 4, resamples=400, seed=1)
    undefined = np.isnan(result.replicates.pooled["macro_roc_auc"]).mean()
    assert undefined == pytest.approx(0.75**4, abs=0.08)  # the only positive is not drawn; all-positive is rare


def test_resamples_are_the_same_for_the_same_seed_and_draw_n_records() -> None:
    first = np.concatenate(list(resample_weights(30, 120, 5)))
    assert first.shape == (120, 30)
    assert (first.sum(1) == 30).all()
    assert (first == np.concatenate(list(resample_weights(30, 120, 5)))).all()
    assert (first != np.concatenate(list(resample_weights(30, 120, 6)))).any()


def test_bootstrap_intervals_cover_as_stated() -> None:
    rng = np.random.default_rng(11)
    covered = 0
    for trial in range(120):
        truth = rng.random((80, 1)) < 0.4
        predicted = truth ^ (rng.random((80, 1)) < 0.2)  # the true Hamming loss is 0.2
        result = bootstrap(decisions(truth, predicted), 80, resamples=300, seed=trial)
        low, high = np.quantile(result.replicates.pooled["hamming_loss"], [0.025, 0.975])
        covered += low <= 0.2 <= high
    assert covered / 120 > 0.88


def test_clopper_pearson_by_hand() -> None:
    low, high = clopper_pearson(0, 10, confidence=0.95)
    assert (low, high) == (0.0, pytest.approx(1 - 0.025**0.1))
    low, high = clopper_pearson(8, 10, confidence=0.95)
    assert (low, high) == (pytest.approx(0.443904, abs=1e-6), pytest.approx(0.974789, abs=1e-6))


def test_curves_are_scikit_learns() -> None:
    truth, scores, _ = case(4)
    x, y = roc_points(truth, scores)
    fpr, tpr, _ = reference.roc_curve(truth.ravel(), scores.ravel(), drop_intermediate=False)
    assert x == pytest.approx(fpr)
    assert y == pytest.approx(tpr)
    recall, precision = precision_recall_points(truth, scores)
    expected_precision, expected_recall, _ = reference.precision_recall_curve(truth.ravel(), scores.ravel())
    assert precision == pytest.approx(expected_precision[:-1][::-1])
    assert recall == pytest.approx(expected_recall[:-1][::-1])


@pytest.mark.parametrize("seed", range(4))
def test_resamples_are_those_of_repeated_records(seed: int) -> None:
    truth, scores, predicted = case(seed, n=25, ties=bool(seed % 2))
    weights = np.random.default_rng(seed).multinomial(25, np.full(25, 1 / 25), size=6).astype(float)
    measure = combined([decisions(truth, predicted), ranking(truth, scores)])
    result = measure(weights)
    for row, drawn in enumerate(np.repeat(np.arange(25), counts.astype(int)) for counts in weights):
        again = combined([decisions(truth[drawn], predicted[drawn]), ranking(truth[drawn], scores[drawn])])(
            np.ones((1, 25))
        )
        for name in ("micro_roc_auc", "micro_average_precision", "micro_f1", "ranking_loss", "samples_f1"):
            assert result.pooled[name][row] == pytest.approx(again.pooled[name][0]), name
        for name, values in result.labels.items():
            assert values[row] == pytest.approx(again.labels[name][0], nan_ok=True), name


def test_grouping_many_positives_moves_neither_the_value_nor_the_interval(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(3)
    truth = rng.random((1500, 2)) < (0.5, 0.05)
    scores = 1 / (1 + np.exp(-rng.normal(size=truth.shape) - 1.5 * truth))
    exact = bootstrap(ranking(truth, scores), 1500, resamples=200, seed=1)
    monkeypatch.setattr("marginalia.scoring.measures.resampled_ranking.MOST_GROUPS", 128)
    grouped = bootstrap(ranking(truth, scores), 1500, resamples=200, seed=1)
    for name, values in exact.value.labels.items():
        assert grouped.value.labels[name] == pytest.approx(values, abs=1e-12), name
        error = np.abs(grouped.replicates.labels[name] - exact.replicates.labels[name])
        assert (error.max(0) <= 0.2 * exact.replicates.labels[name].std(0)).all(), name
        ends = [
            np.quantile(bootstrapped.replicates.labels[name], [0.025, 0.975], axis=0)
            for bootstrapped in (grouped, exact)
        ]
        assert ends[0] == pytest.approx(ends[1], abs=0.001), name
    assert grouped.value.pooled["micro_roc_auc"] == pytest.approx(exact.value.pooled["micro_roc_auc"], abs=1e-12)


def test_one_record_and_one_label_work() -> None:
    for truth in (True, False):
        result = combined(
            [decisions(np.array([[truth]]), np.array([[False]])), ranking(np.array([[truth]]), np.array([[0.3]]))]
        )(np.ones((1, 1)))
        assert np.isnan(result.pooled["micro_roc_auc"][0])
        assert result.pooled["subset_accuracy"][0] == float(not truth)
        assert result.pooled["hamming_loss"][0] == float(truth)

"""Costs at equal recall, against plain loops and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from marginalia.scoring.measures.equal_recall import COSTS, costs_at_recall
from marginalia.scoring.measures.metrics import bootstrap

Cells = list[tuple[bool, float]]  # (whether the label applies, its probability) of each record drawn


def by_loops(cells: Cells, recall: float) -> dict[str, float]:
    """The costs of one label: every score of a positive is tried as the threshold, from the highest down."""
    positives = [p for true, p in cells if true]
    if not positives:
        return dict.fromkeys([*COSTS, "threshold"], math.nan)
    for threshold in sorted(set(positives), reverse=True):
        found = sum(p >= threshold for p in positives)
        if found / len(positives) >= recall - 1e-12:
            break
    flagged = sum(p >= threshold for _, p in cells)
    return {
        "flags": 1000 * flagged / len(cells),
        "false_alarms": 1000 * (flagged - found) / len(cells),
        "precision": found / flagged,
        "recall": found / len(positives),
        "threshold": threshold,
    }


def drawn(
    truth: NDArray[np.bool_], p: NDArray[np.float64], judged: NDArray[np.bool_], times: NDArray[np.int64]
) -> Cells:
    """The judged cells of one label, each as often as its record was drawn."""
    return [(bool(truth[row]), float(p[row])) for row in range(len(p)) if judged[row] for _ in range(times[row])]


def test_by_hand() -> None:
    """Ten records, five positives: 80 % are found at 0.4, with three false alarms, one of which also has 0.4."""
    p = np.array([[0.9], [0.8], [0.7], [0.6], [0.5], [0.4], [0.4], [0.3], [0.2], [0.1]])
    truth = np.array([[True], [True], [False], [True], [False], [True], [False], [True], [False], [False]])
    measured = costs_at_recall(truth, p, 0.8, np.array([True]))(np.ones((1, 10)))
    expected = {"flags": 700.0, "false_alarms": 300.0, "precision": 4 / 7, "recall": 0.8, "threshold": 0.4}
    assert {name: values[0, 0] for name, values in measured.labels.items()} == pytest.approx(expected)
    assert {name: values[0] for name, values in measured.pooled.items()} == pytest.approx(
        {name: expected[name] for name in COSTS}
    )


@pytest.mark.parametrize("recall", [0.07, 0.5, 0.8, 1.0])
def test_resamples_with_ties_and_unjudged_labels_equal_plain_loops(recall: float) -> None:
    rng = np.random.default_rng(3)
    n, n_labels = 60, 4
    truth = rng.random((n, n_labels)) < [0.4, 0.2, 0.1, 0.0]
    p = np.round(np.clip(0.4 * truth + 0.6 * rng.random((n, n_labels)), 0, 1), 1)  # many ties
    judged = rng.random((n, n_labels)) < [1.0, 0.6, 0.9, 1.0]
    kept = np.array([True, True, False, False])
    weights = rng.multinomial(n, np.full(n, 1 / n), size=25)
    measured = costs_at_recall(truth, p, recall, kept, judged)(weights.astype(float))
    undefined = 0
    for row, times in enumerate(weights):
        labels = [
            by_loops(drawn(truth[:, label], p[:, label], judged[:, label], times), recall) for label in range(n_labels)
        ]
        for name in (*COSTS, "threshold"):
            expected = [costs[name] for costs in labels]
            assert measured.labels[name][row] == pytest.approx(expected, nan_ok=True), name
        flags, false_alarms = (sum(costs[name] for costs in labels[:2]) for name in ("flags", "false_alarms"))
        assert measured.pooled["flags"][row] == pytest.approx(flags)
        assert measured.pooled["false_alarms"][row] == pytest.approx(false_alarms)
        assert measured.pooled["precision"][row] == pytest.approx(1 - false_alarms / flags)
        undefined += math.isnan(labels[3]["flags"])
    assert undefined == 25  # a label without positives has no cost


def test_a_label_without_positives_in_a_resample_has_no_cost_there() -> None:
    truth, p = np.array([[True], [False], [False]]), np.array([[0.9], [0.5], [0.1]])
    bootstrapped = bootstrap(costs_at_recall(truth, p, 0.8, np.array([True])), 3, resamples=200, seed=1)
    undefined = np.isnan(bootstrapped.replicates.pooled["flags"])
    assert 30 < undefined.sum() < 90  # (2/3)³ of the resamples miss the one positive
    assert (bootstrapped.replicates.pooled["false_alarms"][~undefined] == 0).all()

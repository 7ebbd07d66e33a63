"""A metric's range from bounds, compared with every choice of probabilities within the bounds on small sets."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from sklearn import metrics as reference

from marginalia.scoring.measures import metric_ranges, metrics
from marginalia.scoring.measures.intervals import Array, Flags
from marginalia.scoring.measures.reliability import equal_mass_bins

THRESHOLD = 0.5


def small_set(seed: int) -> tuple[Flags, Array, Array]:
    """3 records x 2 labels with bounds on a coarse grid, so that scores tie and hit thresholds."""
    rng = np.random.default_rng(seed)
    truth = rng.random((3, 2)) < 0.5
    ends = np.sort(rng.integers(0, 5, size=(2, 3, 2)), axis=0) / 4
    return truth, ends[0], np.minimum(ends[1], ends[0] + 0.25)


def choices(lower: Array, upper: Array) -> Iterator[Array]:
    """Every choice from a grid within the bounds: multiples of 0.25, and 0.3 and 0.6 between them."""
    grid = np.unique(np.concatenate([np.arange(0, 1.01, 0.25), [0.3, 0.6]]))
    cells = [grid[(grid >= low) & (grid <= high)] for low, high in zip(lower.ravel(), upper.ravel(), strict=True)]
    for values in itertools.product(*cells):
        yield np.array(values).reshape(lower.shape)


def measured(truth: Flags, p: Array) -> dict[str, Array]:
    weights = np.ones((1, len(truth)))
    parts = [metrics.decisions(truth, p >= THRESHOLD)(weights), metrics.ranking(truth, p)(weights)]
    pooled = {name: values for part in parts for name, values in part.pooled.items()}
    return pooled | {f"label {name}": values[0] for part in parts for name, values in part.labels.items()}


def allowed(truth: Flags, lower: Array, upper: Array) -> dict[str, tuple[Array, Array]]:
    parts = [
        metric_ranges.decision_ranges(truth, lower, upper, THRESHOLD),
        metric_ranges.ranking_ranges(truth, lower, upper),
    ]
    pooled = {name: tuple(map(np.atleast_1d, ends)) for part in parts for name, ends in part.pooled.items()}
    return pooled | {f"label {name}": ends for part in parts for name, ends in part.labels.items()}  # type: ignore[return-value]


@pytest.mark.parametrize("seed", range(12))
def test_no_choice_inside_the_bounds_leaves_the_range_and_exact_ones_are_reached(seed: int) -> None:
    truth, lower, upper = small_set(seed)
    result = allowed(truth, lower, upper)
    assert set(result) == set(measured(truth, lower))
    lowest = {name: np.full_like(ends[0], np.inf) for name, ends in result.items()}
    highest = {name: np.full_like(ends[0], -np.inf) for name, ends in result.items()}
    for p in choices(lower, upper):
        for name, values in measured(truth, p).items():
            lowest[name] = np.fmin(lowest[name], values)
            highest[name] = np.fmax(highest[name], values)
    for name, (low, high) in result.items():
        reached = np.isfinite(lowest[name])
        assert (np.isnan(low) == ~reached).all(), name
        assert (low[reached] <= lowest[name][reached] + 1e-12).all(), name
        assert (high[reached] >= highest[name][reached] - 1e-12).all(), name
        if "average_precision" not in name:
            assert low[reached] == pytest.approx(lowest[name][reached]), name
            assert high[reached] == pytest.approx(highest[name][reached]), name


@pytest.mark.parametrize("seed", range(12))
def test_ranges_of_one_label_from_counts(seed: int) -> None:
    truth, lower, upper = small_set(seed)
    for column in range(2):
        gold, ends = truth[:, column], (lower[:, column], upper[:, column])
        flagged = [end >= THRESHOLD for end in ends]
        counts = [tuple(int((flags & part).sum()) for flags in flagged) for part in (gold, ~gold)]
        result = metric_ranges.binary_ranges(counts[0], counts[1], int(gold.sum()), len(gold))  # type: ignore[arg-type]
        several = metric_ranges.decision_ranges(truth, lower, upper, THRESHOLD).labels
        for name, (low, high) in several.items():
            assert result[name] == pytest.approx((low[column], high[column]), nan_ok=True), name
        chosen = [p[:, 0] >= THRESHOLD for p in choices(ends[0][:, None], ends[1][:, None])]
        right = [float((flags == gold).mean()) for flags in chosen]
        assert result["accuracy"] == pytest.approx((min(right), max(right)))
        if not gold.all():
            alarms = [float(flags[~gold].mean()) for flags in chosen]
            assert result["false_positive_rate"] == pytest.approx((min(alarms), max(alarms)))


@pytest.mark.parametrize("seed", range(8))
def test_average_precision_keeps_its_range_with_many_ties(seed: int) -> None:
    """Positives that share a score may do better than in any strict order: the corner is not the best choice."""
    rng = np.random.default_rng(seed)
    n = 60
    truth = rng.random(n) < 0.3
    middle, half = rng.integers(0, 12, size=n) / 12, rng.integers(0, 3, size=n) / 24
    lower, upper = np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1)
    low, high = metric_ranges.average_precision_range(truth, lower, upper)
    for _ in range(60):
        p = np.round(rng.uniform(lower, upper) * rng.choice([12, 24, 1000])) / rng.choice([12, 24, 1000])
        p = np.clip(p, lower, upper)
        assert low - 1e-12 <= reference.average_precision_score(truth, p) <= high + 1e-12
    exact = reference.average_precision_score(truth, middle)
    assert metric_ranges.average_precision_range(truth, middle, middle) == pytest.approx((exact, exact))


def test_tied_positives_can_beat_the_corner() -> None:
    truth = np.array([False] * 10 + [True] * 10)
    lower = np.array([0.9] * 10 + [0.5] * 10)
    upper = np.array([0.9] * 10 + list(np.linspace(0.5, 0.6, 10)))
    corner = reference.average_precision_score(truth, upper)
    tied = reference.average_precision_score(truth, lower)
    assert corner < tied <= metric_ranges.average_precision_range(truth, lower, upper)[1]


@pytest.mark.parametrize("seed", range(5))
def test_scores_of_a_forecast_keep_their_range(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random((40, 3)) < 0.3
    lower = rng.random((40, 3)) * 0.8
    upper = lower + rng.random((40, 3)) * 0.2
    bins = equal_mass_bins(lower.ravel(), 5)
    result = metric_ranges.forecast_ranges(truth, lower, upper)
    result["ece"] = metric_ranges.calibration_error_range(truth.ravel(), lower.ravel(), upper.ravel(), bins)
    worst, best = metric_ranges.corners(truth, lower, upper)
    for p in [worst, best, lower, upper, *(rng.uniform(lower, upper) for _ in range(200))]:
        value = {
            "brier": np.mean((p - truth) ** 2),
            "log_loss": reference.log_loss(truth.ravel(), p.ravel(), labels=[False, True]),
            "ece": np.abs(np.bincount(bins, weights=(p - truth).ravel())).sum() / p.size,
        }
        for name, (low, high) in result.items():
            assert low - 1e-9 <= value[name] <= high + 1e-9, name
    assert result["brier"][1] == pytest.approx(np.mean((worst - truth) ** 2))

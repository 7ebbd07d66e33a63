"""Confidence sequences for means over passages: coverage by simulation, and what must always be true."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from marginalia.scoring.reasoning.passage_means import mean_interval

Draw = Callable[[np.random.Generator, int], np.ndarray]
DISTRIBUTIONS: dict[str, tuple[Draw, float]] = {
    "coin": (lambda rng, k: (rng.random(k) < 0.5) * 1.0, 0.5),
    "rare": (lambda rng, k: (rng.random(k) < 0.04) * 1.0, 0.04),
    "common": (lambda rng, k: (rng.random(k) < 0.97) * 1.0, 0.97),
    "spread out": (lambda rng, k: rng.beta(2, 5, k), 2 / 7),
    "two groups": (lambda rng, k: np.where(rng.random(k) < 0.3, 0.9, 0.05), 0.3 * 0.9 + 0.7 * 0.05),
    "equal": (lambda rng, k: np.full(k, 0.7), 0.7),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_coverage_when_sampling_stops_at_a_narrow_interval(name: str) -> None:
    """As the scorer does it: 4, 8, 16 … passages until the interval is narrow. Without validity for optional stopping,
    intervals that are checked four times would miss the mean in more than 5 % of cases."""
    draw, truth = DISTRIBUTIONS[name]
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(300):
        values = draw(rng, 32)[:, None]
        for count in (4, 8, 16, 32):
            ones = np.ones(count)
            _, lower, upper = mean_interval(values[:count], values[:count], ones, ones)
            if upper[0] - lower[0] <= 0.4:
                break
        covered += lower[0] <= truth <= upper[0]
    assert covered >= 0.95 * 300 - 2 * np.sqrt(300 * 0.05 * 0.95)


def test_coverage_of_a_weighted_mean() -> None:
    """P(label | in the format) is a ratio of means; half of the passages have no answer."""
    rng = np.random.default_rng(8)
    covered = 0
    for _ in range(300):
        reached = (rng.random(16) < 0.5) * 1.0
        values = (rng.random((16, 1)) < 0.8 * 1.0) * reached[:, None]
        _, lower, upper = mean_interval(values, values, reached, reached)
        covered += lower[0] <= 0.8 <= upper[0]
    assert covered >= 0.95 * 300 - 2 * np.sqrt(300 * 0.05 * 0.95)


def test_bounds_of_passages_widen_the_interval() -> None:
    rng = np.random.default_rng(9)
    values, ones = rng.random((8, 5)), np.ones(8)
    mean, lower, upper = mean_interval(values, values, ones, ones)
    assert mean == pytest.approx(values.mean(axis=0))
    assert (lower >= 0).all() and (lower <= mean).all() and (mean <= upper).all() and (upper <= 1).all()
    low, high = np.maximum(values - 0.1, 0), np.minimum(values + 0.1, 1)
    _, wider_lower, wider_upper = mean_interval(low, high, ones, ones)
    assert (wider_lower <= lower + 1e-9).all() and (wider_upper >= upper - 1e-9).all()
    _, narrow_lower, narrow_upper = mean_interval(
        np.vstack([values] * 8), np.vstack([values] * 8), np.ones(64), np.ones(64)
    )
    assert ((narrow_upper - narrow_lower) < (upper - lower)).all()


def test_without_any_answer_nothing_is_known() -> None:
    zeros = np.zeros((4, 2))
    mean, lower, upper = mean_interval(zeros, zeros, np.zeros(4), np.zeros(4))
    assert (mean.tolist(), lower.tolist(), upper.tolist()) == ([0.5, 0.5], [0.0, 0.0], [1.0, 1.0])


def test_equal_passages_are_not_certainty() -> None:
    """Four passages that agree do not show that all passages would."""
    ones = np.ones((4, 1))
    _, lower, upper = mean_interval(ones, ones, np.ones(4), np.ones(4))
    assert upper[0] == 1.0 and lower[0] < 0.5

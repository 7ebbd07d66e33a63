"""Intervals against scipy's distributions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import hypergeom

from scoring.intervals import share_of_finite


@pytest.mark.parametrize(
    ("successes", "n", "population"), [(3, 10, 100), (0, 50, 500), (20, 20, 60), (2, 50, 1000), (5, 37, 37), (0, 1, 9)]
)
def test_the_share_of_a_finite_population_inverts_the_hypergeometric_test(
    successes: int, n: int, population: int
) -> None:
    counts = np.arange(successes, population - n + successes + 1)
    low = counts[hypergeom.sf(successes - 1, population, counts, n) > 0.025].min() / population
    high = counts[hypergeom.cdf(successes, population, counts, n) > 0.025].max() / population
    assert share_of_finite(successes, n, population, confidence=0.95) == pytest.approx((low, high))

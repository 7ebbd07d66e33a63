"""Intervals against scipy's distributions, and how often they cover a known truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import hypergeom, norm

from marginalia.scoring.measures.intervals import (
    bootstrap_metric,
    clopper_pearson,
    left_out_weights,
    of_effective_size,
    share_of_finite,
    share_of_values,
)
from marginalia.scoring.measures.jackknife import jackknife_variance, pooled_variance
from marginalia.scoring.measures.metrics import Bootstrapped, Measured, averaged_labels, bootstrap, ranking


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


def clustered(rng: np.random.Generator, n: int, labels: int, rate: float, dependence: float) -> np.ndarray:
    """(n, labels) flags of that rate, with the correlation `dependence` of the latent variables within a record."""
    shared = rng.normal(size=(n, 1))
    latent = np.sqrt(dependence) * shared + np.sqrt(1 - dependence) * rng.normal(size=(n, labels))
    return np.asarray(latent < norm.ppf(rate))


def test_a_share_of_values_covers_although_values_of_a_record_are_dependent() -> None:
    by_value = by_record = 0
    for seed in range(200):
        hits = clustered(np.random.default_rng(seed), 60, 8, 0.2, 0.7)
        result = share_of_values(hits, np.ones_like(hits), confidence=0.95, undefined="")
        assert result.low is not None and result.high is not None
        by_record += result.low <= 0.2 <= result.high
        low, high = clopper_pearson(int(hits.sum()), hits.size, confidence=0.95)
        by_value += low <= 0.2 <= high
    assert by_record >= 0.93 * 200
    assert by_value < 0.75 * 200


def test_a_share_of_values_is_clopper_pearsons_with_one_value_per_record_and_counts_records_when_all_agree() -> None:
    hits = np.array([[True], [False], [True], [True]])
    result = share_of_values(hits, np.ones_like(hits), confidence=0.95, undefined="")
    assert (result.value, result.low, result.high) == (0.75, *clopper_pearson(3, 4, confidence=0.95))
    none = share_of_values(np.zeros((5, 3), dtype=bool), np.ones((5, 3), dtype=bool), confidence=0.95, undefined="")
    assert (none.value, none.low, none.high, none.n) == (0.0, *clopper_pearson(0, 5, confidence=0.95), 15)
    alike = share_of_values(np.array([[True, False]]), np.array([[True, True]]), confidence=0.95, undefined="")
    assert (alike.low, alike.high) == clopper_pearson(0.5, 1, confidence=0.95)
    assert share_of_values(hits, np.zeros_like(hits), confidence=0.95, undefined="why").reason == "why"


def test_the_jackknife_of_a_mean_is_its_known_variance() -> None:
    values = np.random.default_rng(1).random(40)
    left_out = np.concatenate(list(left_out_weights(40))) @ values / 39
    assert jackknife_variance(left_out) == pytest.approx(values.var(ddof=1) / 40)
    many = np.random.default_rng(2).random(5_000)
    weights = np.concatenate(list(left_out_weights(5_000)))
    assert weights.shape == (200, 5_000) and (weights.sum(0) == 199).all()
    assert jackknife_variance(weights @ many / weights.sum(1)) == pytest.approx(many.var(ddof=1) / 5_000, rel=0.3)


def test_a_metric_with_a_shares_variance_has_a_shares_interval() -> None:
    assert of_effective_size(0.3, 0.3 * 0.7 / 50, confidence=0.95) == pytest.approx(
        clopper_pearson(15, 50, confidence=0.95)
    )


def test_intervals_of_macro_averages_over_rare_labels_cover_as_stated() -> None:
    rates = np.array([0.25, 0.1, 0.06, 0.03, 0.02])
    true = macro_average_precision(np.random.default_rng(0), 60_000, rates)[1].labels["average_precision"][0]
    covered, percentiles, total = 0, 0, 150
    for seed in range(total):
        truth, value, result = macro_average_precision(np.random.default_rng([1, seed]), 150, rates, seed=seed)
        goal = true[averaged_labels(truth, ranking=True)].mean()
        name = "macro_average_precision"
        metric = bootstrap_metric(
            float(value.pooled[name][0]),
            result.replicates.pooled[name],
            len(truth),
            confidence=0.95,
            undefined="",
            variance=pooled_variance(result, name, truth),
        )
        assert metric.low is not None and metric.high is not None
        covered += metric.low <= goal <= metric.high
        usable = result.replicates.pooled[name][np.isfinite(result.replicates.pooled[name])]
        percentiles += np.quantile(usable, 0.025) <= goal <= np.quantile(usable, 0.975)
    assert covered >= 0.9 * total  # 0.93 in benchmarks/coverage.py, less three standard errors of 150 worlds
    assert percentiles < 0.85 * total


def macro_average_precision(
    rng: np.random.Generator, n: int, rates: np.ndarray, seed: int | None = None
) -> tuple[np.ndarray, Measured, Bootstrapped]:
    truth = rng.random((n, len(rates))) < rates
    scores = 1.5 * truth + rng.normal(size=truth.shape)
    measure = ranking(truth, scores)
    value = measure(np.ones((1, n)))
    if seed is None:
        return truth, value, Bootstrapped(value, value)
    return truth, value, bootstrap(measure, n, resamples=200, seed=seed, left_out=True)


def test_a_macro_average_of_rare_labels_alone_has_no_interval() -> None:
    truth = np.zeros((50, 2), dtype=bool)
    truth[:3, 0] = truth[10:14, 1] = True
    measure = ranking(truth, np.random.default_rng(1).random((50, 2)))
    result = bootstrap(measure, 50, resamples=200, seed=1, left_out=True)
    metric = bootstrap_metric(
        float(result.value.pooled["macro_roc_auc"][0]),
        result.replicates.pooled["macro_roc_auc"],
        50,
        confidence=0.95,
        undefined="",
        variance=pooled_variance(result, "macro_roc_auc", truth),
    )
    assert (metric.low, metric.reason) == (
        None,
        "too few records with and without each label for an interval",
    )

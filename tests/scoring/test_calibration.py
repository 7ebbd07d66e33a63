"""Recalibration on data whose truth is known, and calibration measures computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.isotonic import IsotonicRegression

from marginalia.schemas.calibration_json import Beta, Calibration, Identity, Isotonic, LabelMap, Platt
from marginalia.scoring.measures import calibration
from marginalia.scoring.measures.reliability import (
    decompose_brier,
    decompose_log_loss,
    equal_mass_bins,
    expected_calibration_error,
    quality,
)

METHODS = ("platt", "beta", "isotonic")


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def distorted(n: int, slope: float, intercept: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(truth, p, the true probability): p's logit must be mapped to slope * logit + intercept."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n) * 1.5
    true = sigmoid(slope * z + intercept)
    return rng.random(n) < true, sigmoid(z), true


def test_platt_finds_the_known_distortion() -> None:
    truth, p, _ = distorted(50_000, slope=0.5, intercept=-1.0)
    result = calibration.fit_platt(truth, p)
    assert isinstance(result, Platt)
    assert result.slope == pytest.approx(0.5, abs=0.02)
    assert result.intercept == pytest.approx(-1.0, abs=0.03)


def test_beta_finds_the_known_distortion() -> None:
    rng = np.random.default_rng(1)
    p = rng.uniform(0.02, 0.98, 80_000)
    true = sigmoid(0.7 * np.log(p) - 1.4 * np.log1p(-p) - 0.3)
    result = calibration.fit_beta(rng.random(80_000) < true, p)
    assert isinstance(result, Beta)
    assert (result.a, result.b, result.c) == pytest.approx((0.7, 1.4, -0.3), abs=0.06)


@pytest.mark.parametrize("method", METHODS)
def test_recalibrated_probabilities_approach_the_truth(method: str) -> None:
    truth, p, true = distorted(20_000, slope=0.4, intercept=-0.8, seed=2)
    mapping = calibration.METHODS[method](truth, p)
    assert np.abs(calibration.apply_map(mapping, p) - true).mean() < 0.02
    assert np.abs(p - true).mean() > 0.15


def test_isotonic_steps_are_scikit_learns_with_one_value_of_each_class_added() -> None:
    truth, p, _ = distorted(400, 0.6, 0.0, seed=3)
    p = p.round(2)
    fitted = IsotonicRegression(out_of_bounds="clip").fit(p, truth).predict(p)
    smoothed = np.array([(truth[fitted == step].sum() + 1) / ((fitted == step).sum() + 2) for step in fitted])
    weights = np.array([1 + 2 / (fitted == step).sum() for step in fitted])  # a step's values weigh two more together
    expected = IsotonicRegression().fit(p, smoothed, sample_weight=weights).predict(p)
    result = calibration.apply_map(calibration.fit_isotonic(truth, p), p)
    assert result == pytest.approx(expected, abs=1e-9)


def test_a_few_values_at_the_ends_do_not_give_certainty() -> None:
    # of 20 values the lowest three are negative and the highest three positive: Laplace's rule gives 1/5 and 4/5
    p = np.linspace(0.05, 0.95, 20)
    truth = np.array([False] * 3 + [True, False] * 7 + [True] * 3)
    result = calibration.apply_map(calibration.fit_isotonic(truth, p), np.array([0.0, 1.0]))
    assert result.tolist() == pytest.approx([1 / 5, 4 / 5])
    alone = calibration.fit_isotonic(np.array([True]), np.array([0.7]))
    assert calibration.apply_map(alone, 0.99) == pytest.approx(2 / 3)


def test_isotonic_loses_less_on_new_records_than_the_plain_fit() -> None:
    losses = []
    for seed in range(30):
        truth, p, _ = distorted(100, 1.3, 0.3, seed)
        unseen, q, _ = distorted(2_000, 1.3, 0.3, 1000 + seed)
        plain = np.clip(IsotonicRegression(out_of_bounds="clip").fit(p, truth).predict(q), 1e-6, 1 - 1e-6)
        ours = calibration.apply_map(calibration.fit_isotonic(truth, p), q)
        losses.append([calibration.log_losses(unseen, mapped).mean() for mapped in (plain, ours)])
    plain_loss, our_loss = np.mean(losses, axis=0)
    assert our_loss < plain_loss - 0.05


@pytest.mark.parametrize("method", METHODS)
def test_maps_never_decrease_even_if_the_guard_is_inverted(method: str) -> None:
    truth, p, _ = distorted(2_000, slope=-1.0, intercept=0.0, seed=4)
    mapping = calibration.METHODS[method](truth, p)
    mapped = calibration.apply_map(mapping, np.r_[0.0, np.linspace(0, 1, 500), 1.0])
    assert (np.diff(mapped) >= 0).all()
    assert np.isfinite(mapped).all()
    assert ((mapped >= 0) & (mapped <= 1)).all()


def test_platt_stays_finite_on_separable_data() -> None:
    truth = np.array([False] * 20 + [True] * 20)
    result = calibration.fit_platt(truth, np.where(truth, 0.9, 0.1))
    assert isinstance(result, Platt)
    # Platt's targets 21/22 and 1/22 are met exactly at logit(21/22) = slope * logit(0.9)
    assert result.slope == pytest.approx(np.log(21) / np.log(9), rel=1e-4)
    assert result.intercept == pytest.approx(0.0, abs=1e-6)


def test_apply_takes_numbers_arrays_and_bounds() -> None:
    fitted = Calibration(
        simulated=False,
        guard="g",
        estimator="marginal",
        method="platt",
        records=10,
        cross_fitted_log_loss={},
        pooled=Platt(slope=1.0, intercept=0.0),
        labels={
            "a": LabelMap(map=Platt(slope=2.0, intercept=0.0), source="label", positives=5),
            "b": LabelMap(map=Identity(), source="identity", positives=0),
            "c": LabelMap(map=Isotonic(x=[0.2, 0.6], y=[0.1, 0.5]), source="label", positives=5),
        },
    )
    assert calibration.apply(fitted, "a", 0.75) == pytest.approx(0.9)  # odds 3 squared
    assert calibration.apply(fitted, "b", 0.0) == 0.0
    assert calibration.apply(fitted, "c", np.array([0.0, 0.4, 1.0])) == pytest.approx([0.1, 0.3, 0.5])
    assert calibration.apply(fitted, "unknown", 0.4) == pytest.approx(0.4)
    low, mid, high = (calibration.apply(fitted, "a", p) for p in (0.0, 0.3, 1.0))
    assert 0 <= low < mid < high <= 1
    assert Calibration.model_validate_json(fitted.model_dump_json()) == fitted


def test_a_rare_label_gets_the_pooled_map_and_auto_the_best_method() -> None:
    truth, p, _ = distorted(3_000, slope=0.4, intercept=-0.8, seed=5)
    both = np.column_stack([truth, np.arange(3_000) < 3])
    fitted = calibration.fit(
        both,
        np.column_stack([p, p]),
        ["common", "rare"],
        guard="g",
        estimator="marginal",
        method="auto",
        min_positives=10,
        folds=5,
        seed=1,
        simulated=False,
    )
    assert fitted.labels["common"].source == "label"
    assert fitted.labels["rare"].source == "pooled"
    assert fitted.labels["rare"].map == fitted.pooled
    losses = fitted.cross_fitted_log_loss
    assert losses[fitted.method] == min(losses.values()) < losses["identity"]


def test_cross_fitting_does_not_use_a_records_own_label() -> None:
    rng = np.random.default_rng(6)
    truth, p = rng.random((200, 1)) < 0.5, rng.random((200, 1))
    out_of_fold = calibration.cross_fitted_loss(truth, p, "isotonic", 1, 5, 0)
    seen = calibration.apply_map(calibration.fit_isotonic(truth[:, 0], p[:, 0]), p)
    assert calibration.log_losses(truth, seen).mean() < np.log(2) < out_of_fold


def test_folds_spread_every_labels_positives() -> None:
    rng = np.random.default_rng(7)
    truth = rng.random((203, 6)) < np.array([0.02, 0.05, 0.1, 0.3, 0.5, 0.0])
    fold_of = calibration.stratified_folds(truth, 5, 1)
    sizes = np.bincount(fold_of, minlength=5)
    assert sizes.sum() == 203
    assert np.ptp(sizes) <= 4
    for label in range(5):
        counts = np.bincount(fold_of[truth[:, label]], minlength=5)
        assert np.ptp(counts) <= max(2, 0.25 * counts.mean()), label


def test_ece_by_hand() -> None:
    p = np.array([0.1, 0.2, 0.6, 0.9])
    truth = np.array([False, True, True, True])
    # bins {0.1, 0.2} and {0.6, 0.9}: |0.15 - 0.5| and |0.75 - 1|, half the values each
    assert expected_calibration_error(truth, p, 2) == pytest.approx(0.5 * 0.35 + 0.5 * 0.25)


def test_equal_values_share_a_bin_and_bins_are_equally_full_without_ties() -> None:
    assert np.bincount(equal_mass_bins(np.linspace(0, 1, 103), 10)).tolist() == [11] * 3 + [10] * 7
    tied = equal_mass_bins(np.r_[np.zeros(50), np.linspace(0.1, 1, 10)], 5)
    assert len(np.unique(tied[:50])) == 1
    assert (equal_mass_bins(np.zeros(7), 3) == 0).all()


def test_a_calibrated_forecast_stays_below_its_own_ece_limit() -> None:
    rng = np.random.default_rng(8)
    p = rng.random((500, 3))
    kwargs = {"splits": ["test"], "bins": 10, "confidence": 0.95, "resamples": 200, "seed": 3}
    good = quality(rng.random((500, 3)) < p, p, **kwargs)  # type: ignore[arg-type]
    bad = quality(rng.random((500, 3)) < p**3, p, **kwargs)  # type: ignore[arg-type]
    assert good is not None
    assert bad is not None
    assert good.ece_if_calibrated is not None
    assert bad.ece_if_calibrated is not None
    assert good.ece.value is not None
    assert bad.ece.value is not None
    assert good.ece.value < good.ece_if_calibrated
    assert bad.ece.value > 3 * bad.ece_if_calibrated


def dependent_forecasts(seed: int, n: int, slope: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(truth, p, the true probability), each (n, 8): the labels of a record are dependent."""
    rng = np.random.default_rng(seed)
    z = -1.5 + 1.2 * rng.normal(size=(n, 8)) + 0.8 * rng.normal(size=(n, 1))
    true = sigmoid(slope * z)
    latent = norm.cdf(np.sqrt(0.6) * rng.normal(size=(n, 1)) + np.sqrt(0.4) * rng.normal(size=(n, 8)))
    return latent < true, sigmoid(z), true


@pytest.mark.parametrize("slope", [1.0, 0.7])
def test_the_calibration_error_is_unbiased_and_covers_although_labels_are_dependent(slope: float) -> None:
    _, everywhere, certain = dependent_forecasts(0, 40_000, slope)
    order = np.argsort(everywhere, axis=None)
    p_sorted, gap = everywhere.ravel()[order], np.r_[0, np.cumsum((certain - everywhere).ravel()[order])]
    covered, result, plain, trues, over_limit = 0, [], [], [], 0
    for seed in range(1, 121):
        truth, p, _ = dependent_forecasts(seed, 150, slope)
        page = quality(truth, p, splits=["test"], bins=10, confidence=0.95, resamples=300, seed=seed)
        assert page is not None and page.ece.value is not None and page.ece_plug_in is not None
        assert page.ece.low is not None and page.ece.high is not None and page.ece_if_calibrated is not None
        bin_of = equal_mass_bins(p.ravel(), 10)
        cuts = [p.ravel()[bin_of == number].max() for number in range(bin_of.max())]
        edges = np.r_[0, np.searchsorted(p_sorted, cuts, side="right"), len(p_sorted)]
        true = float(np.abs(gap[edges[1:]] - gap[edges[:-1]]).sum() / len(p_sorted))
        covered += page.ece.low - 1e-3 <= true <= page.ece.high
        over_limit += page.ece.value > page.ece_if_calibrated
        assert page.ece_plug_in == pytest.approx(expected_calibration_error(truth.ravel(), p.ravel(), 10))
        for values, value in ((result, page.ece.value), (plain, page.ece_plug_in), (trues, true)):
            values.append(value)
    assert covered >= 0.9 * 120  # 0.93 and more in benchmarks/coverage.py
    assert np.mean(result) - np.mean(trues) < 0.5 * (np.mean(plain) - np.mean(trues))
    if slope == 1.0:
        assert over_limit <= 0.1 * 120  # 0.05 if labels were independent; 0.17 when they were taken to be
    else:
        assert over_limit > 0.5 * 120


def test_a_forecast_that_cannot_vary_has_no_interval() -> None:
    truth = np.array([[True], [False], [True]])
    page = quality(truth, truth.astype(float), splits=["test"], bins=2, confidence=0.95, resamples=50, seed=1)
    assert page is not None
    assert (page.ece.value, page.ece.low, page.ece_if_calibrated) == (0.0, None, 0.0)


def test_decompositions_add_up_and_recognise_a_calibrated_forecast() -> None:
    truth = np.array([True, False, True, True, False, False])
    p = np.array([2 / 3, 2 / 3, 2 / 3, 1 / 3, 1 / 3, 1 / 3])
    parts = decompose_brier(truth, p)  # each value comes true as often as it says
    assert parts.miscalibration == pytest.approx(0.0, abs=1e-12)
    assert parts.uncertainty == pytest.approx(0.25)
    assert parts.discrimination == pytest.approx(0.25 - 2 / 9)
    rng = np.random.default_rng(9)
    p = rng.random(300)
    truth = rng.random(300) < p**2
    for parts, score in (
        (decompose_brier(truth, p), np.mean((p - truth) ** 2)),
        (decompose_log_loss(truth, p), calibration.log_losses(truth, p).mean()),
    ):
        assert parts.miscalibration - parts.discrimination + parts.uncertainty == pytest.approx(score)
        assert parts.miscalibration > 0
        assert parts.discrimination > 0


def test_binning_many_values_hardly_changes_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, p, _ = distorted(30_000, slope=0.6, intercept=-0.7, seed=10)
    p[:50] = 0.0  # the clipped ends, too
    binned = [calibration.METHODS[method](truth, p).model_dump() for method in ("platt", "beta")]
    monkeypatch.setattr(calibration, "MOST_VALUES", 10**9)
    for result, method in zip(binned, ("platt", "beta"), strict=True):
        exact = calibration.METHODS[method](truth, p).model_dump()
        assert {**result, "method": 0} == pytest.approx({**exact, "method": 0}, abs=2e-4)

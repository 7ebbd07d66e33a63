"""The bounds of probabilities in an evaluation: ranges of metrics, findings that stay open, a suggested tolerance."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from marginalia.pipeline.config.evaluation import EvaluateSection
from marginalia.pipeline.evaluation.evaluate_guards import GuardScores, evaluate
from marginalia.pipeline.report.terminal_summary import headline
from marginalia.schemas.evaluation_json import Evaluation, GuardEvaluation
from tests.pipeline.synthetic_run import Frames, Synthetic, make_frames

CONFIG = EvaluateSection(resamples=150)


def with_bounds(frames: Frames, width: float) -> pl.DataFrame:
    """The scores with bounds that are `width` apart."""
    p = pl.col("probability")
    low = pl.max_horizontal(p - width / 2, pl.lit(0.0))
    return frames.scores.with_columns(lower=low, upper=pl.min_horizontal(low + width, pl.lit(1.0)))


def evaluated(frames: Frames, width: float, *, tolerance: float | None = None, second: bool = False) -> Evaluation:
    guards = [GuardScores("first", with_bounds(frames, width), frames.records, tolerance=tolerance)]
    if second:
        better = make_frames(Synthetic(n=240, skill=0.55))
        guards.append(GuardScores("second", with_bounds(better, width), better.records))
    return evaluate(frames.gold, guards, None, frames.taxonomy, CONFIG, seed=5, simulated=False).evaluation


@pytest.fixture(scope="module")
def frames() -> Frames:
    return make_frames(Synthetic(n=240, skill=0.45))


def page_of(evaluation: Evaluation) -> GuardEvaluation:
    return evaluation.guards[0]


def test_every_metric_of_the_recommended_estimator_has_its_range(frames: Frames) -> None:
    best = page_of(evaluated(frames, 0.04)).estimators[0]
    assert best.estimator == "marginal"
    assert best.calibration.raw is not None
    shown = {
        **best.metrics,
        **{f"verdict {name}": metric for name, metric in best.verdict.items()},
        **{f"tuned {name}": metric for name, metric in best.tuned.items()},
        **{f"{row.label} {name}": metric for row in best.labels for name, metric in row.metrics.items()},
        **{name: getattr(best.calibration.raw, name) for name in ("ece", "brier", "log_loss")},
        **{
            f"{row.goal} {name}": getattr(row.judged_on, name)
            for row in best.thresholds.overall
            for name in ("precision", "recall", "f1", "false_positive_rate")
        },
    }
    for name, metric in shown.items():
        assert metric.range_low is not None, name
        assert metric.range_low <= metric.value <= metric.range_high, name
    rows = frames.scores.filter(pl.col("estimator") == "marginal")
    p = {(row["record_id"], row["label"]): row["probability"] for row in rows.iter_rows(named=True)}
    truth, low, high = [], [], []
    for gold in frames.gold.filter(pl.col("split") != "train").iter_rows(named=True):
        if gold["status"] == "final" and (gold["id"], frames.taxonomy.ids[0]) in p:
            values = np.array([p[gold["id"], label] for label in frames.taxonomy.ids])
            truth.append([label in gold["labels"] for label in frames.taxonomy.ids])
            low.append(np.maximum(values - 0.02, 0))
            high.append(np.minimum(low[-1] + 0.04, 1))
    worst, best_case = np.where(truth, low, high), np.where(truth, high, low)
    auc = best.metrics["macro_roc_auc"]
    assert auc.range_low == pytest.approx(roc_auc_score(truth, worst))
    assert auc.range_high == pytest.approx(roc_auc_score(truth, best_case))


def test_single_numbers_have_no_range(frames: Frames) -> None:
    page = page_of(evaluated(frames, 0.0))
    assert page.bounds is None
    assert all(metric.range_low is None for estimator in page.estimators for metric in estimator.metrics.values())
    assert not any("bounds" in line for line in headline(evaluated(frames, 0.0)))


def test_a_sampled_estimators_interval_is_not_a_bound(frames: Frames) -> None:
    sampled_scores = with_bounds(frames, 0.1).with_columns(pl.col("estimator").replace("marginal", "monte_carlo"))
    guards = [GuardScores("first", sampled_scores, frames.records)]
    evaluation = evaluate(frames.gold, guards, None, frames.taxonomy, CONFIG, seed=5, simulated=False).evaluation
    sampled = next(estimator for estimator in page_of(evaluation).estimators if estimator.estimator == "monte_carlo")
    assert sampled.metrics["macro_roc_auc"].range_low is None


def test_wide_ranges_are_shown_with_a_tolerance_at_which_they_are_not(frames: Frames) -> None:
    wide = evaluated(frames, 0.2, tolerance=0.1)
    bounds = page_of(wide).bounds
    assert bounds is not None
    assert bounds.widest == pytest.approx(0.2)
    assert bounds.beyond == page_of(wide).estimators[0].n  # the search was asked for 0.1 and did not reach it
    assert {"macro_roc_auc", "micro_roc_auc"} <= set(bounds.wide)
    assert bounds.tolerance is not None
    assert bounds.tolerance < 0.2
    lines = "\n".join(headline(wide))
    assert "bounds allow" in lines
    assert f"score.tolerance: {bounds.tolerance:g}" in lines
    narrow = page_of(evaluated(frames, bounds.tolerance, tolerance=bounds.tolerance)).bounds
    assert narrow is not None
    assert narrow.wide == []
    assert (narrow.tolerance, narrow.beyond) == (None, 0)


def test_guards_are_not_called_different_when_bounds_could_explain_the_difference(frames: Frames) -> None:
    for width, finding in ((0.0, "better"), (0.002, "better"), (0.3, "no clear difference")):
        rows = [row for row in evaluated(frames, width, second=True).guard_differences if row.tested]
        (row,) = rows
        assert row.metric == "macro_roc_auc"
        assert row.difference.low is not None
        assert row.difference.low > 0  # clear if the probabilities were exact
        assert row.finding == finding
        if width:
            assert row.difference.range_low is not None
            assert row.difference.range_high is not None
            assert row.difference.range_low < (row.difference.value or 0) < row.difference.range_high

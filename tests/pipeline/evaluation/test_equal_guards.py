"""Equally good guards are seldom called different. `make bench-comparisons` does the same at full size."""

from __future__ import annotations

from benchmarks.comparisons import World, compared, measured
from marginalia.pipeline.config.evaluation import EvaluateSection

CONFIG = EvaluateSection(resamples=200)
PAIRS = 120


def test_equal_guards_are_seldom_called_different_and_intervals_hold_the_truth() -> None:
    measures = measured(World(records=160, labels=5, shared=0.9, rarest=0.12), CONFIG, pairs=PAIRS, seed=2)
    assert measures["findings"] <= 0.05
    assert {"macro_roc_auc", "tuned_micro_f1", "tuned_macro_f1", "brier"} <= measures["coverage"].keys()
    for name, share in measures["coverage"].items():
        assert share >= 0.9, name  # 0.93 at full size; with 120 pairs the estimate is less precise


def test_a_clear_difference_is_found_in_the_primary_metric_alone() -> None:
    world = World(records=300, labels=5, gain=1.5)
    for primary in ("macro_roc_auc", "tuned_micro_f1"):
        config = EvaluateSection(resamples=200, primary=primary)
        pairs = list(compared(world, config, pairs=6, seed=3))
        tested = [row for pair in pairs for row in pair if row.tested]
        assert [row.metric for row in tested] == [primary] * 6
        assert [row.finding for row in tested] == ["better"] * 6
        assert {row.finding for pair in pairs for row in pair if not row.tested} == {"descriptive"}

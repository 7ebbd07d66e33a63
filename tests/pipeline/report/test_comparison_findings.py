"""Findings about paired differences between guards and between runs, with planted values."""

from __future__ import annotations

import pytest

from marginalia.pipeline.compare.comparison_model import ComparedRunSummary, Comparison, MetricRow, SharedGold
from marginalia.pipeline.compare.comparison_text import comparison_finding, comparison_table
from marginalia.pipeline.evaluation.paired_differences import finding
from marginalia.pipeline.report.guard_comparison import side_by_side
from marginalia.schemas.evaluation_json import (
    Evaluation,
    Finding,
    GuardDifference,
    Metric,
)
from tests.pipeline.report.planted_values import BETTER, metric


def test_guards_side_by_side() -> None:
    def title(**findings: Finding) -> str:
        rows = [
            GuardDifference(
                guard=guard,
                estimator="marginal",
                reference="first",
                reference_estimator="marginal",
                metric=name,
                on="judged splits",
                labels=["a"],
                difference=metric(0.1, 0.05, 0.2),
                finding=finding_word if tested else "descriptive",
                tested=tested,
            )
            for guard, finding_word in findings.items()
            for name, tested in (("macro_roc_auc", True), ("micro_f1", False))
        ]
        evaluation = Evaluation.model_construct(guard_differences=rows, guards=[])
        shown = side_by_side(evaluation, "macro_roc_auc", {})
        assert shown is not None
        return shown.figure.title

    assert title(b="better", c="worse", d="no clear difference") == (
        "b is clearly better, c is clearly worse than first at ranking labels (macro ROC AUC)"
    )
    assert title(b="no clear difference").startswith("No guard is clearly better or worse than first")
    assert title(b="not known") == "Too few records to tell first and b apart"


@pytest.mark.parametrize(
    ("name", "difference_metric", "expected"),
    [
        ("macro_roc_auc", metric(0.1, 0.05, 0.2), "better"),
        ("hamming_loss", metric(0.1, 0.05, 0.2), "worse"),
        ("tuned_hamming_loss", metric(-0.1, -0.2, -0.05), "better"),
        ("verdict_false_positive_rate", metric(-0.1, -0.2, -0.05), "better"),
        ("macro_roc_auc", metric(0.1, 0.0, 0.2), "no clear difference"),
        ("macro_roc_auc", metric(0.0, 0.0, 0.0), "no clear difference"),
        ("macro_roc_auc", metric(0.1), "not known"),
        ("macro_roc_auc", None, "not known"),
        ("macro_roc_auc", metric(0.1, 0.05, 0.2, range_low=-0.1, range_high=0.2), "no clear difference"),
    ],
)
def test_differences(name: str, difference_metric: Metric | None, expected: Finding) -> None:
    assert finding(name, difference_metric, tested=True) == expected
    assert finding(name, difference_metric, tested=False) == ("not known" if expected == "not known" else "descriptive")


def test_two_runs() -> None:
    def compared(finding_word: Finding, change: Metric | None = None) -> Comparison:
        run = ComparedRunSummary(
            run="x",
            simulated=False,
            taxonomy="t",
            guard="g",
            model=None,
            estimator="marginal",
            records=9,
            gold_sha256="",
        )
        shared = SharedGold(same=True, records=9, only_a=0, only_b=0, changed=0, judged=9, labels=["a"])
        rows = [
            MetricRow(metric=name, on="judged splits", a=BETTER, b=BETTER, difference=change or metric(0.1, 0.05, 0.2),
                finding=finding_word if tested else "descriptive", tested=tested)
            for name, tested in (("macro_roc_auc", True), ("micro_f1", False))
        ]  # fmt: skip
        return Comparison(a=run, b=run.model_copy(update={"run": "y"}), differing=[], shared=shared, confidence=0.95,
                          metrics=rows, labels=[], notes=[])  # fmt: skip

    assert comparison_finding(compared("better")) == (
        "y is clearly better than x in macro ROC AUC (difference +0.05 to +0.20, 100 records)"
    )
    assert comparison_finding(compared("worse")) == (
        "y is clearly worse than x in macro ROC AUC (difference +0.05 to +0.20, 100 records)"
    )
    unclear = compared("no clear difference", metric(0.1, -0.1, 0.2))
    assert comparison_finding(unclear) == "No clear difference between x and y in macro ROC AUC"
    within = compared("no clear difference", metric(0.1, 0.05, 0.2, range_low=-0.2, range_high=0.3))
    assert comparison_finding(within).endswith("the bounds of the probabilities could explain the difference")
    assert "bounds allow −0.200 to 0.300" in comparison_table(within, width=200)
    assert comparison_finding(compared("not known")).startswith("It is not known whether y is better")
    assert [
        line.split("  ")[-1] for line in comparison_table(compared("better"), width=200).splitlines() if "F1" in line
    ] == ["descriptive"]

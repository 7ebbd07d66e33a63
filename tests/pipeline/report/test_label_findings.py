"""Findings about where a guard fails, with planted values."""

from __future__ import annotations

import pytest

from marginalia.pipeline.report.label_findings import (
    confusions_finding,
    labels_finding,
    review_finding,
    slices_finding,
    weakest_label_finding,
)
from marginalia.schemas.evaluation_json import (
    Confusion,
    LabelMetrics,
    Metric,
    ReviewPoint,
    Slice,
)
from tests.pipeline.report.planted_values import BETTER, NONE, UNCLEAR, WORSE, estimator, metric


def test_the_confidence_holds_for_all_labels_at_once() -> None:
    def sentence(*values: Metric) -> str:
        labels = [
            LabelMetrics(label=f"l{index}", n=100, positives=9, metrics={"roc_auc": value})
            for index, value in enumerate(values)
        ]
        with_labels = estimator("marginal", BETTER).model_copy(update={"labels": labels})
        return labels_finding(with_labels, {}, 0.95).sentence

    assert sentence(BETTER, BETTER) == "All 2 labels are recognised better than chance"
    assert sentence(BETTER, UNCLEAR, NONE).startswith(
        "1 of 2 labels is recognised clearly better than chance; l1 has the lowest ROC AUC (0.60, 9 positives in 100 "
        "records); 1 label has "
        "too few"
    )
    assert sentence(BETTER, NONE).endswith("1 label has too few records to tell")
    assert sentence(UNCLEAR, WORSE).startswith("None of 2 labels is recognised clearly better than chance")
    assert sentence(NONE) == "No label has enough records to say whether the guard recognises it"
    barely = metric(0.6, 0.51, 0.69)  # clear for one label, not for ten at once
    assert sentence(barely) == "The label is recognised better than chance"
    assert sentence(*[barely] * 10).startswith("None of 10 labels is recognised clearly")


def test_labels_that_were_never_judged_are_counted_apart() -> None:
    values = [("a", 50, BETTER), ("b", 50, NONE), ("c", 0, NONE), ("d", 0, NONE)]
    labels = [
        LabelMetrics(label=label, n=n, positives=min(n, 9), metrics={"roc_auc": value}) for label, n, value in values
    ]
    best = estimator("marginal", BETTER).model_copy(update={"labels": labels})
    assert labels_finding(best, {}, 0.95).sentence == (
        "The measurable label is recognised better than chance; 1 label has too few records to tell; "
        "2 labels were never judged"
    )


def test_slices() -> None:
    def sentence(*values: Metric) -> str:
        rows = [
            Slice(attribute="form", value=f"v{index}", n=50, metrics={"micro_roc_auc": auc})
            for index, auc in enumerate(values)
        ]
        return slices_finding(rows, 0.95).sentence

    assert sentence(WORSE, BETTER, UNCLEAR) == (
        "The guard is clearly worse where form is v0 (micro ROC AUC 0.30, 50 records) than v1 (micro ROC AUC 0.90, 50 "
        "records)"
    )
    assert sentence(UNCLEAR, UNCLEAR) == "No attribute makes a clear difference"
    assert sentence(BETTER, NONE) == "Too few records share an attribute to say where the guard is worse"
    apart = metric(0.6, 0.55, 0.65), metric(0.68, 0.66, 0.7)  # intervals apart: not clear among many values
    assert sentence(*apart).startswith("The guard is clearly worse")
    assert sentence(*apart, *[metric(0.64, 0.6, 0.69)] * 10) == "No attribute makes a clear difference"


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((1, 1, 1), "No two labels are confused in more than one record"),
        ((2, 2, 1), "No pair stands out: two pairs occur twice"),
        ((3,) * 11, "No pair stands out: 11 pairs occur 3 times"),
        ((5, 3), "No pair clearly stands out; most often the guard misses A0 and gives b (5 records; the next pair 3)"),
        ((5,), "No pair clearly stands out; most often the guard misses A0 and gives b (5 records)"),
        ((30, 8, 1), "The most frequent confusion: the guard misses A0 and gives b (30 records; the next pair 8)"),
    ],
)
def test_confusions(counts: tuple[int, ...], expected: str) -> None:
    pairs = [Confusion(gold=f"a{index}", predicted="b", records=count) for index, count in enumerate(counts)]
    assert confusions_finding(pairs, {"a0": "A0"}).sentence == expected


@pytest.mark.parametrize(
    ("n", "wrong", "left", "expected"),
    [
        (63, 29, 26, "leaves 41 % wrong, 4 points worse than reviewing at random (63 records; this may be chance)"),
        (63, 29, 21, "leaves 33 % wrong, 4 points better than reviewing at random (63 records; this may be chance)"),
        (1000, 400, 220, "leaves 22 % wrong, 10 points better than reviewing at random (1,000 records)"),
        (1000, 400, 380, "leaves 38 % wrong, 6 points worse than reviewing at random (1,000 records)"),
        (1000, 400, 320, "leaves 32 % wrong, as many as reviewing at random (1,000 records)"),
    ],
)
def test_review(n: int, wrong: int, left: int, expected: str) -> None:
    reviewed = int(0.2 * n)
    points = [
        ReviewPoint(
            share_reviewed=share, n_kept=kept, hamming_loss=0.1, subset_error=None, subset_error_overall=errors / n
        )
        for share, kept, errors in ((0.0, n, wrong), (reviewed / n, n - reviewed, left), (0.5, n // 2, 0))
    ]
    sentence = review_finding(points).sentence
    assert sentence == f"Reviewing the least certain {100 * reviewed / n:.0f} % {expected}"


def test_review_without_enough_test_records() -> None:
    start = ReviewPoint(share_reviewed=0, n_kept=12, hamming_loss=0.1, subset_error=0.5, subset_error_overall=0.5)
    few = [start, start.model_copy(update={"share_reviewed": 0.2, "n_kept": 10})]
    assert review_finding(few).sentence == "There are too few test records to plan reviews with"
    unknown = [point.model_copy(update={"subset_error_overall": None}) for point in few]
    assert review_finding(unknown).sentence == "There are no test records to plan reviews with"


def test_the_weakest_label() -> None:
    def sentence(*aucs: Metric) -> str:
        rows = [
            LabelMetrics(label=f"l{at}", n=100, positives=9, metrics={"roc_auc": auc}) for at, auc in enumerate(aucs)
        ]
        best = estimator("marginal", BETTER).model_copy(update={"labels": rows})
        return weakest_label_finding(best, {"l1": "Late"}, 0.95).sentence

    numbers = "0.30 (0.20 to 0.40), 9 positives in 100 records of the test split"
    assert sentence(BETTER, WORSE) == f"Late is recognised clearly worse than every other label: ROC AUC {numbers}"
    assert sentence(BETTER, WORSE, metric(0.35, 0.25, 0.45)) == (
        f"Late has the lowest ROC AUC, clearly below 1 of 2 others: {numbers}"
    )
    unclear = sentence(UNCLEAR, metric(0.55, 0.4, 0.7))
    assert unclear.startswith("Late has the lowest ROC AUC, but not clearly below any other: 0.55 (0.40 to 0.70)")
    assert sentence(BETTER, NONE) == ""


def test_labels_that_are_not_shown_to_be_recognised_are_named() -> None:
    labels = [
        LabelMetrics(label=label, n=100, positives=9, metrics={"roc_auc": auc})
        for label, auc in (("a", BETTER), ("b", UNCLEAR), ("c", metric(0.55, 0.4, 0.7)))
    ]
    found = labels_finding(estimator("marginal", BETTER).model_copy(update={"labels": labels}), {"b": "Bee"}, 0.95)
    assert "1 of 3 labels is recognised clearly better than chance; not shown for Bee and c; c has" in found.sentence


def test_the_weakest_label_by_f1_is_named_where_it_is_another_one() -> None:
    def sentence(f1_of_a: float) -> str:
        labels = [
            LabelMetrics(label=label, n=100, positives=9, metrics={"roc_auc": auc, "f1": metric(f1)})
            for label, auc, f1 in (("a", BETTER, f1_of_a), ("b", WORSE, 0.4))
        ]
        best = estimator("marginal", BETTER).model_copy(update={"labels": labels})
        return weakest_label_finding(best, {"a": "Ant"}, 0.95).sentence

    assert sentence(0.3).endswith(". By F1 at threshold 0.5 it is Ant (0.30)")
    assert "F1" not in sentence(0.5)

"""Gold with labels that nobody judged, in each part of the evaluation, by hand. Counting these cells as negatives gives
other numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from marginalia.pipeline.config.evaluation import EvaluateSection
from marginalia.pipeline.evaluation.estimator_choice import guard_differences
from marginalia.pipeline.evaluation.estimator_evaluation import evaluate_estimator
from marginalia.pipeline.evaluation.failure_analysis import confusions, slices, worst_records
from marginalia.pipeline.evaluation.guard_tables import LABEL_FREQUENCY, GuardTable, count_gold, guard_table
from marginalia.pipeline.evaluation.paired_differences import JudgedEstimator, PairedDifferences
from marginalia.pipeline.evaluation.review_curve import review_points
from marginalia.pipeline.evaluation.soft_label_evaluation import soft_metrics
from marginalia.pipeline.evaluation.tolerance import bounds_effect
from marginalia.schemas.tables import GoldRecord, LabelScore, ScoredRecord

LABELS = ["A", "B"]
CONFIG = EvaluateSection(resamples=100, min_positives=1)
#        labels, judged, p of A, p of B, p of the verdict
ROWS: list[tuple[list[str], list[str] | None, float, float, float]] = [
    (["A"], None, 0.9, 0.1, 0.9),
    ([], None, 0.2, 0.3, 0.3),
    ([], ["A"], 0.1, 0.95, 0.95),  # B may apply: the verdict is not known
    (["A"], ["A"], 0.4, 0.8, 0.8),  # some label applies
    (["B"], ["B"], 0.7, 0.6, 0.7),
    ([], None, 0.6, 0.2, 0.6),
]


def gold(
    rows: list[tuple[list[str], list[str] | None, float, float, float]] = ROWS, split: str = "test"
) -> pl.DataFrame:
    return GoldRecord.frame(
        [
            {
                "id": f"r{number}",
                "messages": [{"role": "user", "content": f"text {number}"}],
                "status": "final",
                "labels": labels,
                "judged": judged,
                "soft_labels": [{"label": "A", "probability": 0.5}, {"label": "B", "probability": 0.0}],
                "votes": [{"label": label, "yes": 1, "n": 2} for label in LABELS],
                "n_annotators": 2,
                "agreement": None,
                "method": "majority",
                "adjudicated": False,
                "split": split,
            }
            for number, (labels, judged, *_) in enumerate(rows)
        ]
    )


def scores(
    rows: list[tuple[list[str], list[str] | None, float, float, float]] = ROWS, width: float = 0.0
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(scores, scored records); bounds are `width` apart for label B and exact for the others."""
    cells: list[dict[str, Any]] = []
    for number, (_, _, *probabilities) in enumerate(rows):
        for label, p in zip([*LABELS, "unsafe"], probabilities, strict=True):
            cells.append(
                {
                    "record_id": f"r{number}",
                    "estimator": "marginal",
                    "label": label,
                    "probability": p,
                    "lower": p,
                    "upper": min(1.0, p + width) if label == "B" else p,
                }
            )
    records = [
        {
            "record_id": f"r{number}",
            "answer": "safe",
            "predicted": [],
            "off_language": 0.0,
            "unexplored": 0.0,
            "nodes": 1,
            "forward_passes": 1,
            "seconds": 0.1,
            "error": None,
        }
        for number in range(len(rows))
    ]
    return LabelScore.frame(cells), ScoredRecord.frame(records)


@pytest.fixture(name="table")
def _table() -> GuardTable:
    return guard_table("guard", gold(), *scores(), LABELS)


def test_gold_counts() -> None:
    counts = count_gold(gold(), LABELS)
    assert counts.safe == 2  # not the third record: whether B applies is not known
    assert counts.positives == {"A": 2, "B": 1}
    assert counts.judged == {"A": 5, "B": 4}
    assert counts.not_judged is not None
    assert counts.not_judged.model_dump() == {"records": 3, "cells": 3, "of_cells": 12, "verdicts": 1}


def test_counts_of_complete_gold() -> None:
    counts = count_gold(gold().with_columns(judged=pl.lit(None, pl.List(pl.String))), LABELS)
    assert (counts.safe, counts.judged) == (3, {"A": 6, "B": 6})
    assert counts.not_judged is not None
    assert counts.not_judged.model_dump() == {"records": 0, "cells": 0, "of_cells": 12, "verdicts": 0}


def test_a_labels_frequency_is_its_share_of_the_judged_records(table: GuardTable) -> None:
    assert table.scores[LABEL_FREQUENCY][0].tolist() == [2 / 5, 1 / 4]  # not 2 / 6 and 1 / 6


def test_votes_and_soft_labels_of_other_labels_are_left_out(table: GuardTable) -> None:
    assert np.isnan(table.soft).tolist() == (~table.judged).tolist() == np.isnan(table.answers).tolist()
    soft = soft_metrics(table, "marginal", table.scores["marginal"] >= 0.5, "0.5", ["test"], CONFIG, 1)
    assert soft is not None
    assert soft.guard == pytest.approx(
        (5 * 0.25 - 0.9 + 0.81 - 0.2 + 0.04 - 0.1 + 0.01 - 0.4 + 0.16 - 0.6 + 0.36 + 0.01 + 0.09 + 0.36 + 0.04) / 9
    )


def test_the_verdict_is_not_judged_where_it_is_not_known(table: GuardTable) -> None:
    verdict = evaluate_estimator(table, "marginal", CONFIG, seed=1, simulated=False).report.verdict
    rate, accuracy = verdict["false_positive_rate"], verdict["accuracy"]
    assert (rate.value, rate.n) == (0.5, 2)  # else 2 of 3
    assert (accuracy.value, accuracy.n) == (0.8, 5)
    assert verdict["precision"].value == 0.75
    assert verdict["roc_auc"].value == 1.0  # else the unknown record's 0.95 would be a false alarm


def test_without_safe_records_only_the_recall_of_the_verdict_is_computed(table: GuardTable) -> None:
    """A guard that flags everything would have a precision, F1, accuracy and average precision of 1."""
    every = np.ones(len(table.ids), dtype=bool)
    positive = replace(table, any_label=every, verdict_judged=every)
    verdict = evaluate_estimator(positive, "marginal", CONFIG, seed=1, simulated=False).report.verdict
    known = {name for name, metric in verdict.items() if metric.value is not None}
    assert known == {"recall"}
    reasons = {name: metric.reason for name, metric in verdict.items() if name not in known}
    assert reasons.pop("roc_auc") == "needs both positives and negatives"
    assert set(reasons.values()) == {"no safe records in gold"}
    judged = judged_by(positive)
    differences = PairedDifferences(judged, judged, positive.ids, CONFIG, seed=1)
    for name in ("f1", "precision", "accuracy", "average_precision", "false_positive_rate"):
        difference = differences.metric(f"verdict_{name}")
        assert difference is not None and difference.value is None, name
    recall = differences.metric("verdict_recall")
    assert recall is not None and recall.value == 0


def test_reviewed_records_are_chosen_by_all_labels_and_judged_by_the_known_ones(table: GuardTable) -> None:
    p = table.scores["marginal"]
    first = review_points(table.truth, p >= 0.5, p, table.judged)[0]
    assert first.hamming_loss == pytest.approx(2 / 9)  # else 5 / 12: A of the fourth and of the last record are wrong
    assert first.subset_error == pytest.approx(2 / 6)
    half = review_points(table.truth, p >= 0.5, p, table.judged)[-1]
    assert half.n_kept == 3  # reviewed: doubts of 0.7, 0.6 and 0.6 in the fifth, fourth and last record
    assert half.hamming_loss == 0.0


def test_only_judged_labels_are_confused(table: GuardTable) -> None:
    predicted = table.scores["marginal"] >= 0.5
    assert confusions(table.truth, predicted, table.judged, LABELS) == []  # else A → B in the fourth record
    everywhere = confusions(table.truth, predicted, np.ones_like(table.judged), LABELS)
    assert [(pair.gold, pair.predicted, pair.records) for pair in everywhere] == [("A", "B", 1)]


def test_the_worst_records_have_the_highest_loss_of_their_judged_labels(table: GuardTable) -> None:
    p = table.scores["marginal"]
    worst = worst_records(table, p, p >= 0.5, ["test"], 6)
    assert [row.record_id for row in worst[:2]] == ["r3", "r5"]  # r2 would be first by its loss of B
    assert worst[0].loss == pytest.approx(-np.log(0.4))
    assert (worst[0].gold, worst[0].predicted, worst[0].not_judged) == (["A"], [], ["B"])
    assert worst[-1].loss == pytest.approx(-np.log(0.9))


def test_a_slice_counts_its_judged_cells(table: GuardTable) -> None:
    rows = [*ROWS, *ROWS]
    doubled = guard_table("guard", gold(rows), *scores(rows), LABELS)
    attributes = pl.DataFrame(
        {"id": doubled.ids, "name": "half", "value": ["first"] * 6 + ["second"] * 6},
    )
    parts = slices(doubled, "marginal", attributes, CONFIG, 1)
    assert [part.value for part in parts] == ["first", "second"]
    assert parts[0].metrics["hamming_loss"].value == pytest.approx(2 / 9)
    assert parts[0].metrics["micro_f1"].value == pytest.approx(4 / 6)


def test_widths_of_bounds_are_those_of_judged_cells() -> None:
    rows = [(labels, ["A"], *p) for labels, judged, *p in ROWS if labels != ["B"]]
    wide = guard_table("guard", gold(rows), *scores(rows, width=0.3), LABELS)  # type: ignore[arg-type]
    evaluated = evaluate_estimator(wide, "marginal", CONFIG, seed=1, simulated=False).report
    effect = bounds_effect(wide, evaluated, CONFIG, 0.01)
    assert effect is not None
    assert (effect.widest, effect.mean, effect.beyond) == (0.0, 0.0, 0)


def test_no_tolerance_is_suggested_for_intervals_over_passages() -> None:
    rows = [(labels, None, *p) for labels, _, *p in ROWS]
    wide = guard_table("guard", gold(rows), *scores(rows, width=0.3), LABELS)  # type: ignore[arg-type]
    evaluated = evaluate_estimator(wide, "marginal", CONFIG, seed=1, simulated=False).report
    certified = bounds_effect(wide, evaluated, CONFIG, 0.01)
    sampled = bounds_effect(wide, evaluated, CONFIG, 0.01, over_passages=True)
    assert certified is not None and sampled is not None
    assert (certified.over_passages, certified.beyond > 0) == (False, True)
    assert (sampled.over_passages, sampled.beyond, sampled.tolerance) == (True, 0, None)
    assert (sampled.widest, sampled.wide) == (certified.widest, certified.wide)


def test_a_record_in_which_only_another_label_was_judged_counts_for_the_verdict_only() -> None:
    rows = [*ROWS, (["C"], ["C"], 0.9, 0.9, 0.9)]
    table = guard_table("guard", gold(rows), *scores(rows), [*LABELS, "C"])
    evaluated = evaluate_estimator(table, "marginal", CONFIG, seed=1, simulated=False).report
    assert (evaluated.n, evaluated.metrics["micro_f1"].n, len(table.ids)) == (6, 6, 7)
    assert evaluated.metrics["hamming_loss"].value == pytest.approx(2 / 9)
    assert evaluated.verdict["recall"].n == 4


def judged_by(table: GuardTable) -> JudgedEstimator:
    report = evaluate_estimator(table, "marginal", CONFIG, seed=1, simulated=False).report
    return JudgedEstimator.of(table, report)


def test_two_guards_are_compared_on_judged_cells(table: GuardTable) -> None:
    """The second guard differs from the first only where B was not judged, and in the verdict that is not known."""
    others = [list(row) for row in ROWS]
    others[2][3], others[3][3], others[2][4] = 0.05, 0.05, 0.05
    second = guard_table("second", gold(), *scores([tuple(row) for row in others]), LABELS)  # type: ignore[misc]
    rows = guard_differences([judged_by(table), judged_by(second)], CONFIG, seed=1)
    assert {row.metric for row in rows} >= {"micro_f1", "macro_roc_auc", "brier", "verdict_false_positive_rate"}
    assert {row.difference.value for row in rows} == {0.0}


def test_two_golds_are_compared_on_the_cells_that_both_judge(table: GuardTable) -> None:
    complete = gold().with_columns(judged=pl.lit(None, pl.List(pl.String)))
    better = [list(row) for row in ROWS]
    better[3][2], better[2][3] = 0.6, 0.1  # right now: A of the fourth record, B of the third
    other = guard_table("other", complete, *scores([tuple(row) for row in better]), LABELS)  # type: ignore[misc]
    paired = PairedDifferences(judged_by(table), judged_by(other), table.ids, CONFIG, seed=1)
    assert paired.records == 6
    assert paired.judged.tolist() == table.judged.tolist()
    hamming, brier = paired.metric("hamming_loss"), paired.metric("brier")
    assert hamming is not None
    assert hamming.value == pytest.approx(-1 / 9)
    assert brier is not None
    assert brier.value == pytest.approx((0.16 - 0.36) / 9)
    of_a, of_b = (paired.label(label, "f1") for label in LABELS)
    assert of_a is not None
    assert of_b is not None
    assert (of_a.n, of_b.n) == (5, 4)
    assert (of_a.value, of_b.value) == pytest.approx((4 / 5 - 2 / 4, 0.0))


def test_golds_without_a_common_judged_cell_have_no_difference(table: GuardTable) -> None:
    only = [(labels, ["A"] if "A" in labels else ["B"], *p) for labels, _, *p in ROWS]
    swapped = [([], ["B"] if "A" in labels else ["A"], *p) for labels, _, *p in ROWS]
    tables = [guard_table("guard", gold(rows), *scores(rows), LABELS) for rows in (only, swapped)]  # type: ignore[arg-type]
    paired = PairedDifferences(judged_by(tables[0]), judged_by(tables[1]), tables[0].ids, CONFIG, seed=1)
    assert (paired.records, paired.metric("micro_f1"), paired.label("A", "f1")) == (0, None, None)

"""Every finding with planted values: yes, no, cannot tell and not computed give different sentences."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from marginalia.pipeline.compare.comparison_model import ComparedRunSummary, Comparison, MetricRow, SharedGold
from marginalia.pipeline.compare.comparison_text import comparison_finding, comparison_table
from marginalia.pipeline.config.evaluation import EvaluateSection
from marginalia.pipeline.evaluation.evaluate_guards import GuardScores, evaluate
from marginalia.pipeline.evaluation.guard_tables import count_gold
from marginalia.pipeline.evaluation.paired_differences import finding
from marginalia.pipeline.release.card_results import result_rows
from marginalia.pipeline.report import as_text, finding_sentences
from marginalia.pipeline.report.guard_comparison import side_by_side
from marginalia.pipeline.report.guard_figures import roc_figure
from marginalia.pipeline.report.terminal_summary import headline
from marginalia.schemas.agreement_json import Estimate
from marginalia.schemas.evaluation_json import (
    Bin,
    BoundsEffect,
    CalibrationQuality,
    CalibrationReport,
    Confusion,
    Curve,
    Difference,
    EstimatorEvaluation,
    Evaluation,
    Finding,
    GoldCounts,
    GuardDifference,
    GuardEvaluation,
    LabelMetrics,
    Metric,
    ReviewPoint,
    Slice,
    SoftMetrics,
)
from tests.pipeline.synthetic_run import Frames, Synthetic, make_frames

EMPTY: Any = {}


def metric(value: float | None, low: float | None = None, high: float | None = None, **more: Any) -> Metric:
    return Metric(value=value, low=low, high=high, n=100, **more)


UNTESTED = (
    "marginal is not compared with label frequencies alone: the difference could not be tested (micro ROC AUC 0.90 "
    "against 0.55)"
)
BETTER, WORSE = metric(0.9, 0.88, 0.92), metric(0.3, 0.2, 0.4)
UNCLEAR, NONE = metric(0.6, 0.45, 0.75), metric(0.9)


def estimator(name: str, auc: Metric, *, baseline: bool = False, micro: Metric | None = None) -> EstimatorEvaluation:
    return EstimatorEvaluation.model_construct(
        estimator=name,
        baseline=baseline,
        threshold=0.5,
        n=100,
        metrics={"macro_roc_auc": auc, "micro_roc_auc": micro or auc, "micro_f1": metric(0.5, 0.4, 0.6)},
        tuned=EMPTY,
        verdict=EMPTY,
        labels=[],
        calibration=CalibrationReport.model_construct(raw=None, recalibrated=None, method="identity"),
        roc=Curve(x=[0, 1], y=[0, 1]),
    )


def difference(
    word: Finding, *, of: str = "joint", reference: str = "marginal", name: str = "macro_roc_auc"
) -> Difference:
    return Difference(
        estimator=of,
        reference=reference,
        metric=name,
        splits=["test"],
        difference=metric(-0.1, -0.2, -0.05),
        finding=word,
        tested=True,
    )


def page(estimators: list[EstimatorEvaluation], recommended: str = "marginal", **more: Any) -> GuardEvaluation:
    values = {
        "differences": [],
        "against_frequency": None,
        "bounds": None,
        "left_out": {},
        "labels_not_scored": [],
        "only_bounds": [],
        "coverage": None,
        "records": 100,
        **more,
    }
    return GuardEvaluation.model_construct(guard="g", estimators=estimators, recommended=recommended, **values)


@pytest.mark.parametrize(
    ("auc", "expected"),
    [
        (BETTER, "better than chance"),
        (WORSE, "worse than chance"),
        (UNCLEAR, "perhaps no better than chance"),
        (NONE, "not known"),
        (BETTER.model_copy(update={"n": 12}), "not known"),
        (metric(None), "not known"),
        (BETTER.model_copy(update={"range_low": 0.5, "range_high": 0.95}), "perhaps no better than chance"),
    ],
)
def test_report_terminal_and_card_say_the_same_about_chance(auc: Metric, expected: str) -> None:
    assert as_text.against_chance(auc) == expected
    evaluation = Evaluation.model_construct(
        guards=[page([estimator("marginal", auc)])],
        gold=EMPTY,
        simulated=False,
    )
    (row,) = result_rows(evaluation)
    assert (row.warning is not None) == ("chance" in expected and expected != "better than chance")
    line = headline(evaluation.model_copy(update={"gold": make_gold()}))[2]
    assert (expected in line) == ("chance" in expected and expected != "better than chance")


def test_the_terminal_says_that_records_are_few() -> None:
    def lines(n: int) -> list[str]:
        best = estimator("marginal", BETTER).model_copy(update={"n": n})
        return headline(Evaluation.model_construct(guards=[page([best])], gold=make_gold(), simulated=False))

    assert "  only 29 records: these numbers are imprecise" in lines(29)
    assert not [line for line in lines(30) if "imprecise" in line]


def make_gold() -> GoldCounts:
    frames = make_frames(Synthetic(n=12))
    return count_gold(frames.gold, frames.taxonomy.ids)


def test_estimators() -> None:
    def sentence(*findings: Finding, auc: Metric = BETTER) -> str:
        others = [estimator(f"e{index}", auc) for index in range(len(findings))]
        rows = [difference(finding_word, of=f"e{index}") for index, finding_word in enumerate(findings)]
        return finding_sentences.estimators_finding(page([estimator("marginal", auc), *others], differences=rows))

    assert sentence("worse", "worse", "no clear difference").endswith("clearly better than e0 and e1")
    assert (
        sentence("no clear difference", "not known", "descriptive")
        == "marginal reaches a macro ROC AUC of 0.90 (0.88 to 0.92)"
    )
    assert sentence("worse", auc=UNCLEAR) == "No estimator of g ranks labels clearly better than chance"
    assert sentence("worse", auc=NONE) == "Too few records to say how well any estimator ranks labels"
    joint_recommended = page(
        [estimator("marginal", BETTER), estimator("joint", BETTER)], "joint", differences=[difference("better")]
    )
    assert finding_sentences.estimators_finding(joint_recommended).endswith("clearly better than marginal")
    tested_in_f1 = page([estimator("marginal", BETTER), estimator("joint", BETTER)],
                 differences=[difference("worse", name="micro_f1")])  # fmt: skip
    assert finding_sentences.estimators_finding(tested_in_f1).endswith("clearly better in micro F1 than joint")


def test_the_confidence_holds_for_all_labels_at_once() -> None:
    def sentence(*values: Metric) -> str:
        labels = [
            LabelMetrics(label=f"l{index}", n=100, positives=9, metrics={"roc_auc": value})
            for index, value in enumerate(values)
        ]
        with_labels = estimator("marginal", BETTER).model_copy(update={"labels": labels})
        return finding_sentences.labels_finding(with_labels, {}, 0.95)

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
    assert finding_sentences.labels_finding(best, {}, 0.95) == (
        "The measurable label is recognised better than chance; 1 label has too few records to tell; "
        "2 labels were never judged"
    )


def quality(ece: float | None, limit: float | None, **more: Any) -> CalibrationQuality:
    return CalibrationQuality(
        splits=["test"],
        n=100,
        positives=20,
        ece=metric(ece, **more),
        ece_if_calibrated=limit,
        brier=metric(0.1),
        brier_parts=None,
        log_loss=metric(0.3),
        log_loss_parts=None,
        bins=[Bin(n=100, mean_probability=0.4, share_positive=0.2, low=0.1, high=0.3)],
    )


def calibration(raw: CalibrationQuality, **more: Any) -> CalibrationReport:
    values = {
        "recalibrated": None,
        "labels_raw": {},
        "labels_recalibrated": {},
        "reason": None,
        "method": "platt",
        **more,
    }
    return CalibrationReport(raw=raw, **values)


def test_calibration() -> None:
    high, low, even = metric(0.2, 0.1, 0.3), metric(-0.2, -0.3, -0.1), metric(0.2, -0.1, 0.3)
    sentence = finding_sentences.calibration_finding
    assert sentence(calibration(quality(0.2, 0.1), bias=high)).startswith(
        "Probabilities are too high: 40 % on average, while 20 % of labels apply"
    )
    assert sentence(calibration(quality(0.2, 0.1), bias=low)).startswith("Probabilities are too low")
    for unclear in (even, None):
        assert sentence(calibration(quality(0.2, 0.1), bias=unclear)).startswith(
            "Probabilities are not calibrated (ECE 0.20)"
        )
    assert sentence(calibration(quality(0.1, 0.1), bias=high)).startswith("No evidence that the guard's")
    assert sentence(calibration(quality(0.2, 0.1, range_low=0.05, range_high=0.3), bias=high)).startswith("No evidence")
    assert "could not be tested" in sentence(calibration(quality(0.2, None)))
    few = quality(0.2, 0.1).model_copy(update={"n": 12})
    assert sentence(calibration(few)) == "The calibration of the guard's probabilities could not be tested (ECE 0.20)"
    assert sentence(calibration(quality(0.2, 0.1))).endswith("; when the guard says 40 %, 20 % (10–30) are true")
    assert "changes the ECE from 0.20 to under 0.01" in sentence(
        calibration(quality(0.2, 0.1), recalibrated=quality(0.001, 0.1))
    )
    assert sentence(calibration(quality(None, None))) == "There are no test records to judge calibration on"
    for gain, end in (
        (high, "clearly lowers the Brier score"),
        (low, "clearly raises the Brier score"),
        (even, "without a clear change of the Brier score"),
        (None, "from 0.20 to 0.05"),
    ):
        title = sentence(calibration(quality(0.2, 0.1), recalibrated=quality(0.05, 0.1), improvement=gain))
        assert title.endswith(end), title


def test_few_records_are_no_evidence_of_calibration() -> None:
    few, enough = [quality(0.03, 0.11).model_copy(update={"n": 20, "positives": positives}) for positives in (9, 10)]
    for value in (few, few.model_copy(update={"positives": 11})):  # few positives, few negatives
        assert finding_sentences.calibration_finding(calibration(value)).startswith(
            "Too few records to say whether the guard's probabilities are calibrated (ECE 0.03; calibrated ones reach "
            "up to 0.11 by chance); when the guard says"
        )
    assert finding_sentences.calibration_finding(calibration(enough)).startswith("No evidence that the guard's")

    def of_labels(**labels: CalibrationQuality) -> str:
        return finding_sentences.label_calibration_finding(calibration(enough, labels_raw=labels), {})

    assert of_labels(a=few, b=few) == "Too few records to say whether the probabilities of 2 labels are calibrated"
    assert of_labels(a=few, b=enough) == "No evidence of miscalibration for 1 label; too few records to tell for 1"
    assert of_labels(a=enough) == "No evidence of miscalibration for any of 1 label"


def test_calibration_of_each_label() -> None:
    def sentence(**labels: CalibrationQuality) -> str:
        return finding_sentences.label_calibration_finding(
            calibration(quality(0.2, 0.1), labels_raw=labels), {"a": "Ant"}
        )

    off, fine, unknown = quality(0.3, 0.1), quality(0.1, 0.1), quality(0.3, None)
    assert sentence(a=off, b=fine, c=unknown).startswith("For 1 of 2 labels the calibration error is larger")
    assert sentence(a=off, b=fine).endswith("Ant is furthest off (20 percentage points too high on average)")
    assert sentence(a=fine) == "No evidence of miscalibration for any of 1 label"
    assert sentence(a=unknown).endswith("could not be tested")


@pytest.mark.parametrize(
    ("gap", "end"),
    [
        (metric(0.2, 0.1, 0.3), ": the guard is clearly below"),
        (metric(-0.2, -0.3, -0.1), ": the guard is clearly above"),
        (metric(0.1, -0.1, 0.3), ": no clear difference"),
        (metric(0.1), "reaches 0.70; too few records to compare them"),
        (metric(0.2, 0.1, 0.3).model_copy(update={"n": 12}), "; too few records to compare them"),
    ],
)
def test_annotators(gap: Metric, end: str) -> None:
    metrics = {"expected_micro_f1": metric(0.5), "annotator_micro_f1": metric(0.7), "f1_below_annotators": gap}
    assert finding_sentences.annotators_finding(SoftMetrics.model_construct(metrics=metrics), "marginal").endswith(end)


def test_slices() -> None:
    def sentence(*values: Metric) -> str:
        rows = [
            Slice(attribute="form", value=f"v{index}", n=50, metrics={"micro_roc_auc": auc})
            for index, auc in enumerate(values)
        ]
        return finding_sentences.slices_finding(rows, 0.95)

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
    ("row", "expected"),
    [
        (
            difference("better"),
            "marginal is clearly better than label frequencies alone (micro ROC AUC 0.90 against 0.55; "
            "difference −0.20 to −0.05, 100 records)",
        ),
        (
            difference("worse"),
            "clearly worse than label frequencies alone (micro ROC AUC 0.90 against 0.55; "
            "difference −0.20 to −0.05, 100 records)",
        ),
        (difference("not known"), UNTESTED),
        (None, UNTESTED),
        (
            difference("better").model_copy(update={"difference": metric(0.3, 0.2, 0.4).model_copy(update={"n": 12})}),
            UNTESTED,
        ),
        (
            difference("no clear difference").model_copy(update={"difference": metric(0.1, -0.1, 0.3)}),
            "not clearly different from label frequencies alone (micro ROC AUC 0.90 against 0.55; difference −0.10 to "
            "+0.30, 100 records)",
        ),
        (
            difference("no clear difference").model_copy(
                update={"difference": metric(0.1, 0.05, 0.2, range_low=-0.3, range_high=0.4)}
            ),
            "not clearly different from label frequencies alone (micro ROC AUC 0.90 against 0.55; difference +0.05 to "
            "+0.20, 100 records)" + as_text.BOUNDS_EXPLAIN,
        ),
    ],
)
def test_label_frequencies(row: Difference | None, expected: str) -> None:
    frequency = estimator("label_frequency", metric(0.5), baseline=True, micro=metric(0.55, 0.5, 0.6))
    guard_page = page([estimator("marginal", BETTER), frequency], against_frequency=row)
    assert roc_figure(guard_page).title.endswith(expected)


def test_the_recommended_estimator_is_compared_with_label_frequencies_even_when_it_is_not_the_reference() -> None:
    """0.90 against 0.55 must not be called "not clearly different" only because nothing compared the two."""
    frames = make_frames(Synthetic(n=240, skill=0.1))
    truth = frames.gold.select("id", pl.col("labels").fill_null([])).rename({"id": "record_id"})
    good_scores = frames.scores.filter(pl.col("estimator") == "joint").join(truth, on="record_id").with_columns(
        probability=0.6 * pl.col("labels").list.contains(pl.col("label")).cast(pl.Float64) + 0.4 * pl.col("probability")
    )  # fmt: skip
    others = frames.scores.filter(pl.col("estimator") != "joint")
    scores = pl.concat([others, good_scores.select(others.columns)])
    guard = page_of(Frames(**{**vars(frames), "scores": scores}))
    assert guard.recommended == "joint"
    row = guard.against_frequency
    assert row is not None
    assert (row.estimator, row.reference, row.finding) == ("joint", "label_frequency", "better")
    assert "clearly better than label frequencies alone" in roc_figure(guard).title


def page_of(frames: Frames) -> GuardEvaluation:
    guards = [GuardScores("g", frames.scores, frames.records)]
    config = EvaluateSection(resamples=150)
    return evaluate(frames.gold, guards, None, frames.taxonomy, config, seed=5, simulated=False).evaluation.guards[0]


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
    assert finding_sentences.confusions_finding(pairs, {"a0": "A0"}) == expected


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
    sentence = finding_sentences.review_finding(points)
    assert sentence == f"Reviewing the least certain {100 * reviewed / n:.0f} % {expected}"


def test_review_without_enough_test_records() -> None:
    start = ReviewPoint(share_reviewed=0, n_kept=12, hamming_loss=0.1, subset_error=0.5, subset_error_overall=0.5)
    few = [start, start.model_copy(update={"share_reviewed": 0.2, "n_kept": 10})]
    assert finding_sentences.review_finding(few) == "There are too few test records to plan reviews with"
    unknown = [point.model_copy(update={"subset_error_overall": None}) for point in few]
    assert finding_sentences.review_finding(unknown) == "There are no test records to plan reviews with"


def test_on_how_many_records_a_guard_is_judged() -> None:
    def sentence(final: int, n: int, records: int, tested: int | None, **left_out: int) -> str:
        tuned = {"micro_f1": metric(0.5).model_copy(update={"n": tested})} if tested is not None else {}
        best = estimator("marginal", BETTER).model_copy(update={"n": n, "tuned": tuned})
        reasons = {reason.replace("_", " "): number for reason, number in left_out.items()}
        guard = page([best], records=records, left_out=reasons)
        return finding_sentences.judged_finding(guard, best, final)

    where = {"not chosen by evaluate.where": 59}
    assert sentence(184, 125, 125, 63, **where) == (
        "Judged on 125 of 184 records (59 left out by evaluate.where); thresholds tested on 63"
    )
    assert sentence(1, 1, 1, None) == "Judged on 1 of 1 record; no test records to test thresholds on"
    assert sentence(20, 9, 18, 4, scoring_failed=2) == (
        "Judged on 9 of 20 records (2 scoring failed; 9 in other splits or without a judged label); thresholds "
        "tested on 4"
    )


def test_bounds() -> None:
    def sentence(bounds: BoundsEffect | None) -> str:
        return finding_sentences.bounds_finding(page([], bounds=bounds))

    wide = BoundsEffect(widest=0.1, mean=0.02, beyond=0, wide=["macro_roc_auc", "micro_f1"], tolerance=0.005)
    assert sentence(wide).endswith(
        "the range of macro ROC AUC and micro F1 wider than a third of the sampling interval. "
        "Score again with score.tolerance: 0.005"
    )
    assert "3 records did not reach the tolerance" in sentence(wide.model_copy(update={"beyond": 3}))
    assert sentence(wide.model_copy(update={"wide": [], "tolerance": None})).endswith(
        "wider than a third of its sampling interval"
    )
    assert sentence(None) == ""


@pytest.mark.parametrize(
    ("alpha", "grade"),
    [
        ((0.9, 0.82, 0.95), "Annotators agree well enough to rely on the labels"),
        ((0.81, 0.7, 0.9), "Annotators agree well enough for tentative conclusions"),
        ((0.7, 0.6, 0.8), "Annotators may not agree well enough for tentative conclusions"),
        ((0.5, 0.4, 0.6), "Annotators disagree too much to rely on single labels"),
        ((0.9, None, None), "Too few records have two answers to say whether annotators agree well enough"),
    ],
)
def test_agreement(alpha: tuple[float, float | None, float | None], grade: str) -> None:
    value, low, high = alpha
    assert finding_sentences.agreement_finding(Estimate(value=value, low=low, high=high, n=40), None).startswith(
        f"{grade}: alpha of whole label sets (MASI) {value:.2f}"
    )


def test_each_alpha_is_named() -> None:
    """0.53 next to a lowest label of 0.60 is no contradiction: they are different measures."""
    estimate = Estimate(value=0.53, low=0.45, high=0.61, n=40)
    assert finding_sentences.agreement_finding(estimate, ("Late delivery", 0.6)).endswith(
        ": alpha of whole label sets (MASI) 0.53 (0.45 to 0.61); of single labels, Late delivery has the lowest alpha "
        "(0.60)"
    )


@pytest.mark.parametrize(
    ("tested", "primary", "sentence"),
    [
        ([], "macro_roc_auc", ""),
        (["macro_roc_auc", "macro_roc_auc"], "macro_roc_auc", "Only macro ROC AUC is tested"),
        (
            ["micro_roc_auc"],
            "macro_roc_auc",
            "Only micro ROC AUC is tested, because macro ROC AUC has no interval here",
        ),
        (
            ["macro_roc_auc", "micro_roc_auc"],
            "macro_roc_auc",
            "Only macro ROC AUC is tested, or micro ROC AUC where it has no interval",
        ),
    ],
)
def test_the_tested_metric_is_that_of_the_data(tested: list[str], primary: str, sentence: str) -> None:
    assert finding_sentences.tested_finding(tested, primary) == sentence


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

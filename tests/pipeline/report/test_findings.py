"""Every finding with planted values: yes, no, cannot tell and not computed each say something else."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from marginalia.pipeline.compare.comparison_model import ComparedRunSummary, Comparison, MetricRow, SharedGold
from marginalia.pipeline.compare.comparison_text import finding as compared_finding
from marginalia.pipeline.compare.comparison_text import table
from marginalia.pipeline.config.evaluation import EvaluateSection
from marginalia.pipeline.evaluation.evaluate_guards import GuardScores, evaluate
from marginalia.pipeline.evaluation.guard_tables import count_gold
from marginalia.pipeline.evaluation.paired_differences import finding
from marginalia.pipeline.release.card_results import headlines
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
    Slice,
    SoftMetrics,
)
from tests.pipeline.synthetic_run import Frames, Synthetic, make_frames

EMPTY: Any = {}


def metric(value: float | None, low: float | None = None, high: float | None = None, **more: Any) -> Metric:
    return Metric(value=value, low=low, high=high, n=100, **more)


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
    values = {"differences": [], "against_frequency": None, "bounds": None, "left_out": {}, "records": 100, **more}
    return GuardEvaluation.model_construct(guard="g", estimators=estimators, recommended=recommended, **values)


@pytest.mark.parametrize(
    ("auc", "said"),
    [
        (BETTER, "better than chance"),
        (WORSE, "worse than chance"),
        (UNCLEAR, "perhaps no better than chance"),
        (NONE, "not known"),
        (metric(None), "not known"),
        (BETTER.model_copy(update={"range_low": 0.5, "range_high": 0.95}), "perhaps no better than chance"),
    ],
)
def test_chance_is_told_alike_by_report_terminal_and_card(auc: Metric, said: str) -> None:
    assert as_text.against_chance(auc) == said
    whole = Evaluation.model_construct(
        guards=[page([estimator("marginal", auc)])],
        gold=EMPTY,
        simulated=False,
    )
    (row,) = headlines(whole)
    assert (row.warning is not None) == ("chance" in said and said != "better than chance")
    line = headline(whole.model_copy(update={"gold": make_gold()}))[2]
    assert (said in line) == ("chance" in said and said != "better than chance")


def make_gold() -> GoldCounts:
    frames = make_frames(Synthetic(n=12))
    return count_gold(frames.gold, frames.taxonomy.ids)


def test_estimators() -> None:
    def said(*words_of: Finding, auc: Metric = BETTER) -> str:
        others = [estimator(f"e{place}", auc) for place in range(len(words_of))]
        rows = [difference(word, of=f"e{place}") for place, word in enumerate(words_of)]
        return finding_sentences.estimators_finding(page([estimator("marginal", auc), *others], differences=rows))

    assert said("worse", "worse", "no clear difference").endswith("clearly better than e0 and e1")
    assert (
        said("no clear difference", "not known", "descriptive")
        == "marginal reaches a macro ROC AUC of 0.90 (0.88 to 0.92)"
    )
    assert said("worse", auc=UNCLEAR) == "No estimator of g tells labels apart clearly better than chance"
    assert said("worse", auc=NONE) == "Too few records to say how well any estimator ranks labels"
    chosen = page(
        [estimator("marginal", BETTER), estimator("joint", BETTER)], "joint", differences=[difference("better")]
    )
    assert finding_sentences.estimators_finding(chosen).endswith("clearly better than marginal")
    other = page([estimator("marginal", BETTER), estimator("joint", BETTER)],
                 differences=[difference("worse", name="micro_f1")])  # fmt: skip
    assert finding_sentences.estimators_finding(other).endswith("clearly better in micro F1 than joint")


def test_labels_are_judged_all_at_once() -> None:
    def said(*values: Metric) -> str:
        labels = [
            LabelMetrics(label=f"l{place}", n=100, positives=9, metrics={"roc_auc": value})
            for place, value in enumerate(values)
        ]
        each = estimator("marginal", BETTER).model_copy(update={"labels": labels})
        return finding_sentences.labels_finding(each, {}, 0.95)

    assert said(BETTER, BETTER) == "All 2 labels are recognised better than chance"
    assert said(BETTER, UNCLEAR, NONE).startswith(
        "1 of 2 labels is recognised clearly better than chance; l1 is the lowest"
    )
    assert said(BETTER, NONE).endswith("1 label has too few records to tell")
    assert said(UNCLEAR, WORSE).startswith("None of 2 labels is recognised clearly better than chance")
    assert said(NONE) == "No label has enough records to say whether the guard recognises it"
    barely = metric(0.6, 0.51, 0.69)  # clear alone, not among ten
    assert said(barely).startswith("All 1")
    assert said(*[barely] * 10).startswith("None of 10 labels is recognised clearly")


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
    said = finding_sentences.calibration_finding
    assert said(calibration(quality(0.2, 0.1), bias=high)).startswith("Probabilities are too high: on average 40 %")
    assert said(calibration(quality(0.2, 0.1), bias=low)).startswith("Probabilities are too low")
    for unclear in (even, None):
        assert said(calibration(quality(0.2, 0.1), bias=unclear)).startswith(
            "Probabilities are not calibrated (ECE 0.20)"
        )
    assert said(calibration(quality(0.1, 0.1), bias=high)).startswith("Nothing speaks against")
    assert said(calibration(quality(0.2, 0.1, range_low=0.05, range_high=0.3), bias=high)).startswith("Nothing speaks")
    assert "is not computed" in said(calibration(quality(0.2, None)))
    assert said(calibration(quality(None, None))) == "There are no test records to judge calibration on"
    for gain, tail in (
        (high, "clearly down"),
        (low, "clearly up"),
        (even, "without a clear change of the Brier score"),
        (None, "from 0.20 to 0.05"),
    ):
        found = said(calibration(quality(0.2, 0.1), recalibrated=quality(0.05, 0.1), improvement=gain))
        assert found.endswith(tail), found


def test_calibration_of_each_label() -> None:
    def said(**labels: CalibrationQuality) -> str:
        return finding_sentences.label_calibration_finding(
            calibration(quality(0.2, 0.1), labels_raw=labels), {"a": "Ant"}
        )

    off, fine, unknown = quality(0.3, 0.1), quality(0.1, 0.1), quality(0.3, None)
    assert said(a=off, b=fine, c=unknown).startswith("For 1 of 2 labels the calibration error is above")
    assert "furthest off on average is Ant (20 % too high)" in said(a=off, b=fine)
    assert said(a=fine).startswith("Nothing speaks against")
    assert said(a=unknown).endswith("is not computed")


@pytest.mark.parametrize(
    ("gap", "tail"),
    [
        (metric(0.2, 0.1, 0.3), ": clearly below people"),
        (metric(-0.2, -0.3, -0.1), ": clearly above"),
        (metric(0.1, -0.1, 0.3), ": no clear difference"),
        (metric(0.1), "reaches 0.70"),
    ],
)
def test_annotators(gap: Metric, tail: str) -> None:
    found = {"expected_micro_f1": metric(0.5), "annotator_micro_f1": metric(0.7), "f1_below_annotators": gap}
    assert finding_sentences.annotators_finding(SoftMetrics.model_construct(metrics=found), "marginal").endswith(tail)


def test_slices() -> None:
    def said(*values: Metric) -> str:
        rows = [
            Slice(attribute="form", value=f"v{place}", n=50, metrics={"micro_roc_auc": one})
            for place, one in enumerate(values)
        ]
        return finding_sentences.slices_finding(rows, 0.95)

    assert said(WORSE, BETTER, UNCLEAR) == "The guard does clearly worse where form is v0 (0.30) than v1 (0.90)"
    assert said(UNCLEAR, UNCLEAR) == "No attribute makes a clear difference"
    assert said(BETTER, NONE) == "Too few records share an attribute to say where the guard does worse"
    apart = metric(0.6, 0.55, 0.65), metric(0.68, 0.66, 0.7)  # the intervals lie apart; among many values that is luck
    assert said(*apart).startswith("The guard does clearly worse")
    assert said(*apart, *[metric(0.64, 0.6, 0.69)] * 10) == "No attribute makes a clear difference"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (difference("better"), "clearly more than label frequencies alone give (0.55)"),
        (difference("worse"), "clearly less than label frequencies alone give (0.55)"),
        (difference("not known"), "label frequencies alone give 0.55, and whether that differs is not computed"),
        (None, "label frequencies alone give 0.55, and whether that differs is not computed"),
        (
            difference("no clear difference").model_copy(update={"difference": metric(0.1, -0.1, 0.3)}),
            "not clearly different from label frequencies alone (0.55)",
        ),
        (
            difference("no clear difference").model_copy(
                update={"difference": metric(0.1, 0.05, 0.2, range_low=-0.3, range_high=0.4)}
            ),
            "not clearly different from label frequencies alone (0.55): the bounds of the probabilities can explain it",
        ),
    ],
)
def test_label_frequencies(row: Difference | None, said: str) -> None:
    frequency = estimator("label_frequency", metric(0.5), baseline=True, micro=metric(0.55, 0.5, 0.6))
    shown = page([estimator("marginal", BETTER), frequency], against_frequency=row)
    assert roc_figure(shown).title.endswith(said)


def test_the_recommended_estimator_is_held_against_label_frequencies_also_when_it_is_not_the_reference() -> None:
    """Once "not clearly different" was printed of 0.90 against 0.55, because nothing had compared the two."""
    frames = make_frames(Synthetic(n=240, skill=0.1))
    truth = frames.gold.select("id", pl.col("labels").fill_null([])).rename({"id": "record_id"})
    good = frames.scores.filter(pl.col("estimator") == "joint").join(truth, on="record_id").with_columns(
        probability=0.6 * pl.col("labels").list.contains(pl.col("label")).cast(pl.Float64) + 0.4 * pl.col("probability")
    )  # fmt: skip
    others = frames.scores.filter(pl.col("estimator") != "joint")
    scores = pl.concat([others, good.select(others.columns)])
    found = page_of(Frames(**{**vars(frames), "scores": scores}))
    assert found.recommended == "joint"
    row = found.against_frequency
    assert row is not None
    assert (row.estimator, row.reference, row.finding) == ("joint", "label_frequency", "better")
    assert "clearly more than label frequencies alone give" in roc_figure(found).title


def page_of(frames: Frames) -> GuardEvaluation:
    guards = [GuardScores("g", frames.scores, frames.records)]
    config = EvaluateSection(resamples=150)
    return evaluate(frames.gold, guards, None, frames.taxonomy, config, seed=5, simulated=False).evaluation.guards[0]


def test_bounds() -> None:
    def said(found: BoundsEffect | None) -> str:
        return finding_sentences.bounds_finding(page([], bounds=found))

    wide = BoundsEffect(widest=0.1, mean=0.02, beyond=0, wide=["macro_roc_auc", "micro_f1"], tolerance=0.005)
    assert said(wide).endswith("the range of macro ROC AUC and micro F1 exceeds a third of the sampling interval; "
                               "score again with score.tolerance: 0.005")  # fmt: skip
    assert "3 records stopped before the tolerance" in said(wide.model_copy(update={"beyond": 3}))
    assert said(wide.model_copy(update={"wide": [], "tolerance": None})).endswith(
        "exceeds a third of its sampling interval"
    )
    assert said(None) == ""


@pytest.mark.parametrize(
    ("alpha", "grade"),
    [
        ((0.9, 0.82, 0.95), "Annotators agree well enough to rely on"),
        ((0.81, 0.7, 0.9), "Annotators agree well enough for tentative conclusions"),
        ((0.7, 0.6, 0.8), "Annotators may not agree well enough for tentative conclusions"),
        ((0.5, 0.4, 0.6), "Annotators disagree too much to rely on single labels"),
        ((0.9, None, None), "Too few records have two answers to say whether annotators agree well enough"),
    ],
)
def test_agreement(alpha: tuple[float, float | None, float | None], grade: str) -> None:
    value, low, high = alpha
    assert finding_sentences.agreement_finding(Estimate(value=value, low=low, high=high, n=40), None).startswith(
        f"{grade}: alpha"
    )


def test_guards_side_by_side() -> None:
    def said(**found: Finding) -> str:
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
                finding=word if tested else "descriptive",
                tested=tested,
            )
            for guard, word in found.items()
            for name, tested in (("macro_roc_auc", True), ("micro_f1", False))
        ]
        shown = side_by_side(Evaluation.model_construct(guard_differences=rows))
        assert shown is not None
        return shown.figure.title

    assert said(b="better", c="worse", d="no clear difference") == (
        "b is clearly better, c is clearly worse than first at ranking labels (macro ROC AUC)"
    )
    assert said(b="no clear difference").startswith("No guard is clearly better or worse than first")
    assert said(b="not known") == "Too few records to tell first and b apart"


@pytest.mark.parametrize(
    ("name", "found", "said"),
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
def test_differences(name: str, found: Metric | None, said: Finding) -> None:
    assert finding(name, found, tested=True) == said
    assert finding(name, found, tested=False) == ("not known" if said == "not known" else "descriptive")


def test_two_runs() -> None:
    def compared(word: Finding, change: Metric | None = None) -> Comparison:
        side = ComparedRunSummary(
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
                finding=word if tested else "descriptive", tested=tested)
            for name, tested in (("macro_roc_auc", True), ("micro_f1", False))
        ]  # fmt: skip
        return Comparison(a=side, b=side.model_copy(update={"run": "y"}), differing=[], shared=shared, confidence=0.95,
                          metrics=rows, labels=[], notes=[])  # fmt: skip

    assert compared_finding(compared("better")) == "y is clearly better than x in macro ROC AUC"
    assert compared_finding(compared("worse")) == "y is clearly worse than x in macro ROC AUC"
    unclear = compared("no clear difference", metric(0.1, -0.1, 0.2))
    assert compared_finding(unclear) == "No clear difference between x and y in macro ROC AUC"
    within = compared("no clear difference", metric(0.1, 0.05, 0.2, range_low=-0.2, range_high=0.3))
    assert compared_finding(within).endswith("the bounds of the probabilities can explain it")
    assert "bounds allow −0.200 to 0.300" in table(within)
    assert compared_finding(compared("not known")).startswith("Nothing says whether y is better")
    assert [line.split("  ")[-1] for line in table(compared("better")).splitlines() if "F1" in line] == ["descriptive"]

"""Findings about a guard as a whole, with planted values: yes, no, cannot tell and not computed."""

from __future__ import annotations

import polars as pl
import pytest

from marginalia.pipeline.config.evaluation import EvaluateSection
from marginalia.pipeline.evaluation.evaluate_guards import GuardScores, evaluate
from marginalia.pipeline.evaluation.guard_tables import count_gold
from marginalia.pipeline.release.card_results import result_rows
from marginalia.pipeline.report import as_text
from marginalia.pipeline.report.estimator_findings import (
    bounds_finding,
    chance_finding,
    decisions_note,
    estimators_finding,
    judged_finding,
    name_tested_metric,
)
from marginalia.pipeline.report.guard_figures import roc_figure
from marginalia.pipeline.report.terminal_summary import headline
from marginalia.schemas.evaluation_json import (
    BoundsEffect,
    Difference,
    EstimatorEvaluation,
    Evaluation,
    Finding,
    GoldCounts,
    GuardEvaluation,
    Metric,
)
from tests.pipeline.report.planted_values import (
    BETTER,
    EMPTY,
    NONE,
    UNCLEAR,
    WORSE,
    difference,
    estimator,
    metric,
    page,
)
from tests.pipeline.synthetic_run import Frames, Synthetic, make_frames

UNTESTED = (
    "marginal is not compared with label frequencies alone: the difference could not be tested (micro ROC AUC 0.90 "
    "against 0.55)"
)


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
    assert chance_finding(auc).sentence == expected
    evaluation = Evaluation.model_construct(
        guards=[page([estimator("marginal", auc)])],
        gold=EMPTY,
        simulated=False,
    )
    (row,) = result_rows(evaluation)
    warns = expected in ("worse than chance", "perhaps no better than chance")
    assert row.warning == (f"g is {expected}" if warns else None)
    line = headline(evaluation.model_copy(update={"gold": make_gold()}))[2]
    assert (expected in line) == warns


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
        return estimators_finding(page([estimator("marginal", auc), *others], differences=rows)).sentence

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
    assert estimators_finding(joint_recommended).sentence.endswith("clearly better than marginal")
    tested_in_f1 = page([estimator("marginal", BETTER), estimator("joint", BETTER)],
                 differences=[difference("worse", name="micro_f1")])  # fmt: skip
    assert estimators_finding(tested_in_f1).sentence.endswith("clearly better in micro F1 than joint")


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


def test_on_how_many_records_a_guard_is_judged() -> None:
    def sentence(final: int, n: int, records: int, tested: int | None, **left_out: int) -> str:
        tuned = {"micro_f1": metric(0.5).model_copy(update={"n": tested})} if tested is not None else {}
        best = estimator("marginal", BETTER).model_copy(update={"n": n, "tuned": tuned})
        reasons = {reason.replace("_", " "): number for reason, number in left_out.items()}
        guard = page([best], records=records, left_out=reasons)
        return judged_finding(guard, best, final, {"source": "included"}).sentence

    where = {"not chosen by evaluate.where": 59}
    assert sentence(184, 125, 125, 63, **where) == (
        "Judged on 125 of 184 records with final labels (59 left out, because evaluate.where in config.yaml chooses "
        "those whose source is included); thresholds tested on 63"
    )
    assert sentence(1, 1, 1, None) == "Judged on 1 of 1 record with final labels; no test records to test thresholds on"
    assert sentence(20, 9, 18, 4, scoring_failed=2) == (
        "Judged on 9 of 20 records with final labels (2 scoring failed; 9 in other splits or without a judged label); "
        "thresholds tested on 4"
    )


def test_bounds() -> None:
    def sentence(bounds: BoundsEffect | None) -> str:
        return bounds_finding(page([], bounds=bounds)).sentence

    wide = BoundsEffect(widest=0.1, mean=0.02, beyond=0, wide=["macro_roc_auc", "micro_f1"], tolerance=0.005)
    assert sentence(wide).endswith(
        "the range of macro ROC AUC and micro F1 wider than a third of the sampling interval. "
        "Score again with score.tolerance: 0.005"
    )
    assert "3 records did not reach the tolerance" in sentence(wide.model_copy(update={"beyond": 3}))
    assert sentence(wide.model_copy(update={"wide": [], "tolerance": None})).endswith(
        "It is too small to matter next to the sampling intervals"
    )
    assert sentence(None) == ""
    over_passages = sentence(wide.model_copy(update={"over_passages": True, "tolerance": None}))
    assert over_passages.startswith(
        "The scores are means over sampled reasoning passages, with intervals that are 0.02"
    )
    assert over_passages.endswith("Score again with more score.passages")


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
    assert name_tested_metric(tested, primary) == sentence


def test_the_recommendation_says_what_it_does_not_show() -> None:
    def tuned(name: str, f1: float, *, baseline: bool = False) -> EstimatorEvaluation:
        return estimator(name, BETTER, baseline=baseline).model_copy(update={"tuned": {"micro_f1": metric(f1)}})

    rows = [tuned("marginal", 0.55), tuned("joint", 0.57), tuned("greedy", 0.9, baseline=True)]
    assert decisions_note(page(rows)).endswith("the micro F1 on the test split is 0.55, and 0.57 for joint")
    assert decisions_note(page(rows[:1])) == ""
    assert decisions_note(page([estimator("marginal", BETTER), rows[1]])) == ""

"""The first screen: each verdict from planted numbers, and the sentence that decides."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from scipy.stats import beta

from marginalia.pipeline.report import as_text
from marginalia.pipeline.report.decision import (
    LabelDecision,
    cost_sentence,
    decision_sentence,
    errors_sentence,
    guard_decision,
    label_decision,
    more_positives,
)
from marginalia.pipeline.report.report_data import ReportData, recommended_estimator
from marginalia.pipeline.report.report_page import build_page
from marginalia.schemas.evaluation_json import (
    AnswerFormat,
    EstimatorEvaluation,
    GuardEvaluation,
    Metric,
    OnlyBounds,
    Outcome,
    Threshold,
    ThresholdReport,
)
from marginalia.scoring.measures.intervals import share
from tests.pipeline.partly_judged import SYNTHETIC, masked_frames
from tests.pipeline.report.test_page import Page, report_data
from tests.pipeline.synthetic_run import Synthetic

GOOD, UNSURE, POOR = (
    Metric(value=value, low=low, high=high, n=200)
    for value, low, high in ((0.9, 0.8, 0.95), (0.6, 0.45, 0.75), (0.5, 0.42, 0.58))
)


def outcome(right: int, flagged: int, positives: int, n: int = 200) -> Outcome:
    def of(hits: int, total: int) -> Metric:
        return share(hits, total, confidence=0.95, undefined="none")

    rate = of(flagged - right, n - positives)
    f1 = Metric(value=0.5, n=n)
    return Outcome(split="test", n=n, positives=positives, flagged=flagged, precision=of(right, flagged),
                   recall=of(right, positives), f1=f1, false_positive_rate=rate)  # fmt: skip


def threshold(judged: Outcome | None, goal: str = "max_f1", at: float | None = 0.5) -> Threshold:
    return Threshold(goal=goal, threshold=at, source="label", chosen_on=None, judged_on=judged)


def decided(judged: Outcome | None, auc: Metric | None = GOOD, target: float | None = 0.9) -> LabelDecision:
    return label_decision("Refund", [threshold(judged)], auc, target)


FLAGS = outcome(37, 59, 76)


@pytest.mark.parametrize(
    ("judged", "auc", "verdict", "why"),
    [
        (outcome(60, 60, 70), GOOD, "block", "precision reaches 90 %"),
        (outcome(30, 60, 70), GOOD, "review only", "precision is below 90 %"),
        (outcome(19, 20, 30), GOOD, "cannot tell", "precision may reach 90 %"),
        (outcome(30, 60, 70), UNSURE, "cannot tell", "perhaps recognised no better than chance"),
        (
            outcome(30, 60, 70),
            POOR.model_copy(update={"n": 12}),
            "cannot tell",
            "perhaps recognised no better than chance",
        ),
        (outcome(30, 60, 70), None, "cannot tell", "perhaps recognised no better than chance"),
        (outcome(30, 60, 70), POOR, "not usable", "hardly better than chance: ROC AUC 0.50 (0.42 to 0.58)"),
        (outcome(0, 0, 70), GOOD, "cannot tell", "nothing is flagged on the test split"),
        (None, GOOD, "cannot tell", "nothing is flagged on the test split"),
    ],
)
def test_each_rule(judged: Outcome | None, auc: Metric | None, verdict: str, why: str) -> None:
    found = decided(judged, auc)
    assert (found.verdict, why in found.why) == (verdict, True), found.why


def test_the_threshold_of_the_target_is_taken_before_that_of_the_highest_f1() -> None:
    rows = [threshold(outcome(30, 60, 70)), threshold(outcome(60, 60, 70), "precision >= 0.9", 0.8)]
    found = label_decision("Refund", rows, GOOD, 0.9)
    assert (found.threshold, found.verdict) == (0.8, "block")
    unproved = [rows[0], threshold(None, "precision >= 0.9", None)]
    assert label_decision("Refund", unproved, GOOD, 0.9).threshold == 0.5
    none = label_decision("Refund", [threshold(None, at=None)], GOOD, 0.9)
    assert (none.verdict, none.why) == ("cannot tell", "no threshold could be chosen")


def test_without_a_target_nothing_is_called_safe_to_block() -> None:
    found = decided(outcome(60, 60, 70), target=None)
    assert (found.verdict, found.why) == ("review only", "no target for precision is set")


def test_bounds_of_the_probabilities_can_leave_a_verdict_open() -> None:
    judged = outcome(60, 60, 70)
    wide = judged.precision.model_copy(update={"range_low": 0.7, "range_high": 1.0})
    found = decided(judged.model_copy(update={"precision": wide}))
    assert (found.verdict, found.more) == ("cannot tell", "")


@pytest.mark.parametrize(("right", "flagged", "positives"), [(20, 20, 40), (19, 20, 30), (186, 200, 300), (10, 10, 20)])
def test_more_positives_are_the_fewest_that_reach_the_target(right: int, flagged: int, positives: int) -> None:
    def lower(n: int) -> float:
        hits = right / flagged * n
        return float(beta.ppf(0.025, hits, n - hits + 1))

    flags = next(n for n in range(1, 10_000) if lower(n) >= 0.9)
    exact = -(-positives * flags // flagged) - positives
    shown = int(
        more_positives(outcome(right, flagged, positives, 900), 0.9, confidence=0.95)
        .removeprefix("about ")
        .replace(",", "")
    )
    assert exact <= shown <= exact * 1.1
    assert shown == exact or exact >= 100


@pytest.mark.parametrize(("right", "flagged"), [(9, 10), (5, 10), (0, 0), (9, 9), (3, 3)])
def test_no_number_of_records_is_promised_when_the_precision_is_not_above_the_target(right: int, flagged: int) -> None:
    assert more_positives(outcome(right, flagged, 20), 0.9, confidence=0.95) == ""


def test_a_precision_just_above_the_target_needs_very_many_records() -> None:
    assert more_positives(outcome(9001, 10_000, 12_000, 20_000), 0.9, confidence=0.95) == "over 1,000,000"


def estimator(overall: Outcome | None, auc: Metric = GOOD) -> EstimatorEvaluation:
    report = ThresholdReport(overall=[threshold(overall, at=0.838)], labels={})
    return EstimatorEvaluation.model_construct(metrics={"macro_roc_auc": auc, "micro_roc_auc": auc}, thresholds=report)


def test_the_sentence_that_decides() -> None:
    def sentence(*verdicts: Any, auc: Metric = GOOD, target: float | None = 0.9, overall: Any = FLAGS) -> str:
        rows = [LabelDecision(f"L{number}", verdict, "", 0.5) for number, verdict in enumerate(verdicts)]
        return decision_sentence("tickets", estimator(overall, auc), rows, target)

    use = (
        " Use it to flag for review: with one threshold for all labels (0.838) it finds 49 % (37–61) of the labels "
        "that apply, and 63 % (49–75) of its flags are right."
    )
    assert sentence("review only", "cannot tell") == (
        "Do not block automatically with the guard `tickets` yet: no label is shown to reach 90 % precision on these "
        "records." + use
    )
    assert sentence("review only", "not usable") == (
        "Do not block automatically with the guard `tickets`: no label reaches 90 % precision on these records." + use
    )
    some = sentence("block", "review only")
    assert some.startswith(
        "Block automatically with the guard `tickets` only for L0 (at 0.500): there it reaches 90 % precision. Use it "
        "to flag the"
    )
    assert "L0 (at 0.500), L1 (at 0.500) and 3 more labels (see the table)" in sentence(*["block"] * 5)
    assert "evaluate.precision_targets sets no target" in sentence("review only", target=None)
    assert (
        sentence("not usable")
        == "Do not use the guard `tickets` for moderation: it recognises no label better than chance."
    )
    assert sentence("cannot tell", auc=Metric(value=0.3, low=0.2, high=0.4, n=90)) == (
        "Do not use the guard `tickets`: it ranks labels worse than chance."
    )
    assert sentence("cannot tell", auc=UNSURE).endswith("so do not use it for review either.")
    assert sentence("block", "cannot tell", auc=UNSURE).endswith(
        "Do not use it for the others: over all labels it is not shown to be better than chance."
    )
    assert sentence("cannot tell", overall=outcome(0, 0, 70)).endswith(
        "it flags nothing with one threshold for all labels."
    )
    assert sentence("cannot tell", overall=None).startswith(
        "Nothing can be decided about the guard `tickets`: there are no test"
    )


@pytest.mark.parametrize(
    ("hits", "n", "text"),
    [
        (57, 100, "57 % (46–67)"),
        (12, 12, "12 of 12 (73–100 %)"),
        (0, 5, "0 of 5 (0–53 %)"),
        (299, 300, "over 99 % (98–100)"),
        (300, 300, "100 % (98–100)"),
        (0, 0, "—"),
    ],
)
def test_a_share_is_no_more_exact_than_its_interval(hits: int, n: int, text: str) -> None:
    assert as_text.share(share(hits, n, confidence=0.95, undefined="none")) == text


@pytest.fixture(scope="module")
def good() -> ReportData:
    return report_data(Synthetic(n=260, skill=0.9), complete=False, simulated=False)


def guard_of(data: ReportData) -> tuple[GuardEvaluation, EstimatorEvaluation]:
    (guard,) = data.evaluation.guards
    best = recommended_estimator(guard)
    assert best is not None
    return guard, best


def test_the_page_begins_with_the_decision(good: ReportData) -> None:
    guard, best = guard_of(good)
    decision = guard_decision(good, guard)
    page = Page(build_page(good))
    text, shown = " ".join(page.text.split()), decision.sentence.replace("`", "")
    assert shown in text
    assert text.index(shown) < text.index("records with final labels")
    first = decision.rows[0]
    judged = best.thresholds.labels[good.taxonomy.ids[0]][0].judged_on
    assert judged is not None and first.judged is not None
    assert f"{first.name} {first.verdict} {first.why} {as_text.threshold(first.threshold)} " in page.text
    assert [row.name for row in decision.rows] == list(good.label_names.values())
    assert cost_sentence(guard, best.thresholds.overall[0]) in page.text


def test_simulated_labels_decide_nothing(good: ReportData) -> None:
    simulated = replace(good, simulated=True)
    assert guard_decision(simulated, guard_of(good)[0]).sentence.startswith(
        "The labels are simulated, so nothing can be decided from them. With labels from people, the same numbers "
        "would mean: do not block"
    )


def test_a_guard_without_usable_numbers_has_no_table(good: ReportData) -> None:
    guard, _ = guard_of(good)
    found = AnswerFormat(records=9, off_format=0.5, greedy_answers=9, greedy_outside=5, at_node_budget=0, limit=0.2,
                         reason="it left its format", withheld=True)  # fmt: skip
    for update, sentence in (
        ({"answer_format": found}, "its thresholds are withheld."),
        ({"recommended": None}, "it has no usable scores."),
    ):
        decision = guard_decision(good, guard.model_copy(update=update))
        assert decision.sentence.endswith(sentence) and decision.rows == []


def test_labels_without_a_probability_are_in_the_table(good: ReportData) -> None:
    guard, _ = guard_of(good)
    bounds = OnlyBounds(label="a", estimator="marginal", lower=0.1, upper=0.4)
    rows = guard_decision(good, guard.model_copy(update={"only_bounds": [bounds], "labels_not_scored": ["b"]})).rows
    assert [(row.name, row.verdict) for row in rows[-2:]] == [("a", "cannot tell"), ("b", "not usable")]


def test_a_partly_judged_label_has_its_own_n() -> None:
    data = report_data(SYNTHETIC, masked_frames())
    guard, _ = guard_of(data)
    counts = {row.judged.n for row in guard_decision(data, guard).rows if row.judged}
    assert len(counts) == 3


def test_labels_with_parents_are_under_a_heading() -> None:
    data = report_data(Synthetic(n=160, skill=0.5))
    parents = {"return": "refund", "late_delivery": "damaged_or_faulty"}
    labels = [label.model_copy(update={"parent": parents.get(label.id)}) for label in data.taxonomy.labels]
    related = replace(data, taxonomy=data.taxonomy.model_copy(update={"labels": labels}))
    (guard,) = data.evaluation.guards
    groups = guard_decision(related, guard).groups
    names = data.label_names
    assert [(heading, [row.name for row in rows]) for heading, rows in groups[:2]] == [
        (names[parent], [names[parent], names[child]])
        for child, parent in (("late_delivery", "damaged_or_faulty"), ("return", "refund"))
    ]
    assert (groups[2][0], len(groups[2][1])) == ("Other labels", 8)
    text = Page(build_page(related)).text.partition("Each label at its recommended threshold")[2]
    parent = names["damaged_or_faulty"]
    assert f"Positive in test {parent} {parent} " in " ".join(text.split())
    (everything,) = guard_decision(data, guard).groups
    assert everything == ("", guard_decision(data, guard).rows)
    assert "Other labels" not in build_page(data)


def test_the_first_screen_names_the_weakest_label_and_links_to_thresholds_and_records() -> None:
    data = report_data(Synthetic(n=160, skill=0.5))
    (guard,) = data.evaluation.guards
    best = recommended_estimator(guard)
    assert best is not None
    lowest = min(best.labels, key=lambda row: row.metrics["roc_auc"].value or 0)
    page = Page(build_page(data))
    before_the_table = page.text.partition("May this guard block?")[2].partition(
        "Each label at its recommended threshold"
    )[0]
    assert f"{data.label_names[lowest.label]} has the lowest ROC AUC" in before_the_table
    links = [attributes.get("href") for tag, attributes in page.elements if tag == "a"]
    first = links.index("#choose", links.index("#made"))  # after the table of contents
    assert links[first : first + 3] == ["#choose", "#records", "#failures-1"]


def test_how_many_records_are_wrong_is_said_below_the_verdict(good: ReportData) -> None:
    _, best = guard_of(good)
    start = best.review[0].model_copy(update={"subset_error_overall": 36 / 63, "n_kept": 63})
    rate = share(8, 27, confidence=0.95, undefined="none")
    few = best.model_copy(update={"review": [start], "verdict": {"false_positive_rate": rate}})
    assert errors_sentence(few, "on-topic") == (
        "At the thresholds of the highest F1, 57 % of 63 test records have a wrong label; the verdict “on-topic”, at "
        "0.5, wrongly flags 8 of 27 (13–51 %) records without a label"
    )
    many = best.model_copy(update={"verdict": {"false_positive_rate": share(9, 90, confidence=0.95, undefined="")}})
    assert errors_sentence(many, "on-topic").endswith("10 % (4–19) of the 90 records without a label")
    assert errors_sentence(best.model_copy(update={"review": [], "verdict": {}}), "on-topic") == ""
    assert f"{errors_sentence(best, good.taxonomy.verdict)}." in Page(build_page(good)).text


def test_the_head_of_the_page_counts_the_judged_records(good: ReportData) -> None:
    _, best = guard_of(good)
    text = " ".join(Page(build_page(good)).text.split())
    final, tested = good.evaluation.gold.final, best.tuned["micro_f1"].n
    assert f"One guard, judged on {best.n} of {final} records (thresholds tested on {tested})" in text
    assert f"{best.n} judged of {final} records with final labels" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.838, "0.838"),
        (0.00057, "0.00057"),
        (1.9e-5, "0.000019"),
        (0.999791, "0.999791"),
        (1.0, "1.000"),
        (0.0, "0.000"),
    ],
)
def test_a_threshold_is_shown_with_the_digits_that_it_needs(value: float, text: str) -> None:
    assert as_text.threshold(value) == text

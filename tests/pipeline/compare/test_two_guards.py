"""Two guards of one run with planted differences: the decision for each label, and costs at equal recall by loops."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import precision_score, recall_score, roc_auc_score
from typer.testing import CliRunner

from marginalia.pipeline.commands.cli import app
from marginalia.pipeline.compare.compare_runs import compare
from marginalia.pipeline.compare.compared_run import ComparedRun
from marginalia.pipeline.compare.comparison_model import (
    Comparison,
    ComparisonDecision,
    CostOfLabel,
    EqualRecall,
    LabelChoice,
)
from marginalia.pipeline.compare.comparison_page import build_comparison
from marginalia.pipeline.compare.comparison_text import comparison_table
from marginalia.schemas.evaluation_json import AnswerFormat, Metric
from marginalia.scoring.measures.intervals import resample_weights
from tests.pipeline.compare.two_guards import (
    NOT_COVERED,
    ONLY_BOUNDS,
    PARTLY_JUDGED,
    loaded,
    write_two_guards,
)
from tests.pipeline.report.test_page import Page
from tests.scoring.test_equal_recall import by_loops, drawn

RESAMPLES = 200


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_two_guards(tmp_path_factory.mktemp("guards") / "run", resamples=RESAMPLES)


@pytest.fixture(scope="module")
def sides(run: Path) -> tuple[ComparedRun, ComparedRun]:
    return loaded(run)


@pytest.fixture(scope="module")
def comparison(sides: tuple[ComparedRun, ComparedRun]) -> Comparison:
    return compare(*sides)


def decision_of(comparison: Comparison) -> tuple[ComparisonDecision, dict[str, LabelChoice]]:
    assert comparison.decision is not None
    return comparison.decision, {row.label: row for row in comparison.decision.labels}


def costs_of(comparison: Comparison) -> tuple[EqualRecall, CostOfLabel, dict[str | None, CostOfLabel]]:
    costs = comparison.equal_recall
    assert costs is not None and costs.overall is not None
    return costs, costs.overall, {row.label: row for row in costs.labels}


def test_each_label_gets_the_planted_outcome(comparison: Comparison) -> None:
    decision, rows = decision_of(comparison)
    assert (decision.target, decision.metric) == (0.9, "roc_auc")
    assert rows["late_delivery"].use == "b"
    assert rows["damaged_or_faulty"].use == "a"
    assert rows["wrong_or_missing_item"].use == "cannot tell"
    assert rows["return"].use == "no guard reaches the promise"
    assert (rows[NOT_COVERED].use, rows[NOT_COVERED].why) == ("not computed", "small has no category for it")
    assert rows[ONLY_BOUNDS].why == "small gives only bounds of its probability"
    assert rows[NOT_COVERED].a is None and rows[NOT_COVERED].b is not None
    assert decision.sentence.startswith("Use ")
    assert "Not compared: Invoice or document and Discount or voucher." in decision.sentence
    assert "clearly" not in decision.sentence
    only_large = "only large has probabilities of invoice, discount; differences use the labels that both have"
    assert only_large in comparison.notes


def test_the_table_has_the_numbers_of_the_test_records(
    comparison: Comparison, sides: tuple[ComparedRun, ComparedRun]
) -> None:
    _, rows = decision_of(comparison)
    for label in ("late_delivery", PARTLY_JUDGED):
        row = rows[label]
        aucs = []
        for side, shown in zip(sides, (row.a, row.b), strict=True):
            column = side.table.labels.index(label)
            known = side.table.judged[:, column]
            truth, p = side.table.truth[known, column], side.table.scores["marginal"][known, column]
            aucs.append(roc_auc_score(truth, p))
            in_test = side.table.splits[known] == "test"
            assert shown is not None and shown.threshold is not None and shown.judged is not None
            flagged = p[in_test] >= shown.threshold
            assert shown.judged.precision.value == pytest.approx(precision_score(truth[in_test], flagged))
            assert shown.judged.recall.value == pytest.approx(recall_score(truth[in_test], flagged))
            assert (row.positives, row.n) == (truth.sum(), known.sum())
            own = side.estimator.thresholds.labels[label]
            assert shown.judged in [threshold.judged_on for threshold in own]  # the same as in evaluation.json
        assert row.difference is not None
        assert row.difference.value == pytest.approx(aucs[1] - aucs[0])


def test_the_intervals_of_the_differences_hold_for_all_labels_at_once(comparison: Comparison) -> None:
    """They are wider than those of each label on its own, which the table of metrics shows."""
    _, rows = decision_of(comparison)
    alone = {row.label: row.difference for row in comparison.labels if row.metric == "roc_auc"}
    wider = 0
    for label, row in rows.items():
        own = alone[label]
        if row.difference is None or row.difference.low is None or row.difference.high is None:
            continue
        assert own is not None and own.low is not None and own.high is not None
        wider += row.difference.high - row.difference.low > own.high - own.low
    assert wider == 10


def test_costs_at_equal_recall_equal_plain_loops(
    comparison: Comparison, sides: tuple[ComparedRun, ComparedRun]
) -> None:
    costs, overall, rows = costs_of(comparison)
    labels = [label for label in sides[0].table.labels if label in sides[1].table.labels]
    assert list(rows) == labels
    assert set(costs.left_out) == {NOT_COVERED, ONLY_BOUNDS}
    n = len(sides[0].table.ids)
    weights = np.concatenate(list(resample_weights(n, RESAMPLES, sides[0].evaluation.seed))).astype(int)
    draws = [np.ones(n, dtype=int), *weights]
    found = [
        [
            [
                by_loops(drawn(*(part[:, side.table.labels.index(label)] for part in
                                 (side.table.truth, side.table.scores["marginal"], side.table.judged)), times), 0.8)
                for label in labels
            ]
            for times in draws
        ]
        for side in sides
    ]  # fmt: skip  # guard → draw → label → cost
    for number, label in enumerate(labels):
        row = rows[label]
        for side, shown in enumerate((row.a, row.b)):
            expected = found[side][0][number]
            assert shown.recall == pytest.approx(expected["recall"])
            assert shown.threshold == pytest.approx(expected["threshold"])
            for name in ("flags", "false_alarms", "precision"):
                values = [draw[number][name] for draw in found[side]]
                check(getattr(shown, name), values)
        false_alarms = [[draw[number]["false_alarms"] for draw in found[side]] for side in (0, 1)]
        check(row.difference, [b - a for a, b in zip(*false_alarms, strict=True)])
        assert row.finding == "descriptive"
    for side, shown in enumerate((overall.a, overall.b)):
        check(shown.flags, [sum(costs["flags"] for costs in draw) for draw in found[side]])
    together = [[sum(costs["false_alarms"] for costs in draw) for draw in found[side]] for side in (0, 1)]
    check(overall.difference, [b - a for a, b in zip(*together, strict=True)])


def check(metric: Metric, values: list[float]) -> None:
    """The metric's value is the first of `values`; its interval has the percentiles of the others and this value."""
    value, replicates = values[0], np.array(values[1:])
    assert metric.value == pytest.approx(value)
    if metric.low is None or metric.high is None:
        assert np.ptp(replicates) == 0
        return
    low, high = np.quantile(replicates, [0.025, 0.975])
    assert (metric.low, metric.high) == pytest.approx((min(low, value), max(high, value)))


def test_whose_false_alarms_are_fewer_is_said_only_of_a_tested_difference(comparison: Comparison) -> None:
    costs, overall, _ = costs_of(comparison)
    assert overall.name == "10 labels"
    assert overall.difference.low is not None and overall.difference.high is not None
    clear = overall.difference.high < 0 or overall.difference.low > 0
    assert ("clearly fewer" in costs.sentence) == clear
    assert (overall.finding in ("better", "worse")) == clear


def test_equal_guards_are_never_called_different(sides: tuple[ComparedRun, ComparedRun]) -> None:
    same = compare(sides[1], sides[1])
    decision, rows = decision_of(same)
    assert {row.use for row in rows.values()} <= {"cannot tell", "no guard reaches the promise"}
    assert {row.why for row in rows.values() if row.use == "cannot tell"} == {"the same on every resample"}
    costs, overall, _ = costs_of(same)
    assert (overall.difference.value, overall.finding) == (0, "no clear difference")
    assert "no clear difference in false alarms" in costs.sentence
    assert "Use" not in decision.sentence


def test_bounds_of_the_probabilities_can_take_a_finding_back(tmp_path: Path) -> None:
    exact = compare(*loaded(write_two_guards(tmp_path / "exact", n=160, resamples=100)))
    vague = compare(*loaded(write_two_guards(tmp_path / "vague", n=160, resamples=100, width=0.5)))
    assert decision_of(exact)[1]["late_delivery"].finding == "better"
    assert decision_of(vague)[1]["late_delivery"].finding == "no clear difference"
    cost = costs_of(vague)[2]["late_delivery"].a.false_alarms
    assert cost.range_low is not None and cost.range_high is not None and cost.value is not None
    assert cost.range_low < cost.value < cost.range_high


def test_nothing_is_decided_about_a_guard_that_left_its_format(sides: tuple[ComparedRun, ComparedRun]) -> None:
    found = AnswerFormat(records=320, off_format=0.9, greedy_answers=None, greedy_outside=None, at_node_budget=None,
                         limit=0.2, reason="this guard left its answer format", withheld=True)  # fmt: skip
    left = replace(sides[1], guard=sides[1].guard.model_copy(update={"answer_format": found}))
    made = compare(sides[0], left)
    decision, rows = decision_of(made)
    assert decision.sentence == "Nothing is decided: large did not keep the answer format."
    assert {row.use for row in rows.values()} == {"not computed"}
    assert rows["late_delivery"].why == "large did not keep the answer format"
    costs, overall, _ = costs_of(made)
    assert overall.finding == "descriptive"
    assert "is not tested" in costs.sentence
    assert made.notes[: made.warnings] == ["large: this guard left its answer format; its numbers describe the rest"]


def test_too_few_records_decide_nothing(tmp_path: Path) -> None:
    made = compare(*loaded(write_two_guards(tmp_path / "few", n=16, resamples=100)))
    decision, rows = decision_of(made)
    assert {row.use for row in rows.values()} == {"not computed"}
    assert rows["late_delivery"].why == "too few records"
    assert decision.sentence == "Nothing is decided between small and large: the table says why for each label."
    assert made.equal_recall is not None and made.equal_recall.overall is None
    assert "are not compared: too few shared records" in made.equal_recall.sentence
    assert "Which guard for which label?" in build_comparison(made, {})


def test_page_terminal_and_json_say_the_same(
    run: Path, comparison: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    decision, _ = decision_of(comparison)
    costs, _, _ = costs_of(comparison)
    arguments = ["compare", str(run), str(run), "--guard-a", "small", "--guard-b", "large"]
    printed = CliRunner().invoke(app, arguments).output
    assert " ".join(printed.split()).count(decision.sentence) == 1
    as_json = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert as_json["decision"]["sentence"] == decision.sentence
    assert as_json["equal_recall"]["sentence"] == costs.sentence
    assert (as_json["a"]["seconds"], as_json["b"]["forward_passes"]) == (0.5, 9)
    page = Page(build_comparison(comparison, {}))
    speed = "Per record, small took 0.5 s and 8.0 forward passes; large took 1.5 s and 9.0 forward passes."
    assert speed in " ".join(printed.split())
    for text in (decision.sentence, costs.sentence, speed, "use large", "cannot tell", "no guard reaches 90 %"):
        assert text in page.text
    assert {attributes["aria-label"] for _, attributes in page.elements if "plot" in (attributes.get("class") or "")}


@pytest.mark.parametrize("width", [60, 80, 140])
def test_the_terminal_text_fits_the_terminal(comparison: Comparison, width: int) -> None:
    text = comparison_table(comparison, width=width)
    assert max(map(len, text.splitlines())) <= width
    decision, rows = decision_of(comparison)
    assert decision.sentence in " ".join(text.split())
    better = rows["late_delivery"].b
    assert better is not None
    assert (
        f"  large: threshold {better.threshold:.3f}, " if width == 60 else f"  large      {better.threshold:.3f} "
    ) in text

"""`marginalia compare`: two runs with the same gold, with different gold, and input that it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn import metrics as reference
from typer.testing import CliRunner

from marginalia.pipeline.commands.cli import app
from marginalia.pipeline.compare.compare_runs import compare
from marginalia.pipeline.compare.compared_run import ComparedRun, load_compared_run
from marginalia.pipeline.compare.comparison_model import Comparison
from marginalia.pipeline.compare.comparison_page import build_comparison
from marginalia.pipeline.compare.comparison_text import comparison_finding, comparison_table
from marginalia.pipeline.core.run import open_run
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.evaluation.evaluate_stage import STAGE as EVALUATE
from marginalia.pipeline.report.as_text import NAMES
from marginalia.schemas.evaluation_json import AnswerFormat
from marginalia.schemas.storage.files import write_frame
from marginalia.schemas.tables import GoldRecord
from marginalia.schemas.taxonomy import load_taxonomy
from tests.pipeline.evaluation.test_stages import CONFIG
from tests.pipeline.report.test_page import Page
from tests.pipeline.synthetic_run import Synthetic, write_run


def evaluated(folder: Path, synthetic: Synthetic, *, threshold: float = 0.5, run: bool = True) -> Path:
    write_run(folder, synthetic, whole=False)
    config = CONFIG.format(simulated="false") + f"  threshold: {threshold}\n"
    (folder / "config.yaml").write_text(config, encoding="utf-8")
    if run:
        run_stage(EVALUATE, open_run(folder))
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("runs")
    before = evaluated(root / "before", Synthetic(n=150, skill=0.2))
    return before, evaluated(root / "after", Synthetic(n=150, skill=0.9), threshold=0.4)


@pytest.fixture(scope="module")
def compared(runs: tuple[Path, Path]) -> tuple[ComparedRun, ComparedRun]:
    return load_compared_run(runs[0], None, "marginal"), load_compared_run(runs[1], None, "marginal")


@pytest.fixture(scope="module")
def comparison(compared: tuple[ComparedRun, ComparedRun]) -> Comparison:
    return compare(*compared)


def test_differences_are_those_of_the_shared_records(
    compared: tuple[ComparedRun, ComparedRun], comparison: Comparison
) -> None:
    assert comparison.shared.same
    assert comparison.shared.judged == len(compared[0].table.ids) == 146
    first, second = (
        (run.table.truth, run.table.scores["marginal"], run.table.scores["marginal"] >= at)
        for run, at in zip(compared, (0.5, 0.4), strict=True)
    )
    test = compared[0].table.on(["test"])
    safe = ~compared[0].table.any_label
    false_positive_rates = [
        np.mean(run.table.verdicts["marginal"][safe] >= at) for run, at in zip(compared, (0.5, 0.4), strict=True)
    ]
    expected = {
        "verdict_false_positive_rate": false_positive_rates[1] - false_positive_rates[0],
        "micro_f1": reference.f1_score(second[0], second[2], average="micro")
        - reference.f1_score(first[0], first[2], average="micro"),
        "macro_roc_auc": reference.roc_auc_score(second[0], second[1]) - reference.roc_auc_score(first[0], first[1]),
        "brier": np.mean((second[1] - second[0])[test] ** 2) - np.mean((first[1] - first[0])[test] ** 2),
        "hamming_loss": np.mean(second[2] != second[0]) - np.mean(first[2] != first[0]),
    }
    rows = {row.metric: row for row in comparison.metrics}
    for name, value in expected.items():
        row = rows[name]
        assert row.difference is not None
        assert row.difference.value == pytest.approx(value), name
        assert row.difference.low is not None
        assert row.difference.high is not None
        assert row.difference.low <= value <= row.difference.high
        assert row.a is not None
        assert row.b is not None
        assert row.difference.value == pytest.approx((row.b.value or 0) - (row.a.value or 0)), name
    assert rows["macro_roc_auc"].finding == "better"
    auc = next(row for row in comparison.labels if (row.label, row.metric) == ("refund", "roc_auc"))
    column = compared[0].table.labels.index("refund")
    assert auc.difference is not None
    assert auc.difference.value == pytest.approx(
        reference.roc_auc_score(second[0][:, column], second[1][:, column])
        - reference.roc_auc_score(first[0][:, column], first[1][:, column])
    )


def test_what_differs_is_named(comparison: Comparison) -> None:
    differing = {row.what: (row.a, row.b) for row in comparison.differing}
    assert differing == {"config evaluate.threshold": ("0.5", "0.4")}
    assert comparison.notes == ["decisions use different thresholds: 0.5 and 0.4"]
    assert Comparison.model_validate_json(comparison.model_dump_json()) == comparison


def test_one_estimator_against_another_of_the_same_run(runs: tuple[Path, Path]) -> None:
    same = compare(load_compared_run(runs[1], None, "marginal"), load_compared_run(runs[1], None, "marginal"))
    assert all(row.difference is None or row.difference.value == 0 for row in same.metrics)
    assert comparison_finding(same).startswith("No clear difference between")
    estimators_compared = compare(
        load_compared_run(runs[1], None, "marginal"), load_compared_run(runs[1], "smollm2", "greedy")
    )
    assert [row.what for row in estimators_compared.differing] == ["estimator"]


def test_other_gold_is_not_paired(runs: tuple[Path, Path], tmp_path: Path) -> None:
    other = evaluated(tmp_path / "other", Synthetic(n=150, skill=0.9, seed=8))
    different_gold = compare(load_compared_run(runs[0], None, None), load_compared_run(other, None, None))
    assert not different_gold.shared.same
    assert different_gold.shared.changed > 50  # the same ids, other labels
    assert different_gold.shared.judged < 90
    assert any("the gold is not the same" in note for note in different_gold.notes)
    assert any(row.what.startswith("gold records with") for row in different_gold.differing)


def test_runs_without_a_shared_record_decide_nothing(runs: tuple[Path, Path], tmp_path: Path) -> None:
    other = evaluated(tmp_path / "other", Synthetic(n=40, texts=["another text"]))
    made = compare(load_compared_run(runs[0], None, None), load_compared_run(other, None, None))
    assert made.shared.judged == 0
    assert made.decision is not None and made.equal_recall is not None
    assert made.decision.sentence == "Nothing is decided between before and other: no record was judged in both."
    assert {row.use for row in made.decision.labels} == {"not computed"}
    assert made.equal_recall.labels == []
    assert set(made.equal_recall.left_out.values()) == {"no record was judged in both"}
    assert made.warnings == 1
    assert made.decision.sentence in Page(build_comparison(made, {})).text
    assert "Nothing is decided" in comparison_table(made)


def test_nothing_is_concluded_about_a_guard_that_left_its_format(
    compared: tuple[ComparedRun, ComparedRun], comparison: Comparison
) -> None:
    before, after = compared
    reason = "this guard left its answer format"
    found = AnswerFormat(
        records=146,
        off_format=0.9,
        greedy_answers=None,
        greedy_outside=None,
        at_node_budget=None,
        limit=0.2,
        reason=reason,
        withheld=True,
    )
    left = replace(after, guard=after.guard.model_copy(update={"answer_format": found}))
    made = compare(before, left)
    assert not any(row.tested for row in made.metrics)
    assert {row.finding for row in made.metrics} <= {"descriptive", "not known"}
    assert made.notes[0] == "after: this guard left its answer format; its numbers describe the rest"
    assert comparison_finding(made).startswith("It is not known whether after is better or worse than before")
    shown = found.model_copy(update={"withheld": False})
    allowed = replace(after, guard=after.guard.model_copy(update={"answer_format": shown}))
    assert compare(before, allowed).metrics == comparison.metrics


def test_the_page_contains_the_numbers_and_escapes_texts(comparison: Comparison) -> None:
    hostile = comparison.model_copy(update={"a": comparison.a.model_copy(update={"run": "<script>alert(1)</script>"})})
    page = Page(build_comparison(hostile, {"refund": "<b>Refund</b>"}))
    assert {tag for tag, _ in page.elements} & {"script", "b"} <= {"b"}
    assert "<b>Refund</b>" in page.text
    assert "<script>alert(1)</script>" in page.text
    auc = next(row for row in comparison.metrics if row.metric == "macro_roc_auc")
    assert auc.difference is not None
    assert f"{auc.difference.value:+.3f}" in page.text
    assert page.open == []
    (tested,) = [row.metric for row in comparison.metrics if row.tested]
    assert f"Only {NAMES[tested]} is tested (" in page.text


def test_the_command(runs: tuple[Path, Path], tmp_path: Path) -> None:
    before, after = map(str, runs)
    page = tmp_path / "compare.html"
    done = CliRunner().invoke(app, ["compare", before, after, "--out", str(page)])
    assert done.exit_code == 0, done.output
    assert "b is better" in done.output
    assert "after is clearly better than before" in page.read_text(encoding="utf-8")
    as_json = CliRunner().invoke(app, ["compare", before, after, "--json"])
    assert Comparison.model_validate_json(as_json.stdout).shared.same
    assert comparison_table(Comparison.model_validate_json(as_json.stdout)) in done.output


def test_errors_say_what_cannot_be_compared(runs: tuple[Path, Path], tmp_path: Path) -> None:
    bare = evaluated(tmp_path / "bare", Synthetic(n=20), run=False)
    for arguments, message in (
        ([str(bare)], f"{bare}/evaluation.json: no such file (run marginalia evaluate --run {bare})"),
        ([str(tmp_path / "none")], "no such run"),
        ([str(runs[1]), "--guard-b", "smollm"], "has no guard 'smollm'; did you mean 'smollm2'?"),
        ([str(runs[1]), "--estimator-a", "marginl"], "has no estimator 'marginl' of smollm2; did you mean 'marginal'?"),
        ([str(runs[1]), "--out", "page.txt"], "--out page.txt: expected a file name that ends in .html"),
    ):
        done = CliRunner().invoke(app, ["compare", str(runs[0]), *arguments])
        assert done.exit_code == 2
        assert message in done.output


def test_gold_with_other_judged_labels_is_compared_on_common_cells(runs: tuple[Path, Path], tmp_path: Path) -> None:
    """Run b judges only some labels: its records agree with a's, although their lists of labels differ."""
    folder = evaluated(tmp_path / "partly", Synthetic(n=150, skill=0.9), run=False)
    gold = pl.read_parquet(folder / "gold.parquet")
    judged = load_taxonomy("support-tickets").ids[:4]
    masks = [judged if number % 3 == 0 else None for number in range(gold.height)]
    masked = gold.with_columns(judged=pl.Series(masks, dtype=pl.List(pl.String))).with_columns(
        labels=pl.when(pl.col("judged").is_null())
        .then("labels")
        .otherwise(pl.col("labels").list.set_intersection(pl.lit(judged)))
    )
    one_wrong = pl.when(pl.col("id") == "r00006").then(pl.lit(judged[:1])).otherwise(pl.col("labels"))
    write_frame(folder / "gold.parquet", masked.with_columns(labels=one_wrong), GoldRecord)
    run_stage(EVALUATE, open_run(folder))
    sides = load_compared_run(runs[0], None, "marginal"), load_compared_run(folder, None, "marginal")
    result = compare(*sides)
    assert not result.shared.same
    assert (result.shared.records, result.shared.changed, result.shared.judged) == (146, 1, 145)
    rows = [row for row, record in enumerate(sides[0].table.ids) if record != "r00006"]
    known = sides[1].table.judged[rows]
    right = [(side.table.scores["marginal"][rows] >= 0.5)[known] == sides[0].table.truth[rows][known] for side in sides]
    hamming = next(row for row in result.metrics if row.metric == "hamming_loss")
    assert hamming.difference is not None
    assert hamming.difference.value == pytest.approx(right[0].mean() - right[1].mean())
    assert hamming.difference.n == 145
    assert (
        f"differences use the {known.sum():,} of {known.size:,} record × label values that were judged in both runs"
        in (result.notes)
    )
    safe = [row for row in rows if sides[1].table.verdict_judged[row] and not sides[0].table.any_label[row]]
    rate = next(row for row in result.metrics if row.metric == "verdict_false_positive_rate")
    rates = [np.mean(side.table.verdicts["marginal"][safe] >= 0.5) for side in sides]
    assert rate.difference is not None
    assert rate.difference.value == pytest.approx(rates[1] - rates[0])
    assert any(row.what.endswith("was judged") for row in result.differing)
    assert comparison_table(result)

"""`marginalia.evaluate` on data frames gives the numbers of the stage, and says what is wrong with a frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import polars as pl
import pytest

from marginalia import EvaluationResult, RecordScores, evaluate
from marginalia.pipeline.config.evaluation import EvaluateSection
from marginalia.pipeline.evaluation import evaluate_guards
from marginalia.pipeline.evaluation.evaluate_guards import GuardScores
from marginalia.pipeline.in_memory.evaluate_frames import FORMAT_UNKNOWN
from marginalia.schemas.errors import ArtifactError, InputError
from marginalia.schemas.evaluation_json import Evaluation
from marginalia.schemas.tables import GoldRecord
from marginalia.scoring.marginal.estimators import LabelEstimates
from marginalia.scoring.scored_record import Result
from tests.pipeline.synthetic_run import Frames, Synthetic, make_frames

QUICK = EvaluateSection(resamples=100, folds=2)


@pytest.fixture(scope="module")
def frames() -> Frames:
    made = make_frames(Synthetic(n=160, skill=0.6, failed=0, unresolved=0))
    return replace(made, scores=made.scores.filter(pl.col("estimator").is_in(["marginal", "joint"])))


@pytest.fixture(scope="module")
def simple(frames: Frames) -> pl.DataFrame:
    return frames.gold.select("id", "labels", "split", "messages")


@pytest.fixture(scope="module")
def result(frames: Frames, simple: pl.DataFrame) -> EvaluationResult:
    return evaluate(simple, frames.scores, config=QUICK)


def numbers(evaluation: Evaluation) -> Any:
    """The metrics of all estimators, without what needs votes, attributes or the records' table."""
    (guard,) = evaluation.guards
    return [
        (each.estimator, each.metrics, each.labels, each.verdict, each.tuned, each.thresholds, each.calibration)
        for each in guard.estimators
    ]


def test_an_old_call_gives_what_it_gave(frames: Frames) -> None:
    guards = [GuardScores("smollm2", frames.scores, frames.records, family="instruct")]
    arguments = (frames.gold, guards, frames.prompts, frames.taxonomy, QUICK)
    old = evaluate_guards.evaluate(*arguments, seed=5, simulated=True)
    new = evaluate(*arguments, seed=5, simulated=True)
    assert (new.evaluation, new.thresholds, new.calibrations) == (old.evaluation, old.thresholds, old.calibrations)
    assert new.notes == []


def test_the_simple_form_gives_the_numbers_of_the_whole_gold(frames: Frames, result: EvaluationResult) -> None:
    guards = [GuardScores("guard", frames.scores, frames.records)]
    stage = evaluate_guards.evaluate(frames.gold, guards, None, frames.taxonomy, QUICK, seed=2026, simulated=False)
    assert numbers(result.evaluation) == numbers(stage.evaluation)
    assert result.thresholds.guards == stage.thresholds.guards
    assert result.notes == [FORMAT_UNKNOWN.format(guard="guard")] and result.taxonomy.ids == frames.taxonomy.ids


@pytest.mark.parametrize("kind", ["pandas", "rows", "lazy", "whole gold in pandas"])
def test_other_kinds_of_frames_give_the_same(
    frames: Frames, simple: pl.DataFrame, result: EvaluationResult, kind: str
) -> None:
    gold: Any = {
        "pandas": lambda: pd.DataFrame(simple.to_dicts()),
        "rows": simple.to_dicts,
        "lazy": simple.lazy,
        "whole gold in pandas": lambda: frames.gold.with_columns(
            pl.lit(None, pl.List(pl.String)).alias("judged")
        ).to_pandas(),
    }[kind]()
    scores = frames.scores.to_pandas() if "pandas" in kind else frames.scores
    if kind == "whole gold in pandas":  # pandas has no type for a column of nulls
        gold = gold.drop(columns="judged", errors="ignore")
    assert numbers(evaluate(gold, scores, config=QUICK).evaluation) == numbers(result.evaluation)


def test_the_results_of_score_many_are_scores(frames: Frames, simple: pl.DataFrame, result: EvaluationResult) -> None:
    scored = []
    for (record,), rows in frames.scores.group_by("record_id", maintain_order=True):
        estimates = {
            str(name): LabelEstimates(*(part[column].to_numpy() for column in ("probability", "lower", "upper")))
            for (name,), part in rows.group_by("estimator", maintain_order=True)
        }
        labels = rows["label"].unique(maintain_order=True).to_list()
        scored.append(RecordScores(Result(str(record), estimates, off_language=0.25), labels, "marginal"))
    made = evaluate(simple, iter(scored), config=QUICK)
    assert numbers(made.evaluation) == numbers(result.evaluation)
    assert made.evaluation.guards[0].off_language == 0.25 and made.notes == []
    scored[0] = RecordScores(Result(scored[0].record_id, error="too long"), scored[1].rows, "marginal")
    assert evaluate(simple, scored, config=QUICK).evaluation.guards[0].left_out == {"scoring failed": 1}


def test_scores_without_estimator_and_bounds_and_several_guards(frames: Frames, simple: pl.DataFrame) -> None:
    plain = frames.scores.filter(pl.col("estimator") == "marginal").select("record_id", "label", "probability")
    made = evaluate(simple, {"one": plain, "two": plain.rename({"record_id": "id"})}, config=QUICK)
    assert [guard.guard for guard in made.evaluation.guards] == ["one", "two"]
    assert [guard.recommended for guard in made.evaluation.guards] == ["score", "score"]
    assert {row.difference.value for row in made.evaluation.guard_differences} == {0.0}
    assert made.plot("roc", "refund", guard="two").title.startswith("refund: ROC AUC")


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_a_label_with_only_bounds_has_no_probability(
    frames: Frames, simple: pl.DataFrame, missing: float | None
) -> None:
    """As in scores/GUARD.parquet (null), in pandas (NaN), and in the results of score_many (NaN)."""
    in_bounds = pl.col("label") == "return"
    value = pl.when(in_bounds).then(pl.lit(missing, pl.Float64)).otherwise("probability")
    scores = frames.scores.with_columns(probability=value)
    absent = evaluate(simple, scores.filter(~in_bounds), taxonomy=frames.taxonomy, config=QUICK)
    scored = []
    for (record,), rows in scores.group_by("record_id", maintain_order=True):
        estimates = {
            str(name): LabelEstimates(
                *(part[column].fill_null(np.nan).to_numpy() for column in ("probability", "lower", "upper"))
            )
            for (name,), part in rows.group_by("estimator", maintain_order=True)
        }
        labels = rows["label"].unique(maintain_order=True).to_list()
        scored.append(RecordScores(Result(str(record), estimates), labels, "marginal"))
    for given in (scores, scored):
        made = evaluate(simple, given, taxonomy=frames.taxonomy, config=QUICK)
        assert [row.label for row in made.evaluation.guards[0].only_bounds] == ["return"]
        assert numbers(made.evaluation) == numbers(absent.evaluation)


def test_the_threshold_plot_of_all_labels_counts_only_judged_labels(frames: Frames, simple: pl.DataFrame) -> None:
    """Each record was judged on its own labels and on one more, so its other flags are neither right nor wrong."""
    judged = pl.concat_list("labels", pl.lit(["refund"])).list.unique()
    made = evaluate(simple.with_columns(judged=judged), frames.scores, config=QUICK)
    (guard,) = made.evaluation.guards
    best = next(each for each in guard.estimators if each.estimator == guard.recommended)
    outcome = best.thresholds.overall[0].judged_on
    assert outcome is not None and outcome.precision.value is not None
    title = made.plot("threshold").title
    assert f" and {outcome.precision.value:.0%} (" in title and f" {outcome.positives} positives)" in title
    every = evaluate(simple, frames.scores, config=QUICK)
    assert title.partition("threshold")[2] != every.plot("threshold").title.partition("threshold")[2]


# ---- what is filled in -----------------------------------------------------------------------------------------------


def test_records_without_a_split_are_divided_and_a_note_says_so(frames: Frames, simple: pl.DataFrame) -> None:
    twice = simple.drop("split").with_columns(
        messages=pl.when(pl.int_range(pl.len()) < 2).then(pl.col("messages").first()).otherwise("messages")
    )
    made = evaluate(twice, frames.scores, config=QUICK)
    counts = made.evaluation.gold.splits
    assert set(counts) == {"calibration", "test"} and abs(counts["calibration"] - counts["test"]) <= 4
    assert f"with seed 2026: {counts['calibration']} calibration, {counts['test']} test" in made.notes[0]
    assert made.gold["split"][0] == made.gold["split"][1]  # equal texts
    assert evaluate(twice, frames.scores, config=QUICK).evaluation == made.evaluation
    assert evaluate(twice, frames.scores, config=QUICK, seed=1).evaluation.gold.splits is not None


def test_without_texts_no_two_records_count_as_equal(frames: Frames, simple: pl.DataFrame) -> None:
    made = evaluate(simple.select("id", "labels"), frames.scores, config=QUICK)
    assert made.evaluation.gold.equal_texts is None


def test_labels_that_only_gold_has_are_noted(frames: Frames, simple: pl.DataFrame) -> None:
    misspelt = simple.with_columns(pl.col("labels").list.eval(pl.element().replace("refund", "refnd")))
    made = evaluate(misspelt, frames.scores, config=QUICK)
    assert made.notes[0] == "gold has the label 'refnd', which no scores have; did you mean 'refund'?"
    assert made.evaluation.guards[0].labels_not_scored == ["refnd"]
    with pytest.raises(InputError, match=r"gold: record 'r.*': unknown label 'refnd'; did you mean 'refund'"):
        evaluate(misspelt, frames.scores, taxonomy="support-tickets", config=QUICK)


def test_null_labels_are_not_final_and_judged_is_kept(frames: Frames, simple: pl.DataFrame) -> None:
    first = pl.int_range(pl.len()) == 0
    partly = simple.with_columns(
        labels=pl.when(first).then(None).otherwise("labels"),
        judged=pl.when(pl.col("labels").list.len() == 0).then(pl.lit(["refund", "return"])),
    )
    made = evaluate(partly, frames.scores, config=QUICK)
    assert made.evaluation.gold.left_out == {"needs_answers": 1}
    assert made.gold["judged"].drop_nulls().to_list()[0] == ["refund", "return"]
    unjudged = (partly["judged"].is_not_null() & (partly["split"] == "test")).sum()
    in_test = (partly["split"][1:] == "test").sum()
    assert f"({in_test - unjudged} records" in made.plot("threshold", "invoice").title
    assert f"({in_test} records" in made.plot("threshold", "refund").title
    assert f"({in_test} records" in made.plot("threshold").title
    assert "no threshold was chosen" in made.plot("threshold", "unsafe").title  # only positives are known


# ---- errors ----------------------------------------------------------------------------------------------------------

GOLD: dict[str, Callable[[pl.DataFrame], Any]] = {
    "gold has no column 'labels'; did you mean 'label'": lambda gold: gold.rename({"labels": "label"}),
    "gold has no column 'id'": lambda gold: gold.drop("id"),
    "two records have the id 'r00000'": lambda gold: pl.concat([gold, gold.head(1)]),
    "'labels' must contain lists of label ids, saw texts": lambda gold: gold.with_columns(labels=pl.lit("refund")),
    "record 'r00000' has the split 'dev'": lambda gold: gold.with_columns(split=pl.lit("dev")),
    "'safe' in 'labels', which is not a label .an empty list": lambda gold: gold.with_columns(labels=pl.lit(["safe"])),
    "which 'judged' leaves out": lambda gold: gold.with_columns(labels=pl.lit(["return"]), judged=pl.lit(["refund"])),
    "gold has no record with labels": lambda gold: gold.with_columns(labels=pl.lit(None)),
    "no record of gold has scores of guard: .* 'xr00000', in the scores 'r": lambda gold: gold.with_columns(
        id="x" + pl.col("id")
    ),
    "gold must be a polars or pandas DataFrame, saw int": lambda gold: 3,
}
SCORES: dict[str, Callable[[pl.DataFrame], Any]] = {
    "scores of guard: no column 'label'; they have .* without wide=True": lambda scores: scores.drop("label"),
    "column 'probability' has nulls": lambda scores: scores.with_columns(probability=pl.lit(None)),
    "of guard: column 'probability' has nulls": lambda scores: scores.with_columns(  # in one record, not in all
        probability=pl.when(pl.col("record_id") != pl.col("record_id").first()).then("probability")
    ),
    "guard: column 'probability' has nulls": lambda scores: scores.drop("lower", "upper").with_columns(
        probability=pl.when(pl.col("label") != "refund").then("probability")
    ),
    "probability 2, upper": lambda scores: scores.with_columns(probability=pl.lit(2.0)),
    "two rows for record × estimator × label": lambda scores: pl.concat([scores, scores.head(1)]),
    "expected a data frame, or the results of score_many.*saw str": lambda scores: ["x"],
    "a column has the wrong type": lambda scores: scores.with_columns(probability=pl.lit("high")),
}


@pytest.mark.parametrize("message", GOLD)
def test_wrong_gold_is_explained(frames: Frames, simple: pl.DataFrame, message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(GOLD[message](simple), frames.scores, config=QUICK)


@pytest.mark.parametrize("message", SCORES)
def test_wrong_scores_are_explained(frames: Frames, simple: pl.DataFrame, message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(simple, SCORES[message](frames.scores), config=QUICK)


def test_wrong_whole_gold_is_explained(frames: Frames) -> None:
    with pytest.raises(ArtifactError, match="column 'split' contains 'dev'"):
        evaluate(frames.gold.with_columns(split=pl.lit("dev")), frames.scores)


def test_prompts_choose_and_group_records(frames: Frames, simple: pl.DataFrame) -> None:
    made = evaluate(simple, frames.scores, frames.prompts, where={"form": "chat"}, config=QUICK)
    assert made.gold.height == made.evaluation.guards[0].records < simple.height
    assert {row.attribute for row in made.evaluation.guards[0].slices} == {"difficulty"}  # all have one form
    with pytest.raises(InputError, match="prompts have no column 'attributes'"):
        evaluate(simple, frames.scores, frames.prompts.drop("attributes"), config=QUICK)


def test_options_are_those_of_the_config(frames: Frames, simple: pl.DataFrame) -> None:
    made = evaluate(simple, frames.scores, resamples=150, confidence=0.8)
    assert (made.evaluation.resamples, made.evaluation.confidence) == (150, 0.8)
    with pytest.raises(InputError, match="no option 'confidense'; did you mean 'confidence'"):
        evaluate(simple, frames.scores, confidense=0.9)
    with pytest.raises(InputError, match=r"confidence: Input should be less than 1.*--explain evaluate.confidence"):
        evaluate(simple, frames.scores, confidence=2)


# ---- what is shown ---------------------------------------------------------------------------------------------------


def test_the_summary_has_a_row_per_label(result: EvaluationResult, frames: Frames) -> None:
    summary = result.summary()
    assert repr(result) == summary
    lines = summary.splitlines()
    assert lines[1].startswith("gold: 160 final records of 160")
    table = lines[lines.index("") + 1 :]
    assert table[0].split() == ["label", "positives", "ROC", "AUC", "threshold", "precision", "recall"]
    assert [line.split()[0] for line in table[1:14]] == [*frames.taxonomy.ids, "unsafe"]
    best = next(each for each in result.evaluation.guards[0].estimators if each.estimator == "marginal")
    refund = next(row for row in best.labels if row.label == "refund")
    row = next(line for line in table if line.startswith("refund "))
    assert row.split()[1:3] == [str(refund.positives), f"{refund.metrics['roc_auc'].value:.2f}"]
    assert "guard guard, estimator marginal" in summary


@pytest.mark.parametrize("name", ["threshold", "calibration", "roc"])
@pytest.mark.parametrize("label", [None, "refund"])
def test_plots_are_svg_files_with_the_finding_as_title(
    result: EvaluationResult, name: str, label: str | None, tmp_path: Path
) -> None:
    plot = result.plot(name, label)
    saved = plot.save(tmp_path / "plot.svg")
    root = ElementTree.fromstring(saved.read_text("utf-8"))
    assert root[0].text == plot.title and root.get("aria-label") is not None
    assert "curve" in plot.svg and (label is None or plot.title.startswith("refund"))
    assert plot._repr_html_().startswith('<figure><img src="data:image/svg+xml;base64,')
    assert f"<figcaption>{escape(plot.title)}</figcaption>" in plot._repr_html_()
    assert repr(plot) == f"<Plot: {plot.title}>"


def test_the_threshold_plot_marks_the_threshold_of_the_evaluation(result: EvaluationResult) -> None:
    best = next(each for each in result.evaluation.guards[0].estimators if each.estimator == "marginal")
    for label, thresholds in [(None, best.thresholds.overall), *best.thresholds.labels.items()]:
        chosen = next(each for each in thresholds if each.goal == "max_f1")
        title = result.plot("threshold", label).title
        assert chosen.threshold is not None and f"threshold {chosen.threshold:.2f}: finds " in title
        assert chosen.judged_on is not None and chosen.judged_on.recall.value is not None
        assert f"finds {chosen.judged_on.recall.value:.0%}" in title


def test_the_curve_of_a_label_has_its_auc(result: EvaluationResult, frames: Frames) -> None:
    own = frames.scores.filter(pl.col("estimator") == "marginal", pl.col("label") == "refund")
    joined = frames.gold.join(own, left_on="id", right_on="record_id")
    truth = joined["labels"].list.contains("refund").to_numpy()
    p = joined["probability"].to_numpy()
    above = (p[truth][:, None] > p[~truth][None]).mean()
    assert result.plot("roc", "refund").title.startswith(f"refund: ROC AUC {np.round(above, 2):.2f} ")


def test_a_guard_that_left_its_format_has_no_table_and_no_threshold_plot(frames: Frames) -> None:
    records = frames.records.with_columns(off_language=pl.lit(0.6))
    guards = [GuardScores("smollm2", frames.scores, records)]
    made = evaluate(frames.gold, guards, config=QUICK)
    assert "thresholds are withheld" in made.summary() and "refund" not in made.summary()
    assert "<table" not in made._repr_html_()
    with pytest.raises(InputError, match=r"smollm2 has no thresholds: .*60.0% .*allow_off_format=True"):
        made.plot("threshold", "refund")
    allowed = evaluate(frames.gold, guards, config=QUICK, allow_off_format=True)
    assert "refund" in allowed.summary() and "finds" in allowed.plot("threshold", "refund").title


def test_a_wrong_plot_is_explained(result: EvaluationResult, tmp_path: Path) -> None:
    for arguments, message in (
        (("treshold",), "no plot 'treshold'; did you mean 'threshold'"),
        (("roc", "refnd"), "no roc plot of a label 'refnd'; did you mean 'refund'"),
        (("calibration", "unsafe"), "no calibration plot of a label 'unsafe'"),
    ):
        with pytest.raises(InputError, match=message):
            result.plot(*arguments)
    with pytest.raises(InputError, match="no guard 'other'; there are guard"):
        result.plot("roc", guard="other")
    with pytest.raises(InputError, match="no estimator 'joit'; did you mean 'joint'"):
        result.plot("roc", estimator="joit")
    with pytest.raises(InputError, match=r"plot.png: plots are saved as SVG \(give a name that ends in .svg\)"):
        result.plot("roc").save(tmp_path / "plot.png")


def test_without_test_records_the_plots_say_what_is_missing(frames: Frames, simple: pl.DataFrame) -> None:
    made = evaluate(simple.with_columns(split=pl.lit("calibration")), frames.scores, config=QUICK)
    with pytest.raises(InputError, match="no judged record is in the test split"):
        made.plot("threshold", "refund")
    with pytest.raises(InputError, match="there is no calibration to show"):
        made.plot("calibration")
    assert "refund" in made.summary()


def test_the_page_of_a_notebook_contains_no_markup_of_labels(frames: Frames, simple: pl.DataFrame) -> None:
    hostile = "<script>alert(1)</script>"
    gold = simple.with_columns(pl.col("labels").list.eval(pl.element().replace("refund", hostile)))
    scores = frames.scores.with_columns(pl.col("label").replace("refund", hostile))
    made = evaluate(gold, {"<b>": scores}, config=QUICK)
    page = made._repr_html_()
    assert "<script" not in page and "<b>" not in page and "&lt;script&gt;" in page
    for name in ("threshold", "calibration", "roc"):
        plot = made.plot(name, hostile)
        assert "<script" not in plot.svg and "<script" not in plot._repr_html_()


def test_every_row_of_the_frame_follows_the_model(frames: Frames, simple: pl.DataFrame) -> None:
    made = evaluate(simple.select("id", "labels"), frames.scores, config=QUICK)
    assert made.gold.schema == GoldRecord.polars_schema()

"""Labels of which a guard gives only bounds, and guards that cover different labels."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from marginalia.pipeline.annotating.suspect_labels import suspects
from marginalia.pipeline.config.evaluation import EvaluateSection
from marginalia.pipeline.core.artifacts import SCORES
from marginalia.pipeline.core.run import open_run
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.evaluation.evaluate_guards import GuardScores, evaluate
from marginalia.pipeline.evaluation.evaluate_stage import STAGE as EVALUATE
from marginalia.pipeline.evaluation.guard_tables import NO_LABELS
from marginalia.pipeline.release.card_results import result_rows
from marginalia.pipeline.release.release_tables import release_tables
from marginalia.pipeline.report.report_page import build_page
from marginalia.pipeline.report.report_stage import STAGE as REPORT
from marginalia.pipeline.report.terminal_summary import headline
from marginalia.schemas.errors import ArtifactError
from marginalia.schemas.evaluation_json import Evaluation
from marginalia.schemas.label_coverage import GuardCoverage
from marginalia.schemas.storage.files import read_model, sha256, write_frame
from marginalia.schemas.tables import LabelScore
from tests.pipeline.evaluation.test_evaluate import CONFIG, page_of, results_of
from tests.pipeline.evaluation.test_stages import make_run
from tests.pipeline.report.test_page import Page, report_data
from tests.pipeline.synthetic_run import Frames, Synthetic, make_frames


def without_probability(scores: pl.DataFrame, *labels: str) -> pl.DataFrame:
    value = pl.when(~pl.col("label").is_in(labels)).then("probability")
    return scores.with_columns(probability=value)


@pytest.fixture(scope="module")
def frames() -> Frames:
    return make_frames(Synthetic(n=120, skill=0.6))


def test_a_label_with_only_bounds_is_listed_with_their_means_and_judged_nowhere(frames: Frames) -> None:
    bounded = Frames(**{**vars(frames), "scores": without_probability(frames.scores, "return")})
    absent = Frames(**{**vars(frames), "scores": frames.scores.filter(pl.col("label") != "return")})
    results, expected = results_of(bounded), results_of(absent)
    page = page_of(results)
    final = frames.gold.filter(pl.col("status") == "final")["id"].to_list()
    own = frames.scores.filter(
        (pl.col("label") == "return") & (pl.col("estimator") == page.recommended) & pl.col("record_id").is_in(final)
    )
    (row,) = page.only_bounds
    assert (row.label, row.estimator) == ("return", page.recommended)
    assert (row.lower, row.upper) == pytest.approx((own["lower"].mean(), own["upper"].mean()))
    assert page.labels_not_scored == []
    assert page_of(expected).labels_not_scored == ["return"]
    same = {"only_bounds": [], "labels_not_scored": ["return"]}
    assert page.model_copy(update=same) == page_of(expected)
    assert (results.thresholds, results.calibrations) == (expected.thresholds, expected.calibrations)
    assert "  over 11 of 12 labels (only bounds: return)" in headline(results.evaluation)
    assert result_rows(results.evaluation)[0].labels == "over 11 of 12 labels (only bounds: return)"


def test_a_guard_with_no_probability_but_the_verdicts(frames: Frames) -> None:
    nothing = Frames(**{**vars(frames), "scores": without_probability(frames.scores, *frames.taxonomy.ids)})
    page = page_of(results_of(nothing))
    assert page.records == len(frames.records) - 4  # three without gold, one failed
    assert [row.label for row in page.only_bounds] == frames.taxonomy.ids
    assert page.estimators[0].verdict["roc_auc"].value is not None
    for estimator in page.estimators:
        assert {(metric.value, metric.reason) for metric in estimator.metrics.values()} == {(None, NO_LABELS)}
        assert (estimator.calibration.reason, estimator.thresholds.overall[0].reason) == (NO_LABELS, NO_LABELS)


COVERAGE = GuardCoverage.model_validate(
    {
        "labels": [
            {"label": "refund", "kind": "exact", "any_of": ["money_back"], "part_of": []},
            {"label": "invoice", "kind": "union", "any_of": ["bills", "receipts"], "part_of": []},
            {"label": "return", "kind": "bounds", "any_of": [], "part_of": ["goods"]},
        ],
        "not_covered": ["discount"],
        "unused": ["weather"],
    }
)


def test_the_report_shows_what_is_covered_and_how(frames: Frames) -> None:
    scores = without_probability(frames.scores.filter(pl.col("label") != "discount"), "return")
    data = report_data(Synthetic(n=120, skill=0.6), Frames(**{**vars(frames), "scores": scores}))
    (guard,) = data.evaluation.guards
    covered = data.evaluation.model_copy(update={"guards": [guard.model_copy(update={"coverage": COVERAGE})]})
    text = Page(build_page(replace(data, evaluation=covered))).text
    (row,) = guard.only_bounds
    assert f"only bounds: {row.lower:.2f} to {row.upper:.2f} on average ({row.estimator})" in text
    for expected in (
        "exact, as a union bills or receipts",
        "a part of goods",
        f"{data.label_names['discount']} not covered",
    ):
        assert expected in text, expected
    assert "No label uses these categories: weather. The verdict is the guard's own, so it includes them." in text


def two_guards(frames: Frames, first: list[str], second: list[str]) -> Evaluation:
    scored = [frames.scores.filter(pl.col("label").is_in([*labels, "unsafe"])) for labels in (first, second)]
    guards = [GuardScores(name, own, frames.records) for name, own in zip(("one", "two"), scored, strict=True)]
    config = EvaluateSection(resamples=CONFIG.resamples)
    return evaluate(frames.gold, guards, None, frames.taxonomy, config, seed=3, simulated=True).evaluation


def test_guards_are_compared_over_the_labels_that_both_cover(frames: Frames) -> None:
    labels = frames.taxonomy.ids
    evaluation = two_guards(frames, labels[:6], labels[4:])
    assert {tuple(row.labels) for row in evaluation.guard_differences} == {tuple(labels[4:6])}
    data = report_data(Synthetic(n=120, skill=0.6), frames)
    names = [data.label_names[label] for label in labels]
    text = Page(build_page(replace(data, evaluation=evaluation))).text
    assert f"two and one are compared over {names[4]} and {names[5]}. Left out: " in text
    assert f"{names[0]}, {names[1]}, {names[2]} and {names[3]} (only one) and " in text
    assert "and 2 labels that both judged" in text


def test_guards_without_a_common_label_are_not_compared_and_the_report_says_so(frames: Frames) -> None:
    labels = frames.taxonomy.ids
    evaluation = two_guards(frames, labels[:6], labels[6:])
    assert evaluation.guard_differences == []
    data = report_data(Synthetic(n=120, skill=0.6), frames)
    text = Page(build_page(replace(data, evaluation=evaluation))).text
    assert "two and one have no label in common, so they are not compared." in text


def test_a_run_whose_scores_have_only_bounds_is_evaluated_and_reported(tmp_path: Path) -> None:
    run = make_run(tmp_path, whole=True)
    write_frame(
        SCORES.of("smollm2").path(run), without_probability(SCORES.of("smollm2").read(run), "return"), LabelScore
    )
    manifest = json.loads(run.path("manifests/score.json").read_text())
    manifest["outputs"]["scores/smollm2.parquet"] = sha256(SCORES.of("smollm2").path(run))
    manifest["facts"] = {"smollm2": {"coverage": COVERAGE.model_dump()}}
    run.path("manifests/score.json").write_text(json.dumps(manifest))
    run_stage(EVALUATE, run)
    run_stage(REPORT, run)
    (guard,) = read_model(run.path("evaluation.json"), Evaluation, made_by="evaluate").guards
    assert guard.coverage == COVERAGE
    assert [row.label for row in guard.only_bounds] == ["return"]
    assert "a part of goods" in run.path("report.html").read_text()


def test_bounds_without_a_probability_are_checked(tmp_path: Path) -> None:
    run = make_run(tmp_path, whole=True)
    path = SCORES.of("smollm2").path(run)
    scores = without_probability(SCORES.of("smollm2").read(run), "return")
    reversed_bounds = pl.when(pl.col("label") == "return").then(1.0).otherwise("lower")
    write_frame(path, scores.with_columns(lower=reversed_bounds), LabelScore)
    with pytest.raises(ArtifactError, match=r"label 'return': expected .*, saw 1, 0\."):
        SCORES.of("smollm2").read(open_run(tmp_path))


def test_null_probabilities_in_a_release_and_in_an_audit(frames: Frames) -> None:
    scores = without_probability(frames.scores, "return")
    released = release_tables(frames.gold, None, {"g": scores}, None, labels=frames.taxonomy.ids)[
        "data/scores/g.parquet"
    ]
    assert released.filter(pl.col("probability").is_null())["label"].unique().to_list() == ["return"]
    marginal = scores.filter(pl.col("estimator") == "marginal")
    found = suspects(frames.gold, marginal, frames.taxonomy.ids)
    assert found.equals(suspects(frames.gold, marginal.filter(pl.col("label") != "return"), frames.taxonomy.ids))

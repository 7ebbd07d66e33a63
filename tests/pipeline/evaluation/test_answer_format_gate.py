"""A guard that left its answer format is not headlined, and its thresholds are withheld."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from marginalia.pipeline.config.evaluation import EvaluateSection
from marginalia.pipeline.evaluation.evaluate_guards import GuardScores, Results, evaluate
from marginalia.pipeline.evaluation.evaluation_warnings import evaluation_warnings
from marginalia.pipeline.release.card_charts import charts
from marginalia.pipeline.release.card_results import result_rows
from marginalia.pipeline.report.report_data import ReportData
from marginalia.pipeline.report.report_page import build_page
from marginalia.pipeline.report.terminal_summary import headline
from marginalia.schemas.evaluation_json import AnswerFormat
from marginalia.scoring.calibrated_scores import choose_maps
from marginalia.scoring.guard import load_guard
from marginalia.scoring.off_format import outside_format
from tests.pipeline.synthetic_run import Frames, Synthetic, make_frames


@pytest.fixture(scope="module")
def frames() -> Frames:
    return make_frames(Synthetic(n=60, skill=0.9))


def records_with(frames: Frames, **columns: pl.Expr) -> pl.DataFrame:
    scored = pl.col("error").is_null()
    return frames.records.with_columns(
        pl.when(scored).then(value).otherwise(None).alias(name) for name, value in columns.items()
    )


def results_of(frames: Frames, *records: pl.DataFrame, **config: object) -> Results:
    guards = [
        GuardScores(
            name,
            frames.scores,
            table,
            family="instruct",
            model="m",
            tolerance=1e-4,
            is_outside=lambda text: text != "safe",
        )
        for name, table in zip(("first", "second"), records, strict=False)
    ]
    section = EvaluateSection(resamples=100, **config)  # type: ignore[arg-type]
    return evaluate(frames.gold, guards, frames.prompts, frames.taxonomy, section, seed=5, simulated=False)


def found_in(results: Results) -> AnswerFormat:
    found = results.evaluation.guards[0].answer_format
    assert found is not None
    return found


def page_of(frames: Frames, results: Results) -> str:
    return build_page(data_of(frames, results))


def data_of(frames: Frames, results: Results) -> ReportData:
    return ReportData("run", 5, False, frames.taxonomy, results.evaluation, frames.gold)


def thresholds(results: Results, guard: str = "first") -> list[float | None]:
    estimators = results.thresholds.guards[guard].estimators.values()
    cells = [goals for one in estimators for goals in (one.overall, *one.labels.values())]
    return [goal.threshold for goals in cells for goal in goals.values()]


def test_nearly_all_mass_outside(frames: Frames, tmp_path: Path) -> None:
    """The guard that was headlined with an AUC of 0.74."""
    records = records_with(frames, off_language=pl.lit(0.9999), answer=pl.lit("I cannot help with that"))
    results = results_of(frames, records)
    found = found_in(results)
    assert found.withheld and found.limit == 0.2
    assert found.off_format == pytest.approx(0.9999)
    assert found.greedy_outside == found.greedy_answers == found.records == results.evaluation.guards[0].records
    sentence = "this guard left its answer format in 100.0% of the records (greedy answers); on average 100.0% of its"
    assert sentence in (found.reason or "")
    assert set(thresholds(results)) == {None}
    reason = results.thresholds.guards["first"].withheld or ""
    assert sentence in reason and reason.endswith("to get thresholds all the same: evaluate.allow_off_format: true")
    assert {one.withheld for one in results.calibrations.calibrations} == {reason}

    lines = "\n".join(headline(results.evaluation))
    assert sentence in lines and "AUC" not in lines and "evaluate.allow_off_format: true" in lines
    (row,) = result_rows(results.evaluation)
    assert (row.macro_roc_auc, row.micro_f1, row.false_positive_rate, row.ece) == ("—",) * 4
    assert sentence in (row.warning or "") and "first did not keep its answer format (" in (row.warning or "")
    assert [chart.path for chart in charts(data_of(frames, results)) if "first" in chart.path] == []

    page = page_of(frames, results)
    opening, _, rest = page.partition('<section id="built">')
    assert "<b>first did not keep its answer format.</b> T" + sentence[1:] in opening
    assert "the numbers below describe the rest" in opening
    assert "AUC" not in opening
    section = rest.partition('<section id="thresholds-1">')[2].partition("</section>")[0]
    assert "Thresholds are withheld: " in section and "<table>" not in section

    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(results.calibrations.model_dump(mode="json")))
    guard = load_guard("instruct", frames.taxonomy)
    notes = choose_maps(path, guard="instruct", rows=guard.rows, model="m", estimators=None).notes
    assert any(note.startswith("the maps should not be used: this guard left its answer format") for note in notes)


@pytest.mark.parametrize(("mass", "withheld"), [(0.1999, False), (0.2, False), (0.2001, True)])
def test_just_below_and_above_the_limit(frames: Frames, mass: float, withheld: bool) -> None:
    results = results_of(frames, records_with(frames, off_language=pl.lit(mass)))
    found = found_in(results)
    assert (found.withheld, found.reason is not None) == (withheld, withheld)
    assert any(value is not None for value in thresholds(results)) != withheld
    assert ("macro ROC AUC" in "\n".join(headline(results.evaluation))) != withheld
    assert ("<b>first did not keep its answer format.</b>" in page_of(frames, results)) == withheld


def test_evaluate_warns_of_a_guard_that_left_its_format(frames: Frames) -> None:
    outside = results_of(frames, records_with(frames, off_language=pl.lit(0.9), answer=pl.lit("no")))
    (warning,) = [text for text in evaluation_warnings(outside.evaluation) if "guard first" in text]
    assert warning.startswith("guard first: this guard left its answer format in 100.0% of the records")
    assert warning.endswith(
        "; its numbers are not headlined, and its thresholds are withheld; marginalia guards check shows which line of "
        "its guard file to change"
    )
    inside = results_of(frames, records_with(frames, off_language=pl.lit(0.1), answer=pl.lit("safe")))
    assert not [text for text in evaluation_warnings(inside.evaluation) if "guard first" in text]


def test_the_limit_is_the_configs_and_of_judged_records_only(frames: Frames) -> None:
    judged = frames.gold.filter(pl.col("split") == "test")["id"].to_list()
    mass = pl.when(pl.col("record_id").is_in(judged)).then(0.05).otherwise(0.9)
    records = records_with(frames, off_language=mass)
    assert found_in(results_of(frames, records)).withheld
    found = found_in(results_of(frames, records, judged_on=["test"]))
    assert not found.withheld and found.off_format == pytest.approx(0.05)
    assert found_in(results_of(frames, records, judged_on=["test"], most_off_format=0.04)).withheld


def test_the_config_can_allow_it(frames: Frames) -> None:
    records = records_with(frames, off_language=pl.lit(0.5))
    results = results_of(frames, records, allow_off_format=True)
    found = found_in(results)
    assert found.reason is not None and not found.withheld
    assert any(value is not None for value in thresholds(results))
    assert {one.withheld for one in results.calibrations.calibrations} == {None}
    lines = "\n".join(headline(results.evaluation))
    assert "macro ROC AUC" in lines and "this guard left its answer format in" in lines
    page = page_of(frames, results)
    assert "<b>first did not keep its answer format.</b>" in page and "Thresholds are withheld" not in page


@pytest.mark.parametrize(("share", "withheld"), [(0.1, False), (0.5, True)])
def test_records_that_reached_the_node_budget(frames: Frames, share: float, withheld: bool) -> None:
    number = pl.int_range(pl.len())
    stopped = pl.when(number < share * pl.len()).then(pl.lit("node_budget")).otherwise(pl.lit("tolerance"))
    results = results_of(frames, records_with(frames, stopped=stopped, unexplored=pl.lit(0.03)))
    found = found_in(results)
    unjudged = 4  # the first records are unresolved or failed
    assert found.at_node_budget == share * 60 - unjudged
    assert found.withheld == withheld
    if withheld:
        assert "of the records the search reached its node budget before it was finished" in (found.reason or "")
    shown = f"the search stopped at its limit (score.node_budget) for {found.at_node_budget}"
    assert shown in page_of(frames, results)
    finished = records_with(frames, stopped=stopped, unexplored=pl.lit(0.0))
    assert found_in(results_of(frames, finished)).at_node_budget == 0


def test_scores_of_an_older_version_do_not_say_why_searches_stopped(frames: Frames) -> None:
    found = found_in(results_of(frames, frames.records.with_columns(stopped=pl.lit(None, dtype=pl.String))))
    assert (found.at_node_budget, found.withheld) == (None, False)


def test_guards_are_only_compared_when_both_kept_their_format(frames: Frames) -> None:
    good, poor = (records_with(frames, off_language=pl.lit(mass)) for mass in (0.01, 0.9))
    assert results_of(frames, good, good).evaluation.guard_differences
    results = results_of(frames, good, poor)
    assert results.evaluation.guard_differences == []
    assert any(value is not None for value in thresholds(results, "first"))
    assert set(thresholds(results, "second")) == {None}
    opening = page_of(frames, results).partition('<section id="built">')[0]
    assert "macro ROC AUC of first" in opening and "macro ROC AUC of second" not in opening


def test_a_greedy_answer_is_compared_with_the_guards_format(frames: Frames) -> None:
    one = load_guard("instruct", frames.taxonomy)
    assert [outside_format(one, answer) for answer in ("safe", "unsafe\nS1", "unsafe", "Sure!", "")] == [
        False,
        False,
        True,
        True,
        True,
    ]
    policies = load_guard("shieldgemma")
    rows = "\n".join(f"{row}: No" for row in policies.calls)
    assert not outside_format(policies, rows)
    assert outside_format(policies, rows.replace("No", "Maybe", 1))

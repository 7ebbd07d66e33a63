"""The record browser's data: which records, in which order, with which numbers, and how large it gets."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from marginalia.pipeline.report import record_browser
from marginalia.pipeline.report.decision import chosen_threshold, precision_target
from marginalia.pipeline.report.record_browser import RecordBrowser, _decisions, shortened
from marginalia.pipeline.report.report_data import ReportData
from marginalia.pipeline.report.report_page import build_page
from tests.pipeline.report.test_page import Page, report_data
from tests.pipeline.synthetic_run import Synthetic, make_frames


@pytest.fixture(scope="module")
def data() -> ReportData:
    return report_data(Synthetic(n=160, skill=0.5))


def browser_of(data: ReportData) -> RecordBrowser:
    browser = record_browser.record_browser(data)
    assert browser is not None
    return browser


def content_of(browser: RecordBrowser) -> Any:
    return json.loads(browser.data)


def test_every_judged_record_is_there_with_its_numbers(data: ReportData) -> None:
    browser = browser_of(data)
    content = content_of(browser)
    assert browser.shown == browser.judged == len(content["records"]) == data.evaluation.guards[0].records == 156
    (guard,) = content["guards"]
    (table,) = data.tables
    best = next(row for row in data.evaluation.guards[0].estimators if row.estimator == "marginal")
    assert guard["labels"] == [data.label_names[label] for label in table.labels]
    record = content["records"][0]
    row, cells = table.ids.index(record["id"]), record["guards"][0]
    assert record["gold"] == [data.label_names[label] for label in data.gold.row(row + 4, named=True)["labels"]]
    assert cells["p"] == pytest.approx(table.scores["marginal"][row].tolist(), rel=1e-5)
    assert cells["low"] == [round(10_000 * value) for value in table.bounds["marginal"][0][row]]
    assert cells["high"] == [round(10_000 * value) for value in table.bounds["marginal"][1][row]]
    assert (cells["yes"], cells["answers"]) == (table.yes[row].tolist(), table.answers[row].tolist())
    assert cells["truth"] == "".join("01"[value] for value in table.truth[row].astype(int))
    target = precision_target(best)
    for label, threshold in zip(table.labels, guard["thresholds"], strict=True):
        chosen = chosen_threshold(best.thresholds.labels[label], target)
        assert chosen is not None and threshold == chosen.threshold


def test_misses_and_false_alarms_are_those_of_the_evaluation(data: ReportData) -> None:
    """Against the outcome on the test split, which the evaluation counts on its own."""
    best = next(row for row in data.evaluation.guards[0].estimators if row.estimator == "marginal")
    content = content_of(browser_of(data))
    in_test = [record["guards"][0] for record in content["records"] if record["split"] == "test"]
    for column, label in enumerate(data.tables[0].labels):
        chosen = chosen_threshold(best.thresholds.labels[label], precision_target(best))
        assert chosen is not None and chosen.threshold is not None and chosen.judged_on is not None
        at = float(f"{chosen.threshold:.6g}")  # as the page's script compares
        assert sum(cells["truth"][column] == "1" for cells in in_test) == chosen.judged_on.positives
        assert sum(cells["p"][column] >= at for cells in in_test) == chosen.judged_on.flagged


def test_wrong_decisions_come_first_and_the_most_confident_ones_at_the_top(data: ReportData) -> None:
    content = content_of(browser_of(data))
    thresholds = content["guards"][0]["thresholds"]
    wrong = [
        any(
            (truth == "1") != (p >= threshold)
            for truth, p, threshold in zip(
                *(record["guards"][0][key] for key in ("truth", "p")), thresholds, strict=True
            )
        )
        for record in content["records"]
    ]
    assert True in wrong and False in wrong
    assert wrong == sorted(wrong, reverse=True)


def test_a_label_with_only_bounds_is_shown_with_its_interval() -> None:
    config = Synthetic(n=120, skill=0.6)
    frames = make_frames(config)
    value = pl.when(pl.col("label") != "return").then("probability")
    bounded = replace(frames, scores=frames.scores.with_columns(probability=value))
    data = report_data(config, bounded)
    content = content_of(browser_of(data))
    (guard,) = content["guards"]
    assert (guard["ids"][-1], guard["labels"][-1], guard["thresholds"][-1]) == ("return", "Return", None)
    best = data.evaluation.guards[0].recommended
    own = bounded.scores.filter((pl.col("label") == "return") & (pl.col("estimator") == best))
    ends = {record: (low, high) for record, low, high in own.select("record_id", "lower", "upper").iter_rows()}
    labels = dict(data.gold.select("id", "labels").iter_rows())
    for record in content["records"]:
        (cells,) = record["guards"]
        assert cells["p"][-1] is None
        assert (cells["low"][-1], cells["high"][-1]) == tuple(round(10_000 * end) for end in ends[record["id"]])
        assert cells["truth"][-1] == ("1" if "return" in labels[record["id"]] else "0")
        assert len(cells["truth"]) == len(cells["p"]) == len(cells["low"]) == len(guard["ids"])


def test_capitals_are_near_the_threshold_or_have_bounds_around_it() -> None:
    kinds = record_browser._kinds(
        np.array([True, True, False, False, True]),
        np.array([False, True, True, False, True]),
        np.array([True, False, True, False, False]),
        np.array([True, True, True, True, False]),
    )
    assert "".join(kinds.tolist()) == "MfAr-"


def test_a_record_in_which_nothing_was_judged_is_left_out(data: ReportData) -> None:
    (table,) = data.tables
    judged = table.judged.copy()
    judged[3] = False
    browser = browser_of(replace(data, tables=[replace(table, judged=judged)]))
    assert browser.judged == 155
    assert table.ids[3] not in [record["id"] for record in content_of(browser)["records"]]


def test_a_long_text_is_shortened_and_says_so(data: ReportData) -> None:
    long = "x" * 1_000_000
    messages = [[{"role": "user", "content": long}, {"role": "assistant", "content": "y"}]] * data.gold.height
    gold = data.gold.with_columns(pl.Series("messages", messages, dtype=data.gold.schema["messages"]))
    changed = replace(data, gold=gold)
    browser = browser_of(changed)
    record = content_of(browser)["records"][0]
    assert record["messages"][0] == ["user", "x" * 1500 + "… (shortened; the text has 1,000,000 characters)"]
    assert browser.shortened == browser.shown
    page = build_page(changed)
    assert len(page.encode()) < 5_000_000
    assert "156 long texts are shortened" in Page(page).text


def test_shortened() -> None:
    assert shortened("abc", 3) == "abc"
    assert shortened("abcd", 3) == "abc… (shortened; the text has 4 characters)"


def test_of_many_records_the_most_informative_are_kept_and_the_page_says_so(
    data: ReportData, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = [record["id"] for record in content_of(browser_of(data))["records"]]
    monkeypatch.setattr(record_browser, "MOST_RECORDS", 20)
    browser = browser_of(data)
    assert [record["id"] for record in content_of(browser)["records"]] == everything[:20]
    assert "The 20 most informative of 156 judged records" in Page(build_page(data)).text


def test_the_size_is_limited(data: ReportData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_browser, "MOST_BYTES", 10_000)
    browser = browser_of(data)
    assert 0 < browser.shown < browser.judged
    assert len(browser.data.encode()) < 12_000


def test_without_scores_there_is_no_browser(data: ReportData) -> None:
    without = replace(data, tables=())
    assert record_browser.record_browser(without) is None
    page = Page(build_page(without))
    assert "Which records to look at" not in page.text
    assert "record-data" not in [attributes.get("id") for _, attributes in page.elements]


def test_the_first_records_are_listed_for_readers_without_scripts(data: ReportData) -> None:
    browser = browser_of(data)
    assert [record.id for record in browser.first] == [record["id"] for record in content_of(browser)["records"][:10]]
    for record in browser.first:
        (shown,) = record.guards
        assert shown[1] or shown[2]
        assert record.id in Page(build_page(data)).text


def test_with_two_guards_each_record_has_the_cells_of_those_that_judged_it(data: ReportData) -> None:
    (table,), (guard,) = data.tables, data.evaluation.guards
    evaluation = data.evaluation.model_copy(update={"guards": [guard, guard.model_copy(update={"guard": "other"})]})
    rows = slice(0, 100)
    fewer = replace(
        table,
        guard="other",
        ids=table.ids[rows],
        truth=table.truth[rows],
        judged=table.judged[rows],
        yes=table.yes[rows],
        answers=table.answers[rows],
        scores={name: values[rows] for name, values in table.scores.items()},
        bounds={name: (low[rows], high[rows]) for name, (low, high) in table.bounds.items()},
    )
    content = content_of(browser_of(replace(data, evaluation=evaluation, tables=[table, fewer])))
    assert [guard["guard"] for guard in content["guards"]] == ["smollm2", "other"]
    for record in content["records"]:
        first, second = record["guards"]
        assert second == (first if record["id"] in fewer.ids else None)
    assert len(content["records"]) == 156


def test_a_probability_of_practically_0_is_never_near_a_threshold(data: ReportData) -> None:
    (table,) = data.tables
    scores = np.zeros_like(table.scores["marginal"])
    scores[0] = 0.02
    zero = replace(table, scores={**table.scores, "marginal": scores}, bounds={})
    guard = data.evaluation.guards[0]
    best = next(row for row in guard.estimators if row.estimator == "marginal")
    low = [row.model_copy(update={"threshold": 0.023}) for row in best.thresholds.overall]
    thresholds = best.thresholds.model_copy(update={"labels": dict.fromkeys(table.labels, low)})
    changed = best.model_copy(update={"thresholds": thresholds})
    estimators = [changed if row is best else row for row in guard.estimators]
    kinds = _decisions(zero, guard.model_copy(update={"estimators": estimators}), changed).kinds
    near = np.char.isupper(kinds)
    assert near[0].all() and not near[1:].any()

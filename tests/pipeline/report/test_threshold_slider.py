"""The data of the sliders against counts by hand, and the sliders in a browser against the evaluation and scipy."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from marginalia.pipeline.evaluation.guard_tables import GuardTable
from marginalia.pipeline.report import as_text, threshold_slider
from marginalia.pipeline.report.report_data import ReportData
from marginalia.pipeline.report.report_page import build_page
from marginalia.pipeline.report.threshold_slider import MOST_STEPS, RECALL_GOAL, slider_steps, threshold_sliders
from marginalia.schemas.evaluation_json import UNSAFE, Outcome
from marginalia.schemas.thresholds_json import ThresholdsFile
from marginalia.scoring.measures.intervals import clopper_pearson
from marginalia.scoring.measures.thresholds import outcome
from tests.pipeline.partly_judged import SYNTHETIC, masked_frames
from tests.pipeline.report.test_page import Page, report_data
from tests.pipeline.report.test_page_in_browser import browser  # noqa: F401 - a fixture
from tests.pipeline.report.test_page_in_browser import pytestmark as needs_browser

P = np.array([0.1, 0.4, 0.4, 0.9])


@pytest.fixture(scope="module")
def data() -> ReportData:
    """160 records, some of them partly judged."""
    return report_data(SYNTHETIC, masked_frames())


def encoded(data: ReportData) -> dict[str, Any]:
    sliders = threshold_sliders(data)
    assert sliders is not None
    return dict(json.loads(sliders.data))


def test_steps_are_the_scores_and_the_chosen_thresholds() -> None:
    steps, grid = slider_steps(P, [0.65])
    assert (steps.tolist(), grid) == ([0.0, 0.1, 0.4, 0.65, 0.9, 1.0], 0)


def test_with_many_scores_steps_are_a_grid() -> None:
    p = np.random.default_rng(1).random(MOST_STEPS + 1)
    steps, grid = slider_steps(p, [0.12345])
    assert (grid, len(steps)) == (1_000, 1_002)
    assert {0.0, 0.123, 0.12345, 0.124, 1.0} <= set(steps.tolist())


def judged_at(data: ReportData, label: str, threshold: float) -> Outcome:
    """The outcome on the judged test records, from the table of the evaluation."""
    table: GuardTable = data.tables[0]
    estimator = data.evaluation.guards[0].recommended
    assert estimator is not None
    if label == UNSAFE:
        rows = (table.splits == "test") & table.verdict_judged
        truth, p = table.any_label[rows], table.verdicts[estimator][rows]
    else:
        column = table.labels.index(label)
        rows = (table.splits == "test") & table.judged[:, column]
        truth, p = table.truth[rows, column], table.scores[estimator][rows, column]
    return outcome(truth, p, threshold, split="test", confidence=0.95)


def test_every_step_has_the_counts_of_the_evaluation(data: ReportData) -> None:
    (guard,) = encoded(data)["guards"]
    best = next(e for e in data.evaluation.guards[0].estimators if e.estimator == guard["estimator"])
    assert [label["id"] for label in guard["labels"]] == [*data.taxonomy.ids, UNSAFE]
    for label in guard["labels"]:
        for step, flagged, right in zip(label["thresholds"], label["flagged"], label["right"], strict=True):
            judged = judged_at(data, label["id"], step)
            assert (judged.n, judged.positives, judged.flagged) == (label["n"], label["positives"], flagged)
            assert right == round((judged.recall.value or 0) * judged.positives)
        chosen = best.thresholds.labels[label["id"]][0]
        assert chosen.judged_on is not None and chosen.threshold in label["thresholds"]
        assert label["flagged"][label["thresholds"].index(chosen.threshold)] == chosen.judged_on.flagged


def test_without_scripts_the_page_has_a_table_of_thresholds(data: ReportData) -> None:
    page = Page(build_page(data))
    label = data.taxonomy.ids[0]
    for step in (0.05, 0.5, 0.95):
        judged = judged_at(data, label, step)
        right = round((judged.recall.value or 0) * judged.positives)
        wrong, missed = judged.flagged - right, judged.positives - right
        row = f"{step:.2f} {right} {wrong} {missed} {judged.n - judged.positives - wrong} "
        table = page.text.partition(f"{data.label_names[label]} at fixed thresholds")[2]
        assert row + as_text.share(judged.precision) in table
    assert f"{judged.n} judged test records, {as_text.plural(judged.positives, 'positive')}." in page.text


def test_the_page_says_which_threshold_finds_four_fifths_of_a_label(data: ReportData) -> None:
    sliders = threshold_sliders(data)
    assert sliders is not None
    page = " ".join(Page(build_page(data)).text.split())
    (guard,) = sliders.guards
    for shown, label in zip(guard.labels, encoded(data)["guards"][0]["labels"], strict=True):
        assert shown.finds is not None
        at, found = shown.finds
        assert found.recall.value is not None and found.recall.value >= RECALL_GOAL
        higher = [step for step in label["thresholds"] if step > at]
        assert higher and (judged_at(data, label["id"], higher[0]).recall.value or 0) < RECALL_GOAL
        recall, precision = as_text.share(found.recall), as_text.share(found.precision)
        sentence = f"at least 80 % of them is {as_text.threshold(at)}: recall {recall}, precision {precision}."
        assert sentence in page


def test_there_are_no_sliders_without_scores_or_for_a_withheld_guard(data: ReportData) -> None:
    assert threshold_sliders(replace(data, tables=[])) is None
    assert 'id="choose"' not in build_page(replace(data, tables=[]))
    (guard,) = data.evaluation.guards
    assert guard.answer_format is not None
    withheld = guard.answer_format.model_copy(update={"withheld": True, "reason": "it left its format"})
    evaluation = data.evaluation.model_copy(update={"guards": [guard.model_copy(update={"answer_format": withheld})]})
    assert threshold_sliders(replace(data, evaluation=evaluation)) is None


def cells(panel: WebElement) -> dict[str, str]:
    found = panel.find_elements(By.CSS_SELECTOR, "[data-cell]")
    return {str(cell.get_attribute("data-cell")): cell.text for cell in found}


def write(field: WebElement, text: str) -> None:
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(text)


def opened(browser: webdriver.Chrome, path: Path, fragment: str = "") -> list[WebElement]:  # noqa: F811
    browser.get("about:blank")
    browser.get(path.as_uri() + fragment)
    browser.execute_script("document.querySelectorAll('.cutoff').forEach(panel => panel.open = true)")
    return browser.find_elements(By.CSS_SELECTOR, "[data-slider]")


def expected(data: ReportData, label: str, threshold: float) -> dict[str, str]:
    judged = judged_at(data, label, threshold)
    right = round((judged.recall.value or 0) * judged.positives)
    low, high = clopper_pearson(judged.flagged, judged.n, confidence=0.95)
    load = judged.recall.model_copy(
        update={"value": judged.flagged / judged.n, "low": low, "high": high, "n": judged.n}
    )
    wrong, missed = judged.flagged - right, judged.positives - right
    return {
        "tp": str(right),
        "fp": str(wrong),
        "fn": str(missed),
        "tn": str(judged.n - judged.positives - wrong),
        "precision": as_text.share(judged.precision),
        "recall": as_text.share(judged.recall),
        "load": as_text.share(load),
    }


@needs_browser[0]
@needs_browser[1]
def test_the_slider_shows_the_numbers_of_the_evaluation(
    data: ReportData,
    browser: webdriver.Chrome,  # noqa: F811
    tmp_path: Path,
) -> None:
    path = tmp_path / "report.html"
    path.write_text(build_page(data), encoding="utf-8")
    panels = opened(browser, path)
    (guard,) = encoded(data)["guards"]
    assert len(panels) == len(guard["labels"])
    for index in (0, 3, len(panels) - 1):
        panel, label = panels[index], guard["labels"][index]
        assert cells(panel).items() >= expected(data, label["id"], label["start"]).items()
        number = panel.find_element(By.CSS_SELECTOR, "[type=number]")
        for threshold in (0, 0.05, 0.31, 0.5, 0.77, 1):
            write(number, str(threshold))
            assert cells(panel).items() >= expected(data, label["id"], threshold).items(), threshold
        write(number, "0.5")
        slider = panel.find_element(By.CSS_SELECTOR, "[type=range]")
        position = int(str(slider.get_attribute("value")))
        slider.send_keys(Keys.ARROW_RIGHT)
        step = label["thresholds"][position + 1]
        assert cells(panel).items() >= expected(data, label["id"], step).items()
        assert float(str(number.get_attribute("value"))) == pytest.approx(step, rel=1e-5)
        assert as_text.threshold(step) in panel.find_element(By.TAG_NAME, "summary").text
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


@needs_browser[0]
@needs_browser[1]
def test_all_sliders_are_set_to_find_a_share_of_each_label(
    data: ReportData,
    browser: webdriver.Chrome,  # noqa: F811
    tmp_path: Path,
) -> None:
    path = tmp_path / "report.html"
    path.write_text(build_page(data), encoding="utf-8")
    panels = opened(browser, path)
    sliders = threshold_sliders(data)
    assert sliders is not None
    labels = encoded(data)["guards"][0]["labels"]
    browser.find_element(By.CSS_SELECTOR, "[data-find]").click()
    for panel, label, shown in zip(panels, labels, sliders.guards[0].labels, strict=True):
        assert shown.finds is not None
        assert cells(panel).items() >= expected(data, label["id"], shown.finds[0]).items()
    write(browser.find_element(By.CSS_SELECTOR, "[data-recall]"), "100")
    browser.find_element(By.CSS_SELECTOR, "[data-find]").click()
    assert {cells(panel)["fn"] for panel in panels} == {"0"}
    shared = browser.current_url.partition("#")[2]
    assert {cells(panel)["fn"] for panel in opened(browser, path, f"#{shared}")} == {"0"}


@needs_browser[0]
@needs_browser[1]
def test_the_cost_the_link_and_the_file(data: ReportData, browser: webdriver.Chrome, tmp_path: Path) -> None:  # noqa: F811
    path = tmp_path / "report.html"
    path.write_text(build_page(data), encoding="utf-8")
    panel, *_ = opened(browser, path)
    write(panel.find_element(By.CSS_SELECTOR, "[type=number]"), "0.31")
    write(browser.find_element(By.CSS_SELECTOR, "[data-cost=miss]"), "5")
    write(browser.find_element(By.CSS_SELECTOR, "[data-cost=alarm]"), "0.5")
    shown = cells(panel)
    missed, wrong, n = int(shown["fn"]), int(shown["fp"]), judged_at(data, data.taxonomy.ids[0], 0.31).n
    ends = [
        n * (5 * low_or_high[0] + 0.5 * low_or_high[1])
        for low_or_high in zip(*(clopper_pearson(k, n, confidence=0.975) for k in (missed, wrong)), strict=True)
    ]
    total = 5 * missed + 0.5 * wrong
    values = [float(value) for value in shown["cost"].replace("(", "").replace(")", "").replace("–", " ").split()]
    assert values == pytest.approx([total, *ends], rel=0.006)

    fragment = browser.current_url.partition("#")[2]
    copied = opened(browser, path, f"#{fragment}")[0]
    assert cells(copied) == shown
    assert cells(opened(browser, path)[0]) != shown

    opened(browser, path, f"#{fragment}")
    allowed = {"behavior": "allow", "downloadPath": str(tmp_path)}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", allowed)
    browser.find_element(By.CSS_SELECTOR, "[data-download]").click()
    file = tmp_path / "thresholds.json"
    for _ in range(100):
        if file.exists():
            break
        time.sleep(0.1)
    thresholds = ThresholdsFile.model_validate_json(file.read_text(encoding="utf-8"))
    (guard,) = encoded(data)["guards"]
    of_guard = thresholds.guards[guard["guard"]]
    chosen = of_guard.estimators[str(of_guard.recommended)].labels
    starts = {label["id"]: label["start"] for label in guard["labels"]}
    assert {label: goals["chosen"].threshold for label, goals in chosen.items()} == {
        **starts,
        data.taxonomy.ids[0]: 0.31,
    }
    assert thresholds.chosen_on.startswith("by hand")


@needs_browser[0]
@needs_browser[1]
def test_with_a_grid_a_typed_threshold_is_rounded_up_and_counted_exactly(
    data: ReportData,
    browser: webdriver.Chrome,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threshold_slider, "MOST_STEPS", 10)
    label = encoded(data)["guards"][0]["labels"][0]
    assert label["grid"] == 1_000 and label["start"] in label["thresholds"]
    (tmp_path / "report.html").write_text(build_page(data), encoding="utf-8")
    panel = opened(browser, tmp_path / "report.html")[0]
    assert cells(panel).items() >= expected(data, label["id"], label["start"]).items()
    write(panel.find_element(By.CSS_SELECTOR, "[type=number]"), "0.4321")
    assert cells(panel).items() >= expected(data, label["id"], 0.433).items()
    assert "0.433: precision" in panel.find_element(By.TAG_NAME, "summary").text


@needs_browser[0]
@needs_browser[1]
def test_intervals_in_the_page_are_those_of_scipy(data: ReportData, browser: webdriver.Chrome, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "report.html").write_text(build_page(data), encoding="utf-8")
    browser.get((tmp_path / "report.html").as_uri())
    cases = [(0, 1), (1, 1), (0, 63), (63, 63), (31, 63), (1, 5_000), (4_999, 5_000), (2_500, 5_000), (70_000, 100_000)]
    for confidence in (0.8, 0.95, 0.975, 0.999):
        script = "return arguments[0].map(([hits, n]) => clopperPearson(hits, n, arguments[1]))"
        for (hits, n), ends in zip(cases, browser.execute_script(script, cases, confidence), strict=True):
            assert ends == pytest.approx(clopper_pearson(hits, n, confidence=confidence), abs=1e-9, rel=1e-7)


@needs_browser[0]
@needs_browser[1]
def test_a_wrong_field_is_refused_and_the_recommended_thresholds_come_back(
    data: ReportData,
    browser: webdriver.Chrome,  # noqa: F811
    tmp_path: Path,
) -> None:
    path = tmp_path / "report.html"
    path.write_text(build_page(data), encoding="utf-8")
    panels = opened(browser, path)
    labels = encoded(data)["guards"][0]["labels"]
    start = [cells(panel) for panel in panels]
    recall, find = (browser.find_element(By.CSS_SELECTOR, name) for name in ("[data-recall]", "[data-find]"))
    problem = browser.find_element(By.CSS_SELECTOR, "[data-problem]")
    lines = [panel.find_element(By.CSS_SELECTOR, "[data-finds]") for panel in panels]
    for wrong in ("150", "0", "-3"):
        write(recall, wrong)
        find.click()
        assert problem.text == "“Find at least” must be from 1 to 100 %. Nothing was changed."
        assert [cells(panel) for panel in panels] == start
        assert all("at least 80" in line.text for line in lines)
    write(recall, "95")
    assert problem.text == ""
    find.click()
    moved = browser.find_element(By.CSS_SELECTOR, "[data-thresholds-moved]")
    assert moved.is_displayed()
    for panel, label, line in zip(panels, labels, lines, strict=True):
        at = max(step for step, right in zip(label["thresholds"], label["right"], strict=True)
                 if right >= 0.95 * label["positives"])  # fmt: skip
        judged = judged_at(data, label["id"], at)
        assert cells(panel).items() >= expected(data, label["id"], at).items()
        assert line.text.replace("\u00a0", " ").strip(" ·") == (
            f"finds at least 95 % at {as_text.threshold(at)}: {as_text.share(judged.recall)}, chosen on "
            "these same records"
        )
    browser.find_element(By.CSS_SELECTOR, "[data-reset]").click()
    assert [cells(panel) for panel in panels] == start
    assert not moved.is_displayed() and browser.current_url.endswith("#choose")
    write(browser.find_element(By.CSS_SELECTOR, "[data-cost=miss]"), "-3")
    assert problem.text == "A miss must cost 0 or more. Nothing was changed."
    assert [cells(panel) for panel in panels] == start

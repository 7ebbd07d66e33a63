"""Reading, printing and browsing the report in a real browser."""

from __future__ import annotations

import base64
import importlib.util
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from selenium import webdriver
from selenium.webdriver.common.keys import Keys

from marginalia.pipeline.report.decision import chosen_threshold, precision_target
from marginalia.pipeline.report.report_data import ReportData
from marginalia.pipeline.report.report_page import build_page
from tests.pipeline.report.test_page import HOSTILE, report_data
from tests.pipeline.report.test_page_in_browser import browser  # noqa: F401 - a fixture
from tests.pipeline.report.test_page_in_browser import pytestmark as needs_browser
from tests.pipeline.synthetic_run import Synthetic, make_frames

AXE = importlib.util.find_spec("axe_playwright_python")
A4 = (680, 1001)  # CSS pixels inside the margins of the print style
OPEN_ALL = "document.querySelectorAll('details').forEach(item => item.open = true)"
CUTOFFS = (  # for each table of fixed thresholds, those that are shown, in hundredths
    "return [...document.querySelectorAll('.cutoff table')].map(table => [...table.tBodies[0].rows]"
    ".filter(row => row.getClientRects().length).map(row => Math.round(100 * Number(row.cells[0].textContent))))"
)
pytestmark = needs_browser


@pytest.fixture(scope="module")
def data() -> ReportData:
    return report_data(Synthetic(n=160, skill=0.5))


@pytest.fixture(scope="module")
def page(data: ReportData, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(build_page(data), encoding="utf-8")
    return path.as_uri()


def show(browser: webdriver.Chrome, page: str, width: int = 1366, *, media: str = "", scheme: str = "light") -> None:  # noqa: F811
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 800}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
    browser.get(page)


def press(browser: webdriver.Chrome, keys: str) -> None:  # noqa: F811
    browser.switch_to.active_element.send_keys(keys)


def focused(browser: webdriver.Chrome, what: str = "getAttribute('aria-label')") -> Any:  # noqa: F811
    return browser.execute_script(f"return document.activeElement.{what}")


def status(browser: webdriver.Chrome) -> str:  # noqa: F811
    return str(browser.execute_script("return document.querySelector('#record-browser .status').textContent"))


def choose(browser: webdriver.Chrome, name: str, value: str) -> None:  # noqa: F811
    browser.execute_script(
        "const field = document.querySelector(`[data-filter=${arguments[0]}]`); field.value = arguments[1];"
        "field.dispatchEvent(new Event(arguments[0] === 'text' ? 'input' : 'change'))",
        name,
        value,
    )


@pytest.mark.skipif(AXE is None, reason="make setup-dev installs axe-playwright-python")
@pytest.mark.parametrize(("width", "scheme"), [(1366, "light"), (390, "dark")])
def test_axe_finds_no_violation(
    browser: webdriver.Chrome,  # noqa: F811
    page: str,
    width: int,
    scheme: str,
) -> None:
    assert AXE is not None and AXE.submodule_search_locations is not None
    show(browser, page, width, scheme=scheme)
    browser.set_script_timeout(180)  # it tests every cell of every table
    browser.execute_script(OPEN_ALL)
    browser.execute_script((Path(AXE.submodule_search_locations[0]) / "axe.min.js").read_text(encoding="utf-8"))
    violations = browser.execute_async_script(
        "axe.run(document).then(results => arguments[arguments.length - 1]("
        "results.violations.map(item => [item.id, ...item.nodes.slice(0, 3).map(node => node.html.slice(0, 200))])))"
    )
    assert violations == []


def test_headings_are_nested_and_the_page_has_one_main_landmark(browser: webdriver.Chrome, page: str) -> None:  # noqa: F811
    show(browser, page)
    levels = browser.execute_script(
        "return [...document.querySelectorAll('h1, h2, h3, h4, h5, h6')].map(item => Number(item.tagName[1]))"
    )
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert browser.execute_script("return document.querySelectorAll('main').length") == 1


@pytest.mark.parametrize("width", [390, 1100, 1366])
def test_the_contents_stay_in_view_and_nothing_is_wider_than_the_page(
    browser: webdriver.Chrome,  # noqa: F811
    page: str,
    width: int,
) -> None:
    show(browser, page, width)
    browser.execute_script(OPEN_ALL)
    browser.execute_script("document.querySelector('#cost').scrollIntoView()")
    top, bottom = browser.execute_script(
        "const box = document.querySelector('nav.contents').getBoundingClientRect(); return [box.top, box.bottom]"
    )
    assert top == 0 and 30 < bottom <= 900
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script("return document.querySelector('#cost h2').getBoundingClientRect().top") >= (
        0 if width > 1344 else bottom - 64  # the margin of the heading is above it
    )


def test_print_cuts_no_figure_and_leaves_out_what_needs_a_screen(
    browser: webdriver.Chrome,  # noqa: F811
    page: str,
) -> None:
    show(browser, page, A4[0], media="print")
    figures = browser.execute_script(
        "return [...document.querySelectorAll('figure')].map(figure => { const box = figure.getBoundingClientRect();"
        "const texts = [...figure.querySelectorAll('svg.wide text')].map(t => t.getBoundingClientRect());"
        "return [getComputedStyle(figure).breakInside, box.height, Math.max(...texts.map(t => t.right))] })"
    )
    assert len(figures) >= 9
    for break_inside, height, right in figures:
        assert break_inside == "avoid"
        assert height < A4[1]
        assert 0 < right <= A4[0]
    shown = browser.execute_script(
        "return arguments[0].filter(name => "
        "[...document.querySelectorAll(name)].some(item => item.getClientRects().length))",
        [".contents", "#record-browser", ".figure-links", "details:not([open], .cutoff)", "[data-with-script]"],
    )
    assert shown == []
    assert browser.execute_script(CUTOFFS) == [[1, 10, 20, 30, 50, 70, 90]] * 13
    fits = browser.execute_script(
        "return [...document.querySelectorAll('.cutoff .scroll')].map(box => box.scrollWidth <= box.clientWidth)"
    )
    assert fits == [True] * 13
    section = browser.execute_script("return document.querySelector('#choose').getBoundingClientRect().height")
    assert section < 1.7 * A4[1]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    options = {"preferCSSPageSize": True, "printBackground": True}
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", options)["data"])
    pages = re.findall(rb"/Type /Page\b(?!s)", pdf)
    boxes = {tuple(float(end) for end in box.split()) for box in re.findall(rb"/MediaBox \[([^]]*)\]", pdf)}
    assert 10 <= len(pages) <= 30
    assert [[round(end) for end in box] for box in boxes] == [[0, 0, 595, 842]]


def test_on_screen_all_fixed_thresholds_are_shown_without_scripts(browser: webdriver.Chrome, page: str) -> None:  # noqa: F811
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    show(browser, page)
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    browser.execute_script(OPEN_ALL)
    assert browser.execute_script(CUTOFFS) == [[0, 1, *range(5, 100, 5)]] * 13


def test_without_scripts_a_sentence_says_where_the_worst_records_are(browser: webdriver.Chrome, page: str) -> None:  # noqa: F811
    shown = "return ['#record-browser', '[data-without-script]'].map(name => document.querySelector(name).hidden)"
    show(browser, page)
    assert browser.execute_script(shown) == [False, True]
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.get(page)
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert browser.execute_script(shown) == [True, False]


def test_records_are_browsed_by_keyboard(browser: webdriver.Chrome, page: str) -> None:  # noqa: F811
    show(browser, page)
    browser.execute_script("document.querySelector('#record-browser > summary').focus()")
    press(browser, Keys.ENTER)
    assert status(browser) == "Records 1 to 10 of 156 that match"
    press(browser, "j")
    assert focused(browser) == "Record 1 of 156"
    press(browser, "j")
    assert focused(browser) == "Record 2 of 156"
    press(browser, "k")
    assert focused(browser) == "Record 1 of 156"
    press(browser, "n")
    assert focused(browser) == "Record 11 of 156"
    press(browser, "k")  # the last record of the page before
    assert focused(browser) == "Record 10 of 156"
    press(browser, "j")
    assert focused(browser) == "Record 11 of 156"
    press(browser, "/")
    assert focused(browser, "dataset.filter") == "text"
    press(browser, "R00012")  # in the search field, letters are text
    assert status(browser) == "Records 1 to 1 of 1 that match"
    assert browser.execute_script("return document.querySelector('#record-browser .meta code').textContent") == "r00012"
    press(browser, "no such record")
    assert status(browser) == "No record matches"


def test_filters_by_kind_and_label(browser: webdriver.Chrome, page: str, data: ReportData) -> None:  # noqa: F811
    show(browser, page)
    browser.execute_script("document.querySelector('#record-browser').open = true")
    (table,) = data.tables
    best = next(row for row in data.evaluation.guards[0].estimators if row.estimator == "marginal")
    label, truth = table.labels[0], table.truth[:, 0]
    chosen = chosen_threshold(best.thresholds.labels[label], precision_target(best))
    assert chosen is not None and chosen.threshold is not None
    flagged = table.scores["marginal"][:, 0] >= chosen.threshold
    expected = {
        "m": truth & ~flagged,
        "a": ~truth & flagged,
        "f": truth & flagged,
        "wrong": truth != flagged,
        "": truth | flagged,
    }
    choose(browser, "label", "0")
    for kind, selected in expected.items():
        choose(browser, "kind", kind)
        n = int(np.count_nonzero(selected))
        assert status(browser).endswith(f" of {n} that match")
    choose(browser, "kind", "m")
    rows = browser.execute_script(
        "return [...document.querySelectorAll('#record-browser article')].map(item => "
        "[...item.querySelectorAll('.kind-m th')].map(cell => cell.textContent))"
    )
    assert rows and all(data.label_names[label] in names for names in rows)


def state(browser: webdriver.Chrome) -> str:  # noqa: F811
    return str(browser.execute_script("return document.querySelector('#record-browser .state').textContent"))


def test_the_records_follow_the_sliders(browser: webdriver.Chrome, page: str, data: ReportData) -> None:  # noqa: F811
    show(browser, page)
    browser.execute_script("document.querySelector('#record-browser').open = true")
    assert state(browser).startswith("Decided at the recommended thresholds.")
    (table,) = data.tables
    truth, p = table.truth[:, 0], table.scores["marginal"][:, 0]
    low, high = (ends[:, 0] for ends in table.bounds["marginal"])
    choose(browser, "label", "0")
    test_scores = np.sort(p[table.splits == "test"])
    for threshold in (0.5, 0.31, 0.023, float(test_scores[-3])):  # the last one is a score, which must be flagged
        browser.execute_script(
            "const field = document.querySelector('[data-slider=\"0\"] [type=number]'); field.value = arguments[0];"
            "field.dispatchEvent(new Event('input'))",
            threshold,
        )
        browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
        name = data.label_names[table.labels[0]]
        assert state(browser).startswith(f"Decided at the thresholds that you chose: {name} {threshold:.3f}; the other")
        flagged = p >= threshold
        near = ((np.abs(p - threshold) <= 0.05) | ((low < threshold) & (threshold <= high))) & (high >= 0.01)
        for kind, selected in {"m": truth & ~flagged, "a": ~truth & flagged, "near": near}.items():
            choose(browser, "kind", kind)
            n = int(np.count_nonzero(selected))
            assert status(browser).endswith(f" of {n} that match" if n else "No record matches"), (threshold, kind)


def test_a_label_with_only_bounds_has_an_interval_and_no_decision(browser: webdriver.Chrome, tmp_path: Path) -> None:  # noqa: F811
    config = Synthetic(n=120, skill=0.6)
    frames = make_frames(config)
    value = pl.when(pl.col("label") != "return").then("probability")
    data = report_data(config, replace(frames, scores=frames.scores.with_columns(probability=value)))
    (tmp_path / "report.html").write_text(build_page(data), encoding="utf-8")
    show(browser, (tmp_path / "report.html").as_uri())
    browser.execute_script("document.querySelector('#record-browser').open = true")
    choose(browser, "label", str(len(data.taxonomy.ids) - 1))
    rows = browser.execute_script(
        "return [...document.querySelectorAll('#record-browser article')].map(item => "
        "[...item.querySelector('.kind-b').cells].slice(0, 4).map(cell => cell.textContent))"
    )
    final = data.gold.filter((pl.col("status") == "final") & pl.col("labels").list.contains("return"))
    judged = set(final["id"]) & set(data.tables[0].ids)
    assert status(browser).endswith(f" of {len(judged)} that match")
    assert rows
    for name, decision, interval, threshold in rows:
        assert (name, decision, threshold) == ("Return", "only bounds", "—")
        assert re.fullmatch(r"[01]\.\d{3} to [01]\.\d{3}", interval)
    for kind in ("m", "a", "near", "wrong"):
        choose(browser, "kind", kind)
        assert status(browser) == "No record matches"


def test_hostile_records_stay_text(browser: webdriver.Chrome, tmp_path: Path) -> None:  # noqa: F811
    path = tmp_path / "report.html"
    texts = [*HOSTILE, "</script><script>document.title = 'run'</script>", "\u202egnp.exe", "<b>bold</b>" * 9]
    path.write_text(build_page(report_data(Synthetic(n=48, texts=texts))), encoding="utf-8")
    show(browser, path.as_uri(), 390)
    title = browser.title
    browser.execute_script(OPEN_ALL)
    shown: set[str] = set()
    for _ in range(5):
        shown |= set(
            browser.execute_script(
                "return [...document.querySelectorAll('#record-browser blockquote')].map(item => item.textContent)"
            )
        )
        browser.execute_script("document.querySelector('[data-page=\"1\"]').click()")
    assert shown == {text.replace("\u202e", "") for text in texts}
    tags = browser.execute_script(
        "return [...new Set([...document.querySelectorAll('#record-browser *')].map(item => item.tagName))]"
    )
    assert not {"SCRIPT", "IMG", "SVG", "A", "STYLE"} & {tag.upper() for tag in tags}
    assert browser.title == title
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


def many_records(data: ReportData, copies: int) -> ReportData:
    """The same judged records many times, under other ids and with longer texts."""
    (table,) = data.tables
    gold, ids = [], []
    text = "A message of usual length. " * 30
    for copy in range(copies):
        ids += [f"{name}-{copy}" for name in table.ids]
        longer = [[{"role": "user", "content": f"{copy}: {text}"}]] * data.gold.height
        gold.append(
            data.gold.with_columns(
                pl.format("{}-" + str(copy), "id").alias("id"),
                pl.Series("messages", longer, dtype=data.gold.schema["messages"]),
            )
        )

    def many(values: Any) -> Any:
        return np.concatenate([values] * copies)

    larger = replace(
        table,
        ids=ids,
        splits=many(table.splits),
        any_label=many(table.any_label),
        verdict_judged=many(table.verdict_judged),
        soft=many(table.soft),
        verdicts={name: many(values) for name, values in table.verdicts.items()},
        truth=many(table.truth),
        judged=many(table.judged),
        yes=many(table.yes),
        answers=many(table.answers),
        scores={name: many(values) for name, values in table.scores.items()},
        bounds={name: (many(low), many(high)) for name, (low, high) in table.bounds.items()},
    )
    return replace(data, gold=pl.concat(gold), tables=[larger])


def test_a_page_with_2000_records_is_small_and_opens_within_a_second(
    browser: webdriver.Chrome,  # noqa: F811
    data: ReportData,
    tmp_path: Path,
) -> None:
    path = tmp_path / "report.html"
    path.write_text(build_page(many_records(data, 14)), encoding="utf-8")
    assert path.stat().st_size < 5_000_000
    seconds = []
    for _ in range(3):  # the machine may be busy
        show(browser, path.as_uri())
        loaded = browser.execute_script("return performance.getEntriesByType('navigation')[0].loadEventEnd")
        opened = browser.execute_async_script(
            "const start = performance.now(), panel = document.querySelector('#record-browser');"
            "panel.addEventListener('toggle', () => requestAnimationFrame(() => "
            "arguments[0](performance.now() - start))); panel.open = true"
        )
        seconds.append((loaded / 1000, opened / 1000))
    assert status(browser) == "Records 1 to 10 of 2,000 that match"
    assert min(loaded for loaded, _ in seconds) < 1
    assert min(opened for _, opened in seconds) < 1


CUT = """
return [...document.querySelectorAll('.scroll')].filter(box => box.clientWidth && box.scrollWidth > box.clientWidth + 1)
  .map(box => [box.textContent.slice(0, 40), getComputedStyle(box, '::before').content])
"""
CAPTIONS = """
return [...document.querySelectorAll('caption')].filter(caption => {
  const text = document.createRange();
  text.selectNodeContents(caption);
  return text.getBoundingClientRect().right > caption.closest('.scroll').getBoundingClientRect().right + 1;
}).map(caption => caption.textContent)
"""


@pytest.mark.parametrize("width", [390, 1280])
def test_no_table_is_cut_without_a_line_that_says_so(browser: webdriver.Chrome, page: str, width: int) -> None:  # noqa: F811
    show(browser, page, width)
    browser.execute_script(OPEN_ALL)
    browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
    cut = browser.execute_script(CUT)
    assert cut or width == 1280
    assert {hint for _, hint in cut} <= {'"Scroll sideways: there are more columns →"'}
    assert browser.execute_script(CAPTIONS) == []
    menu = "const menu = document.querySelector('nav.contents'); return menu.scrollWidth <= menu.clientWidth"
    assert browser.execute_script(menu) == (width == 1280)


def test_a_record_of_the_table_is_opened_in_the_browser(browser: webdriver.Chrome, page: str) -> None:  # noqa: F811
    show(browser, page)
    link = "const link = document.querySelectorAll('[data-record]')[2]; link.click(); return link.textContent"
    record = browser.execute_script(link)
    browser.execute_async_script("setTimeout(arguments[0], 300)")
    assert status(browser) == "Records 1 to 1 of 1 that match"
    shown = "return document.querySelector('#record-browser .meta code').textContent"
    assert browser.execute_script(shown) == record

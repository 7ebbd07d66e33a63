"""Reading and printing the compare page in a real browser."""

from __future__ import annotations

import base64
import re
from itertools import pairwise
from pathlib import Path

import pytest
from selenium import webdriver

from marginalia.pipeline.compare.compare_runs import compare
from marginalia.pipeline.compare.comparison_page import build_comparison
from tests.pipeline.compare.two_guards import loaded, write_two_guards
from tests.pipeline.report.test_page_in_browser import browser  # noqa: F401 - a fixture
from tests.pipeline.report.test_page_in_browser import pytestmark as needs_browser
from tests.pipeline.report.test_reading_in_browser import A4, AXE, show

pytestmark = needs_browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("page")
    sides = loaded(write_two_guards(folder / "run", n=200, resamples=100, width=0.02))
    names = {label.id: label.name for label in sides[0].run.taxonomy.labels}
    path = folder / "compare.html"
    path.write_text(build_comparison(compare(*sides), names), encoding="utf-8")
    return path.as_uri()


@pytest.mark.skipif(AXE is None, reason="make setup-dev installs axe-playwright-python")
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_axe_finds_no_violation(
    browser: webdriver.Chrome,  # noqa: F811
    page: str,
    width: int,
    scheme: str,
) -> None:
    assert AXE is not None and AXE.submodule_search_locations is not None
    show(browser, page, width, scheme=scheme)
    browser.set_script_timeout(180)  # it tests every cell of every table
    browser.execute_script((Path(AXE.submodule_search_locations[0]) / "axe.min.js").read_text(encoding="utf-8"))
    violations = browser.execute_async_script(
        "axe.run(document).then(results => arguments[arguments.length - 1]("
        "results.violations.map(item => [item.id, ...item.nodes.slice(0, 3).map(node => node.html.slice(0, 200))])))"
    )
    assert violations == []


@pytest.mark.parametrize("width", [390, 1100, 1280, 1440])
def test_the_contents_stay_in_view_and_nothing_is_wider_than_the_page(
    browser: webdriver.Chrome,  # noqa: F811
    page: str,
    width: int,
) -> None:
    show(browser, page, width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    browser.execute_script("document.querySelector('#labels').scrollIntoView()")
    top, bottom = browser.execute_script(
        "const box = document.querySelector('nav.contents').getBoundingClientRect(); return [box.top, box.bottom]"
    )
    assert top == 0 and 30 < bottom <= 900
    problems = [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert problems == []


def test_the_first_screen_decides(browser: webdriver.Chrome, page: str) -> None:  # noqa: F811
    show(browser, page, 1280)
    top, bottom, fits = browser.execute_script(
        "const sentence = document.querySelector('.decides').getBoundingClientRect();"
        "const table = document.querySelector('#decision .scroll');"
        "return [table.getBoundingClientRect().top, sentence.bottom, table.scrollWidth <= table.clientWidth]"
    )
    assert bottom < 600 and top < 700 and fits


def test_headings_are_nested_and_every_entry_of_the_contents_leads_to_a_section(
    browser: webdriver.Chrome,  # noqa: F811
    page: str,
) -> None:
    show(browser, page)
    levels = browser.execute_script(
        "return [...document.querySelectorAll('h1, h2, h3, h4, h5, h6')].map(item => Number(item.tagName[1]))"
    )
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert browser.execute_script("return document.querySelectorAll('main').length") == 1
    targets = browser.execute_script(
        "return [[...document.querySelectorAll('.contents a')].map(link => link.hash.slice(1)),"
        "[...document.querySelectorAll('main section')].map(section => section.id)]"
    )
    assert targets[0] == targets[1] == ["decision", "recall", "differs", "metrics", "labels"]


def test_print_cuts_no_figure_and_no_table(browser: webdriver.Chrome, page: str) -> None:  # noqa: F811
    show(browser, page, A4[0], media="print")
    figures = browser.execute_script(
        "return [...document.querySelectorAll('figure')].map(figure => { const box = figure.getBoundingClientRect();"
        "const texts = [...figure.querySelectorAll('svg.wide text')].map(t => t.getBoundingClientRect());"
        "return [getComputedStyle(figure).breakInside, box.height, Math.max(...texts.map(t => t.right))] })"
    )
    assert len(figures) == 3
    for break_inside, height, right in figures:
        assert break_inside == "avoid"
        assert height < A4[1]
        assert 0 < right <= A4[0]
    tables = browser.execute_script(
        "return [...document.querySelectorAll('table')].map(table => table.getBoundingClientRect().right)"
    )
    assert len(tables) >= 5 and max(tables) <= A4[0]
    groups = browser.execute_script(
        "return [...document.querySelectorAll('.pairs tbody')].map(group => getComputedStyle(group).breakInside)"
    )
    assert len(groups) >= 12 and set(groups) == {"avoid"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    options = {"preferCSSPageSize": True, "printBackground": True}
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", options)["data"])
    pages = re.findall(rb"/Type /Page\b(?!s)", pdf)
    boxes = {tuple(float(end) for end in box.split()) for box in re.findall(rb"/MediaBox \[([^]]*)\]", pdf)}
    assert 4 <= len(pages) <= 12
    assert [[round(end) for end in box] for box in boxes] == [[0, 0, 595, 842]]

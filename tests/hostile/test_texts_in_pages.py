"""Attack: markup in every text that the report or the compare page may show: names, ids, notes, reasons, error texts,
pseudonyms, file names. All of it stays text. A word of 10,000 characters does not make a page wider than the screen."""

from __future__ import annotations

import zlib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal, get_origin
from xml.etree import ElementTree

import polars as pl
import pytest
from pydantic import BaseModel
from selenium import webdriver

from marginalia.pipeline.compare.comparison_model import Comparison
from marginalia.pipeline.compare.comparison_page import build_comparison
from marginalia.pipeline.release.card_charts import charts
from marginalia.pipeline.report import as_text
from marginalia.pipeline.report.report_data import ReportData
from marginalia.pipeline.report.report_page import build_page
from marginalia.schemas.generation_json import Check, CheckedLabel, Diversity, Generation, Lengths
from marginalia.schemas.taxonomy import load_taxonomy
from tests.hostile.texts import VALUES
from tests.pipeline.compare.test_compare import compared, comparison, runs  # noqa: F401 - fixtures
from tests.pipeline.report.test_page import CSV_LINK, Page, report_data
from tests.pipeline.report.test_page_in_browser import browser  # noqa: F401 - a fixture
from tests.pipeline.report.test_page_in_browser import pytestmark as needs_browser
from tests.pipeline.synthetic_run import Synthetic

# values of these fields, and keys of these dictionaries, are names that the program itself defines
OWN_FIELDS = {"metric", "status", "split", "round", "why", "on", "decided_at", "goal"}
TEXT_KEYS = {"left_out", "labels_left_out", "estimators_left_out", "models", "versions", "counts_in", "counts_out"}
TEXT_KEYS |= {"tokens", "outputs"}
LABELS = load_taxonomy("support-tickets").ids
WORD = "word" * 2500


def spoiled(value: Any, addition: str | None = None, field: str = "") -> Any:
    """`value` with hostile text added to each text in it; equal texts stay equal. `addition`: what is added."""
    if isinstance(value, str):
        if field in OWN_FIELDS or value in as_text.NAMES:
            return value
        return f"{value} {addition or VALUES[zlib.crc32(value.encode()) % len(VALUES)]}"
    if isinstance(value, BaseModel):
        texts = {
            name: spoiled(getattr(value, name), addition, name)
            for name, info in type(value).model_fields.items()
            if get_origin(info.annotation) is not Literal
        }
        return value.model_copy(update=texts)
    if isinstance(value, dict):
        keys = (spoiled(key, addition) if field in TEXT_KEYS or key in LABELS else key for key in value)
        return dict(zip(keys, (spoiled(item, addition, str(key)) for key, item in value.items()), strict=True))
    if isinstance(value, list | tuple):
        return type(value)(spoiled(item, addition, field) for item in value)
    if isinstance(value, pl.DataFrame):
        return pl.DataFrame(spoiled(value.to_dicts(), addition), schema=value.schema)
    return value


@pytest.fixture(scope="module")
def harmless() -> ReportData:
    data = report_data(Synthetic(n=48))
    label = data.taxonomy.ids[0]
    diversity = Diversity(
        generator="g", texts=9, distinct_1=0.5, distinct_2=0.5, distinct_3=0.5, self_bleu=0.1, self_bleu_texts=9,
        lengths=Lengths(mean=9, p10=9, median=9, p90=9), labels={label: 9}, without_label=0, label_balance=0.5,
    )  # fmt: skip
    check = Check(
        model="m", records=9, labelled=9, agree=9, differ=0, unreadable=0, failed=0,
        planted=0, obeyed=0, obedience=None,
        per_label=[CheckedLabel(label=label, intended=9, found=9, both=9)],
    )  # fmt: skip
    manifest = data.manifests[0].model_copy(
        update={"facts": {"smollm2": {"notes": ["a note of the guard"]}}, "cost": 1.0, "tokens": {"prompt": 3}}
    )
    return replace(
        data, generation=Generation(diversity=[diversity], check=check), manifests=[manifest], currency="EUR"
    )


def hostile_report(data: ReportData, addition: str | None = None) -> ReportData:
    return replace(data, **{field.name: spoiled(getattr(data, field.name), addition) for field in fields(data)})


def check_page(html: str, harmless_html: str) -> Page:
    page, expected = Page(html), Page(harmless_html)
    assert page.open == []
    assert page.shape <= expected.shape
    for name in ("href", "src", "class", "style", "id", "content"):
        values, known = (
            {
                value
                for _, attributes in parsed.elements
                if (value := attributes.get(name)) and not CSV_LINK.fullmatch(value)
            }
            for parsed in (page, expected)
        )
        assert values <= known, name
    return page


def test_every_text_of_the_report_stays_text(harmless: ReportData) -> None:
    data = hostile_report(harmless)
    page = check_page(build_page(data), build_page(harmless))
    for text in ("<script>alert(1)</script>", "![i](http://example.invalid/x.png)", "onerror=alert(1)><!-- ]]>"):
        assert text in page.text
    assert not {"\u202e", "\x07", "\x1b"} & set(build_page(data))


def test_every_text_of_a_chart_stays_text(harmless: ReportData) -> None:
    expected = {chart.path: _shape(chart.svg) for chart in charts(harmless)}
    for chart in charts(replace(hostile_report(harmless), name="run")):
        assert _shape(chart.svg) <= set().union(*expected.values())


def _shape(svg: str) -> set[tuple[str, str]]:
    return {(element.tag, name) for element in ElementTree.fromstring(svg).iter() for name in ("", *element.attrib)}


def test_every_text_of_the_compare_page_stays_text(comparison: Comparison) -> None:  # noqa: F811
    names = {row.label: row.label for row in comparison.labels}
    hostile = spoiled(comparison)
    page = check_page(
        build_comparison(hostile, {spoiled(label): spoiled(name) for label, name in names.items()}),
        build_comparison(comparison, names),
    )
    assert "<script>alert(1)</script>" in page.text


@needs_browser[0]
@needs_browser[1]
@pytest.mark.parametrize("width", [390, 1280])
def test_a_very_long_word_does_not_widen_a_page(
    harmless: ReportData,
    comparison: Comparison,  # noqa: F811
    browser: webdriver.Chrome,  # noqa: F811
    tmp_path: Path,
    width: int,
) -> None:
    names = {row.label: row.label for row in comparison.labels}
    pages = {
        "report.html": build_page(hostile_report(harmless, WORD)),
        "compare.html": build_comparison(spoiled(comparison, WORD), spoiled(names, WORD)),
    }
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 800}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    for name, html in pages.items():
        (tmp_path / name).write_text(html, encoding="utf-8")
        browser.get((tmp_path / name).as_uri())
        browser.execute_script("document.querySelectorAll('details').forEach(item => item.open = true)")
        wide = browser.execute_script(
            "return [...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll') && "
            "e.getBoundingClientRect().right > innerWidth + 1).slice(0, 9).map(e => e.outerHTML.slice(0, 200))"
        )
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width, (name, wide)

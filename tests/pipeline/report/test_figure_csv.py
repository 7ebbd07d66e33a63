"""The CSV of a figure: the numbers that it draws, and texts that stay texts."""

from __future__ import annotations

import base64
import csv
import io

from marginalia.pipeline.report.figure_csv import panels_csv, rows_csv, series_csv
from marginalia.pipeline.report.plots import Mark, PlotRow, Series
from marginalia.pipeline.report.report_page import build_page
from marginalia.pipeline.report.small_multiples import Panel
from tests.pipeline.report.test_page import CSV_LINK, Page, report_data
from tests.pipeline.synthetic_run import Synthetic

CURVE = Series("before", [0.1, 0.25], [0.0, 1 / 3], 1, [0.0, 0.1], [0.2, 0.5])


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def test_rows() -> None:
    rows = [PlotRow("Refund", [Mark(0.5, 0.4, 0.6), Mark(0.7)], "0.50"), PlotRow("Other", [Mark(None)], "—")]
    assert read(rows_csv(rows, ("macro", "micro"))) == [
        ["row", "measure", "value", "low", "high"],
        ["Refund", "macro", "0.5", "0.4", "0.6"],
        ["Refund", "micro", "0.7", "", ""],
        ["Other", "macro", "", "", ""],
    ]


def test_curves_with_and_without_intervals() -> None:
    without = Series("after", [1.0], [0.5], 2)
    assert read(series_csv([CURVE, without], "probability", "share")) == [
        ["curve", "probability", "share", "low", "high"],
        ["before", "0.1", "0", "0", "0.2"],
        ["before", "0.25", "0.333333", "0.1", "0.5"],
        ["after", "1", "0.5", "", ""],
    ]


def test_panels() -> None:
    lines = read(panels_csv([Panel("Refund", "3 positives", [CURVE])], "probability", "share"))
    assert lines[1] == ["Refund", "before", "0.1", "0", "0", "0.2"]
    assert len(lines) == 3


def test_no_name_is_a_formula_or_reorders_the_text() -> None:
    rows = [PlotRow("=HYPERLINK(1)", [Mark(1.0)], ""), PlotRow("\u202eabc", [Mark(1.0)], "")]
    assert [line[0] for line in read(rows_csv(rows, ("x",)))[1:]] == ["'=HYPERLINK(1)", "abc"]


def test_every_figure_of_the_page_has_a_link_a_number_of_cases_and_its_csv() -> None:
    html = build_page(report_data(Synthetic(n=160, skill=0.5)))
    page = Page(html)
    figures = [attributes["id"] for tag, attributes in page.elements if tag == "figure"]
    links = [attributes for tag, attributes in page.elements if tag == "a" and "download" in attributes]
    assert len(figures) == len(links) >= 9
    assert [link["download"] for link in links] == [f"{figure}.csv" for figure in figures]
    assert all({"href": f"#{figure}"} in [attributes for _, attributes in page.elements] for figure in figures)
    captions = html.split("<figcaption>")[1:]
    assert all(" Based on " in caption.partition("</figcaption>")[0] for caption in captions)
    for link in links:
        assert CSV_LINK.fullmatch(link["href"] or "")
        lines = read(base64.b64decode((link["href"] or "").partition(",")[2]).decode())
        assert len(lines) > 1 and len({len(line) for line in lines}) == 1

"""The numbers of a figure as CSV, for the link under it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from marginalia.pipeline.report.plots import PlotRow, Series
from marginalia.pipeline.report.small_multiples import Panel
from marginalia.schemas.text_checks import displayable, not_a_formula


def rows_csv(rows: Sequence[PlotRow], measures: Sequence[str]) -> str:
    """One line per row and mark. `measures` names the marks of a row."""
    lines = [
        (row.label, measure, mark.value, mark.low, mark.high)
        for row in rows
        for measure, mark in zip(measures, row.marks, strict=False)
    ]
    return _csv(("row", "measure", "value", "low", "high"), lines)


def series_csv(series: Sequence[Series], x: str, y: str) -> str:
    """One line per point of each curve. `x` and `y` name the axes."""
    lines = [(curve.name, *point) for curve in series for point in _points(curve)]
    return _csv(("curve", x, y, "low", "high"), lines)


def panels_csv(panels: Sequence[Panel], x: str, y: str) -> str:
    """One line per point of each curve of each panel."""
    lines = [
        (panel.title, curve.name, *point) for panel in panels for curve in panel.series for point in _points(curve)
    ]
    return _csv(("panel", "curve", x, y, "low", "high"), lines)


def _points(curve: Series) -> Iterable[tuple[float | None, ...]]:
    empty = [None] * len(curve.x)
    return zip(curve.x, curve.y, curve.low or empty, curve.high or empty, strict=True)


def _csv(header: Sequence[str], lines: Iterable[Sequence[str | float | None]]) -> str:
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_cell(cell) for cell in line] for line in lines)
    return written.getvalue()


def _cell(cell: str | float | None) -> str:
    if isinstance(cell, str):
        return not_a_formula(displayable(cell))
    return "" if cell is None else f"{cell:.6g}"

"""Small multiples: one small reliability diagram per label, all with the same axes so that they can be compared."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from marginalia.pipeline.report.plots import NARROW, WIDE, Axis, Series, tick_label, wide_and_narrow
from marginalia.pipeline.report.svg import Drawing

COLUMNS = {WIDE: 4, NARROW: 2}
GAP, LEFT, TOP, LINE = 22.0, 34.0, 44.0, 15.0


@dataclass(frozen=True)
class Panel:
    """One diagram with its title and subtitle; its first series is drawn with the band of its intervals."""

    title: str
    subtitle: str
    series: Sequence[Series]


def panels(shown: Sequence[Panel], axis: Axis, *, alt: str, legend: Sequence[Series]) -> Markup:
    """Draws the panels in rows of four (two on a phone). `axis` applies to both directions of every panel."""
    return wide_and_narrow(lambda width: _panels(shown, axis, width, alt, legend))


def _panels(shown: Sequence[Panel], axis: Axis, width: float, alt: str, legend: Sequence[Series]) -> Drawing:
    columns = COLUMNS[width]
    size = (width - columns * LEFT - (columns - 1) * (GAP - 14)) / columns
    rows = -(-len(shown) // columns)
    longest = int(size / 6.6)  # characters in a line
    titles = [textwrap.wrap(panel.title, longest) for panel in shown]
    top = TOP + LINE * (max((len(lines) for lines in titles), default=1) - 1)
    step = top + size + 26
    css = "plot wide" if width == WIDE else "plot narrow"
    drawing = Drawing(width, rows * step + 26 + 20 * len(legend), alt=alt, css=css)
    for number, panel in enumerate(shown):
        left = LEFT + (number % columns) * (size + LEFT + GAP - 14)
        _panel(drawing, panel, titles[number], axis, left, (number // columns) * step + top, size)
    for number, series in enumerate(legend):
        y = rows * step + 22 + 20 * number
        drawing.line(LEFT, y - 4, LEFT + 22, y - 4, f"curve tone{series.tone}")
        drawing.text(LEFT + 30, y, series.name, "legend")
    return drawing


def _panel(
    drawing: Drawing, panel: Panel, title: Sequence[str], axis: Axis, left: float, top: float, size: float
) -> None:
    def at(x: float, y: float) -> tuple[float, float]:
        span = axis.high - axis.low
        return left + size * (min(x, axis.high) - axis.low) / span, top + size * (
            1 - (min(y, axis.high) - axis.low) / span
        )

    for line, text in enumerate(reversed(title)):
        drawing.text(left, top - 22 - LINE * line, text, "name")
    drawing.text(left, top - 8, panel.subtitle, "tick")
    for value in (axis.low, (axis.low + axis.high) / 2, axis.high):
        drawing.line(*at(value, axis.low), *at(value, axis.high), "grid")
        drawing.line(*at(axis.low, value), *at(axis.high, value), "grid")
        drawing.text(at(value, 0)[0], top + size + 15, tick_label(value), "tick", anchor="middle")
        drawing.text(left - 6, at(0, value)[1] + 4, tick_label(value), "tick", anchor="end")
    drawing.line(*at(axis.low, axis.low), *at(axis.high, axis.high), "reference")
    for series in panel.series:
        if series.low:
            upper = [at(x, y) for x, y in zip(series.x, series.high, strict=True)]
            lower = [at(x, y) for x, y in zip(series.x, series.low, strict=True)]
            drawing.area([*upper, *reversed(lower)], f"band tone{series.tone}")
        points = [at(x, y) for x, y in zip(series.x, series.y, strict=True)]
        if len(points) > 1:
            drawing.path(points, f"curve tone{series.tone}")
        for point in points:
            drawing.circle(*point, 2.6, f"point tone{series.tone}")

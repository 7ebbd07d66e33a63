"""The report's plots. Each is drawn twice, for a desktop and for a phone, so that its text is readable on both."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from marginalia.pipeline.report.svg import Drawing

WIDE, NARROW = 700.0, 340.0


@dataclass(frozen=True)
class Mark:
    """A value with its interval. `tone`, 1 to 6, selects colour and shape. Without a value, `note` is shown instead."""

    value: float | None
    low: float | None = None
    high: float | None = None
    tone: int = 1
    note: str = ""


@dataclass(frozen=True)
class PlotRow:
    """A row of a plot: its name at the left, its marks, and `text` (the numbers) at the right."""

    label: str
    marks: Sequence[Mark]
    text: str


def listed(quantity: str, rows: Sequence[PlotRow]) -> str:
    """The numbers of a plot as one sentence, for readers who do not see it: "Records: Refund 3; Return none."."""
    return f"{quantity}: " + "; ".join(f"{row.label} {row.text.replace('—', 'none')}" for row in rows) + "."


@dataclass(frozen=True)
class Axis:
    """The range of an axis. `reference` is a value to compare with, such as chance, drawn as a named line."""

    low: float
    high: float
    title: str
    reference: float | None = None
    reference_name: str = ""
    ticks: int = 5

    def tick_values(self) -> list[float]:
        """The values that get a grid line and a number."""
        return [self.low + (self.high - self.low) * step / self.ticks for step in range(self.ticks + 1)]


@dataclass(frozen=True)
class Series:
    """A curve. `low` and `high` are the ends of the interval at each point, or empty; `tone` as in Mark."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    tone: int
    low: Sequence[float] = ()
    high: Sequence[float] = ()


def forest(rows: Sequence[PlotRow], axis: Axis, *, alt: str, legend: Sequence[tuple[str, int]] = ()) -> Markup:
    """A forest plot: one line per row, values as marks, intervals as whiskers, numbers at the right."""
    return wide_and_narrow(lambda width: _forest(rows, axis, width, alt, legend))


def bars(rows: Sequence[PlotRow], axis: Axis, *, alt: str) -> Markup:
    """One bar per row for its first mark; further marks are vertical lines across the bar."""
    return wide_and_narrow(lambda width: _forest(rows, axis, width, alt, (), as_bars=True))


def curves(series: Sequence[Series], x: Axis, y: Axis, *, alt: str, diagonal: bool) -> Markup:
    """Curves in one square with a legend. Series with intervals get points with whiskers and a band."""
    return wide_and_narrow(lambda width: _curves(series, x, y, width, alt, diagonal))


def wide_and_narrow(draw: Callable[[float], Drawing]) -> Markup:
    """The drawing in both widths; the page's CSS shows one of them."""
    return draw(WIDE).markup() + draw(NARROW).markup()


def _forest(
    rows: Sequence[PlotRow],
    axis: Axis,
    width: float,
    alt: str,
    legend: Sequence[tuple[str, int]],
    *,
    as_bars: bool = False,
) -> Drawing:
    wide = width == WIDE
    step = (26.0 if wide else 40.0) + 8.0 * (max((len(row.marks) for row in rows), default=1) - 1) * (not as_bars)
    left, right = (196.0, width - 128.0) if wide else (10.0, width - 12.0)
    top = 26.0
    bottom = top + step * len(rows)
    drawing = Drawing(width, bottom + 44 + 20 * bool(legend), alt=alt, css="plot wide" if wide else "plot narrow")

    def x_of(value: float) -> float:
        share = (value - axis.low) / (axis.high - axis.low) if axis.high > axis.low else 0.0
        return left + (right - left) * min(max(share, 0.0), 1.0)

    _x_axis(drawing, axis, x_of, top, bottom)
    for row_number, row in enumerate(rows):
        y = top + step * row_number
        middle = y + step / 2 if wide else y + step - 12
        drawing.text(
            left - 14 if wide else left,
            middle + 4 if wide else y + 15,
            truncated(row.label, 27 if wide else 30),
            "name",
            anchor="end" if wide else "start",
        )
        if not wide:  # no grid line through the numbers
            drawing.rect(right - 7 * len(row.text), y + 3, 7 * len(row.text), 15, "blank")
        drawing.text(
            right + 14 if wide else right,
            middle + 4 if wide else y + 15,
            row.text,
            "number",
            anchor="start" if wide else "end",
        )
        for index, mark in enumerate(row.marks):
            offset = 0.0 if as_bars else 9.0 * (index - (len(row.marks) - 1) / 2)
            if as_bars:
                _bar(drawing, mark, x_of, middle, first=index == 0)
            else:
                _whisker(drawing, mark, x_of, middle + offset, left)
    _legend(drawing, legend, left, bottom + 54)
    return drawing


def _x_axis(drawing: Drawing, axis: Axis, x_of: Callable[[float], float], top: float, bottom: float) -> None:
    for value in axis.tick_values():
        drawing.line(x_of(value), top, x_of(value), bottom, "grid")
        drawing.text(x_of(value), bottom + 16, tick_label(value), "tick", anchor="middle")
    drawing.line(x_of(axis.low), bottom, x_of(axis.high), bottom, "axis")
    drawing.text((x_of(axis.low) + x_of(axis.high)) / 2, bottom + 34, axis.title, "axis-title", anchor="middle")
    if axis.reference is not None:
        drawing.line(x_of(axis.reference), top - 6, x_of(axis.reference), bottom, "reference")
        near_right = x_of(axis.reference) > drawing.width - 60
        drawing.text(
            x_of(axis.reference),
            top - 11,
            axis.reference_name,
            "reference-name",
            anchor="end" if near_right else "middle",
        )


def _whisker(drawing: Drawing, mark: Mark, x_of: Callable[[float], float], y: float, left: float) -> None:
    if mark.value is None:
        drawing.text(left + 6, y + 4, mark.note, "absent")
        return
    if mark.low is not None and mark.high is not None:
        drawing.line(x_of(mark.low), y, x_of(mark.high), y, f"whisker tone{mark.tone}")
    _point(drawing, x_of(mark.value), y, mark.tone)


def _bar(drawing: Drawing, mark: Mark, x_of: Callable[[float], float], y: float, *, first: bool) -> None:
    if mark.value is None:
        return
    if first:
        drawing.rect(x_of(0.0), y - 6, x_of(mark.value) - x_of(0.0), 12, f"bar tone{mark.tone}", round=1.5)
    else:
        drawing.line(x_of(mark.value), y - 9, x_of(mark.value), y + 9, f"target tone{mark.tone}")


def _point(drawing: Drawing, x: float, y: float, tone: int) -> None:
    """A point whose shape, as well as its colour, depends on the tone."""
    if tone % 3 == 1:
        drawing.circle(x, y, 4.5, f"point tone{tone}")
    elif tone % 3 == 2:
        drawing.diamond(x, y, 5.5, f"point tone{tone}")
    else:
        drawing.rect(x - 4, y - 4, 8, 8, f"point tone{tone}")


def _legend(drawing: Drawing, legend: Sequence[tuple[str, int]], left: float, y: float) -> None:
    x = left
    for name, tone in legend:
        _point(drawing, x + 5, y - 4, tone)
        drawing.text(x + 16, y, name, "legend")
        x += 34 + 6.6 * len(name)


def _curves(series: Sequence[Series], x: Axis, y: Axis, width: float, alt: str, diagonal: bool) -> Drawing:
    wide = width == WIDE
    size = 360.0 if wide else width - 64
    left, top = 52.0, 30.0
    legend_left, legend_top = (left + size + 34, top + 10) if wide else (left, top + size + 66)
    height = top + size + 48 + (0 if wide else 22 * len(series) + 18)
    drawing = Drawing(width, height, alt=alt, css="plot wide" if wide else "plot narrow")

    def at_x(value: float) -> float:
        return left + size * (value - x.low) / (x.high - x.low)

    def at_y(value: float) -> float:
        return top + size * (1 - (value - y.low) / (y.high - y.low))

    for value in x.tick_values():
        drawing.line(at_x(value), top, at_x(value), top + size, "grid")
        drawing.text(at_x(value), top + size + 17, tick_label(value), "tick", anchor="middle")
    for value in y.tick_values():
        drawing.line(left, at_y(value), left + size, at_y(value), "grid")
        drawing.text(left - 8, at_y(value) + 4, tick_label(value), "tick", anchor="end")
    drawing.text(left + size / 2, top + size + 37, x.title, "axis-title", anchor="middle")
    drawing.text(left - 34, top - 14, y.title, "axis-title")
    if diagonal:
        end = min(x.high, y.high)
        drawing.line(at_x(0), at_y(0), at_x(end), at_y(end), "reference")
    for curve in series:
        _curve(drawing, curve, y, at_x, at_y)
    for row, curve in enumerate(series):
        legend_y = legend_top + 22 * row
        drawing.line(legend_left, legend_y - 4, legend_left + 22, legend_y - 4, f"curve tone{curve.tone}")
        if curve.low:
            _point(drawing, legend_left + 11, legend_y - 4, curve.tone)
        drawing.text(legend_left + 30, legend_y, curve.name, "legend")
    return drawing


def _curve(
    drawing: Drawing, curve: Series, y: Axis, at_x: Callable[[float], float], at_y: Callable[[float], float]
) -> None:
    """A line; for a series with intervals also their band, whiskers cut off at the ends of the axis, and points."""
    points = [(at_x(a), at_y(b)) for a, b in zip(curve.x, curve.y, strict=True)]
    if curve.low:
        edges = [
            [(px, at_y(min(max(end, y.low), y.high))) for (px, _), end in zip(points, ends, strict=True)]
            for ends in (curve.high, curve.low)
        ]
        drawing.area([*edges[0], *reversed(edges[1])], f"band tone{curve.tone}")
    if len(points) > 1:
        drawing.path(points, f"curve tone{curve.tone}")
    if curve.low:
        for (px, _), low, high in zip(points, curve.low, curve.high, strict=True):
            drawing.line(px, at_y(max(low, y.low)), px, at_y(min(high, y.high)), f"whisker tone{curve.tone}")
        for px, py in points:
            _point(drawing, px, py, curve.tone)


def nice_axis(largest: float, title: str) -> Axis:
    """From 0 to the next round number at or above `largest`, with ticks that are round as well."""
    power = 10.0 ** math.floor(math.log10(largest)) if largest > 0 else 0.1
    steps = {1: 5, 2: 4, 4: 4, 5: 5, 6: 6, 8: 4, 10: 5}
    step = next(step for step in steps if step * power >= largest * (1 - 1e-9))
    return Axis(0.0, step * power, title, ticks=steps[step])


def tick_label(value: float) -> str:
    """A number at a grid line, with at most two decimals."""
    text = f"{value:.2f}".rstrip("0").rstrip(".") if value % 1 else f"{value:,.0f}"
    return text.replace("-", "−")


def truncated(text: str, longest: int) -> str:
    """The text, ended by an ellipsis where it has more than `longest` characters."""
    return text if len(text) <= longest else text[: longest - 1] + "…"

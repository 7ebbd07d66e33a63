"""The report's plots. Each is drawn twice, for a wide page and for a phone, so that its text keeps its size."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from marginalia.pipeline.report.svg import Drawing

WIDE, NARROW = 700.0, 340.0


@dataclass(frozen=True)
class Mark:
    """A value with its interval; `tone` 1 to 6 picks colour and shape. Without a value `note` stands in its place."""

    value: float | None
    low: float | None = None
    high: float | None = None
    tone: int = 1
    note: str = ""


@dataclass(frozen=True)
class PlotRow:
    label: str
    marks: Sequence[Mark]
    text: str


@dataclass(frozen=True)
class Axis:
    """`reference` is a value of meaning (chance, perfect), drawn as a line with its name."""

    low: float
    high: float
    title: str
    reference: float | None = None
    reference_name: str = ""
    ticks: int = 5

    def at(self) -> list[float]:
        return [self.low + (self.high - self.low) * step / self.ticks for step in range(self.ticks + 1)]


@dataclass(frozen=True)
class Series:
    name: str
    x: Sequence[float]
    y: Sequence[float]
    tone: int
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    line: bool = True


def forest(rows: Sequence[PlotRow], axis: Axis, *, alt: str, legend: Sequence[tuple[str, int]] = ()) -> Markup:
    """One line a row: values as marks, intervals as whiskers, the numbers at the right."""
    return both(lambda width: _forest(rows, axis, width, alt, legend))


def bars(rows: Sequence[PlotRow], axis: Axis, *, alt: str, legend: Sequence[tuple[str, int]] = ()) -> Markup:
    """One bar a row for the first mark; further marks are ticks on it."""
    return both(lambda width: _forest(rows, axis, width, alt, legend, as_bars=True))


def curves(series: Sequence[Series], x: Axis, y: Axis, *, alt: str, diagonal: bool) -> Markup:
    """Lines in one square, with a legend; points with whiskers in a band where a series has an interval."""
    return both(lambda width: _curves(series, x, y, width, alt, diagonal))


def both(draw: Callable[[float], Drawing]) -> Markup:
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

    def place(value: float) -> float:
        share = (value - axis.low) / (axis.high - axis.low) if axis.high > axis.low else 0.0
        return left + (right - left) * min(max(share, 0.0), 1.0)

    _x_axis(drawing, axis, place, top, bottom)
    for number, row in enumerate(rows):
        y = top + step * number
        middle = y + step / 2 if wide else y + step - 12
        drawing.text(
            left - 14 if wide else left,
            middle + 4 if wide else y + 15,
            cut(row.label, 27 if wide else 30),
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
        for place_in_row, mark in enumerate(row.marks):
            spread = 0.0 if as_bars else 9.0 * (place_in_row - (len(row.marks) - 1) / 2)
            if as_bars:
                _bar(drawing, mark, place, middle, first=place_in_row == 0)
            else:
                _whisker(drawing, mark, place, middle + spread, left)
    _legend(drawing, legend, left, bottom + 54, right)
    return drawing


def _x_axis(drawing: Drawing, axis: Axis, place: Callable[[float], float], top: float, bottom: float) -> None:
    for value in axis.at():
        drawing.line(place(value), top, place(value), bottom, "grid")
        drawing.text(place(value), bottom + 16, tick(value), "tick", anchor="middle")
    drawing.line(place(axis.low), bottom, place(axis.high), bottom, "axis")
    drawing.text((place(axis.low) + place(axis.high)) / 2, bottom + 34, axis.title, "axis-title", anchor="middle")
    if axis.reference is not None:
        drawing.line(place(axis.reference), top - 6, place(axis.reference), bottom, "reference")
        near_right = place(axis.reference) > drawing.width - 60
        drawing.text(
            place(axis.reference),
            top - 11,
            axis.reference_name,
            "reference-name",
            anchor="end" if near_right else "middle",
        )


def _whisker(drawing: Drawing, mark: Mark, place: Callable[[float], float], y: float, left: float) -> None:
    if mark.value is None:
        drawing.text(left + 6, y + 4, mark.note, "absent")
        return
    if mark.low is not None and mark.high is not None:
        drawing.line(place(mark.low), y, place(mark.high), y, f"whisker tone{mark.tone}")
    _point(drawing, place(mark.value), y, mark.tone)


def _bar(drawing: Drawing, mark: Mark, place: Callable[[float], float], y: float, *, first: bool) -> None:
    if mark.value is None:
        return
    if first:
        drawing.rect(place(0.0), y - 6, place(mark.value) - place(0.0), 12, f"bar tone{mark.tone}", round=1.5)
    else:
        drawing.line(place(mark.value), y - 9, place(mark.value), y + 9, f"target tone{mark.tone}")


def _point(drawing: Drawing, x: float, y: float, tone: int) -> None:
    """Shape as well as colour tells series apart."""
    if tone % 3 == 1:
        drawing.circle(x, y, 4.5, f"point tone{tone}")
    elif tone % 3 == 2:
        drawing.diamond(x, y, 5.5, f"point tone{tone}")
    else:
        drawing.rect(x - 4, y - 4, 8, 8, f"point tone{tone}")


def _legend(drawing: Drawing, legend: Sequence[tuple[str, int]], left: float, y: float, right: float) -> None:
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

    for value in x.at():
        drawing.line(at_x(value), top, at_x(value), top + size, "grid")
        drawing.text(at_x(value), top + size + 17, tick(value), "tick", anchor="middle")
    for value in y.at():
        drawing.line(left, at_y(value), left + size, at_y(value), "grid")
        drawing.text(left - 8, at_y(value) + 4, tick(value), "tick", anchor="end")
    drawing.text(left + size / 2, top + size + 37, x.title, "axis-title", anchor="middle")
    drawing.text(left - 34, top - 14, y.title, "axis-title")
    if diagonal:
        end = min(x.high, y.high)
        drawing.line(at_x(0), at_y(0), at_x(end), at_y(end), "reference")
    for one in series:
        points = [(at_x(a), at_y(b)) for a, b in zip(one.x, one.y, strict=True)]
        if one.low:
            edges = [
                [(px, at_y(min(max(end, y.low), y.high))) for (px, _), end in zip(points, ends, strict=True)]
                for ends in (one.high, one.low)
            ]
            drawing.area([*edges[0], *reversed(edges[1])], f"band tone{one.tone}")
        if one.line and len(points) > 1:
            drawing.path(points, f"curve tone{one.tone}")
        for (px, _), low, high in zip(points, one.low, one.high, strict=bool(one.low)):
            drawing.line(px, at_y(max(low, y.low)), px, at_y(min(high, y.high)), f"whisker tone{one.tone}")
        if one.low or not one.line:
            for px, py in points:
                _point(drawing, px, py, one.tone)
    for number, one in enumerate(series):
        legend_y = legend_top + 22 * number
        if one.line:
            drawing.line(legend_left, legend_y - 4, legend_left + 22, legend_y - 4, f"curve tone{one.tone}")
        if one.low or not one.line:
            _point(drawing, legend_left + 11, legend_y - 4, one.tone)
        drawing.text(legend_left + 30, legend_y, one.name, "legend")
    return drawing


def nice_axis(largest: float, title: str) -> Axis:
    """From 0 to the next round number at or above `largest`, with ticks that are round as well."""
    power = 10.0 ** math.floor(math.log10(largest)) if largest > 0 else 0.1
    steps = {1: 5, 2: 4, 4: 4, 5: 5, 6: 6, 8: 4, 10: 5}
    step = next(step for step in steps if step * power >= largest * (1 - 1e-9))
    return Axis(0.0, step * power, title, ticks=steps[step])


def tick(value: float) -> str:
    text = f"{value:.2f}".rstrip("0").rstrip(".") if value % 1 else f"{value:,.0f}"
    return text.replace("-", "−")


def cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"

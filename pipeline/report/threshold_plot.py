"""Precision and recall by threshold, with intervals, for one label or for several that share a threshold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from marginalia.pipeline.report import as_text
from marginalia.pipeline.report.plots import WIDE, tick_label, wide_and_narrow
from marginalia.pipeline.report.svg import Drawing
from marginalia.schemas.evaluation_json import Metric, Outcome, Split
from marginalia.scoring.measures.intervals import Array, Flags
from marginalia.scoring.measures.thresholds import outcome

STEPS = np.linspace(0.0, 1.0, 51)
LEFT, TOP, HEIGHT = 46.0, 64.0, 220.0


@dataclass(frozen=True)
class ThresholdCurve:
    """The outcome of each threshold on the same records, and of the `chosen` one (None: no threshold is marked)."""

    title: str
    records: int
    thresholds: Sequence[float]
    outcomes: Sequence[Outcome]
    chosen: float | None
    at_chosen: Outcome | None


def threshold_curve(
    truth: Flags,
    p: Array,
    *,
    title: str,
    chosen: float | None,
    split: Split = "test",
    confidence: float = 0.95,
    judged: Flags | None = None,
) -> ThresholdCurve:
    """The curve of `truth` and `p`, each (records,) or (records, labels). `chosen` must be chosen on other records.

    `title` names the label or labels. `judged`, of the same shape: the values that were judged, None for all; the
    others are left out, and so are records without any."""

    def outcome_at(threshold: float) -> Outcome:
        return outcome(truth, p, threshold, split=split, confidence=confidence, judged=judged)

    steps = [float(step) for step in STEPS]
    at_chosen = None if chosen is None else outcome_at(chosen)
    records = len(truth) if judged is None else int(judged.reshape(len(truth), -1).any(axis=1).sum())
    return ThresholdCurve(title, records, steps, [outcome_at(step) for step in steps], chosen, at_chosen)


def threshold_sentence(curve: ThresholdCurve) -> str:
    """The recall and precision of the chosen threshold, with intervals and the number of records."""
    if curve.chosen is None or curve.at_chosen is None:
        return f"{curve.title}: no threshold was chosen"
    judged = curve.at_chosen
    flags, finds = _percent(judged.precision), _percent(judged.recall)
    return (
        f"{curve.title}, threshold {as_text.number(curve.chosen)}: finds {finds} of the positives, and {flags} of its "
        f"flags are right ({as_text.plural(curve.records, 'record')}, {as_text.plural(judged.positives, 'positive')})"
    )


def threshold_plot(curve: ThresholdCurve) -> Markup:
    """Two curves with the bands of their intervals, and a vertical line at the chosen threshold."""
    return wide_and_narrow(lambda width: _draw(curve, width))


def _draw(curve: ThresholdCurve, width: float) -> Drawing:
    css = "plot wide" if width == WIDE else "plot narrow"
    drawing = Drawing(width, TOP + HEIGHT + 48, alt=threshold_sentence(curve), css=css)
    right = width - 14

    def x_of(value: float) -> float:
        return LEFT + (right - LEFT) * value

    def y_of(value: float) -> float:
        return TOP + HEIGHT * (1 - value)

    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        drawing.line(x_of(value), TOP, x_of(value), TOP + HEIGHT, "grid")
        drawing.line(LEFT, y_of(value), right, y_of(value), "grid")
        drawing.text(x_of(value), TOP + HEIGHT + 17, tick_label(value), "tick", anchor="middle")
        drawing.text(LEFT - 8, y_of(value) + 4, f"{value:.0%}", "tick", anchor="end")
    drawing.text((LEFT + right) / 2, TOP + HEIGHT + 38, "threshold", "axis-title", anchor="middle")
    for name, tone, metric in (("recall", 1, _recall), ("precision", 2, _precision)):
        _curve(drawing, curve, metric, tone, x_of, y_of)
        legend_left = LEFT + 110 * (tone - 1)
        drawing.line(legend_left, TOP - 40, legend_left + 24, TOP - 40, f"curve tone{tone}")
        drawing.text(legend_left + 32, TOP - 36, name, "legend")
    if curve.chosen is not None and curve.at_chosen is not None:
        drawing.line(x_of(curve.chosen), TOP - 6, x_of(curve.chosen), TOP + HEIGHT, "reference")
        for tone, share in ((2, curve.at_chosen.precision.value), (1, curve.at_chosen.recall.value)):
            if share is not None:
                drawing.circle(x_of(curve.chosen), y_of(share), 4.5, f"point tone{tone}")
        anchor = "end" if curve.chosen > 0.5 else "start"
        drawing.text(x_of(curve.chosen), TOP - 12, f"threshold {as_text.number(curve.chosen)}", "name", anchor=anchor)
    return drawing


def _curve(
    drawing: Drawing,
    curve: ThresholdCurve,
    metric: Callable[[Outcome], Metric],
    tone: int,
    x_of: Callable[[float], float],
    y_of: Callable[[float], float],
) -> None:
    metrics = [
        (x_of(threshold), metric(judged)) for threshold, judged in zip(curve.thresholds, curve.outcomes, strict=True)
    ]
    # above the highest score nothing is flagged, so precision has no value there
    points = [(x, measured.value, measured.low, measured.high) for x, measured in metrics if measured.value is not None]
    upper = [(x, y_of(value if high is None else high)) for x, value, _, high in points]
    lower = [(x, y_of(value if low is None else low)) for x, value, low, _ in points]
    drawing.area([*upper, *reversed(lower)], f"band tone{tone}")
    drawing.path([(x, y_of(value)) for x, value, _, _ in points], f"curve tone{tone}")


def _precision(judged: Outcome) -> Metric:
    return judged.precision


def _recall(judged: Outcome) -> Metric:
    return judged.recall


def _percent(metric: Metric) -> str:
    if metric.value is None:
        return "an unknown share"
    if metric.low is None or metric.high is None:
        return f"{metric.value:.0%}"
    return f"{metric.value:.0%} ({100 * metric.low:.0f}–{100 * metric.high:.0f})"

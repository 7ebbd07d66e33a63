"""The plot of precision and recall by threshold, against counts made by hand."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from marginalia.pipeline.report.svg import standalone
from marginalia.pipeline.report.threshold_plot import threshold_curve, threshold_plot, threshold_sentence

TRUTH = np.array([True, True, True, False, False, False, False, False])
P = np.array([0.9, 0.7, 0.2, 0.8, 0.4, 0.3, 0.1, 0.0])


def test_each_threshold_is_judged_on_these_records() -> None:
    curve = threshold_curve(TRUTH, P, title="Refund", chosen=0.7)
    judged = dict(zip(np.round(curve.thresholds, 2), curve.outcomes, strict=True))
    assert (judged[0.0].precision.value, judged[0.0].recall.value) == (3 / 8, 1.0)
    assert judged[0.5].precision.value == pytest.approx(2 / 3) and judged[0.5].recall.value == pytest.approx(2 / 3)
    assert judged[1.0].precision.value is None and judged[1.0].recall.value == 0.0
    assert threshold_sentence(curve) == (
        "Refund, threshold 0.70: finds 67% (9–99) of the positives, and 67% (9–99) of its flags are right "
        "(8 records, 3 positives)"
    )


def test_values_that_were_not_judged_are_left_out() -> None:
    """Without the third positive and the false flag at 0.8: both flags are right, and both positives are found."""
    judged = np.array([True, True, False, False, True, True, True, True])
    curve = threshold_curve(TRUTH, P, title="Refund", chosen=0.7, judged=judged)
    assert threshold_sentence(curve) == (
        "Refund, threshold 0.70: finds 100% (16–100) of the positives, and 100% (16–100) of its flags are right "
        "(6 records, 2 positives)"
    )
    two_labels = np.stack([judged, np.zeros(8, dtype=bool)], axis=1)
    both = threshold_curve(
        np.stack([TRUTH] * 2, axis=1), np.stack([P] * 2, axis=1), title="two", chosen=None, judged=two_labels
    )
    assert both.records == 6


def test_a_threshold_that_flags_nothing_and_one_that_was_not_chosen() -> None:
    nothing = threshold_curve(TRUTH, P, title="Refund", chosen=0.95)
    assert "finds 0% (0–71) of the positives, and an unknown share of its flags are right" in threshold_sentence(
        nothing
    )
    assert (
        threshold_sentence(threshold_curve(TRUTH, P, title="Refund", chosen=None)) == "Refund: no threshold was chosen"
    )


@pytest.mark.parametrize("chosen", [0.7, 0.95, None])
def test_the_drawing_stays_inside_and_names_itself(chosen: float | None) -> None:
    curve = threshold_curve(TRUTH, P, title="<b>Refund</b> & more", chosen=chosen)
    root = ElementTree.fromstring(standalone(threshold_plot(curve), "", threshold_sentence(curve)))
    assert root.get("aria-label") == threshold_sentence(curve)
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    points = [tuple(map(float, pair.split(","))) for shape in root.iter() for pair in shape.get("points", "").split()]
    assert points and all(0 <= x <= width and 0 <= y <= height for x, y in points)
    assert height <= 600
    assert sum(shape.tag.endswith("circle") for shape in root.iter()) == {0.7: 2, 0.95: 1, None: 0}[chosen]

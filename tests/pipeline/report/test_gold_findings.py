"""Findings about the data set, with planted values."""

from __future__ import annotations

import pytest

from marginalia.pipeline.report.gold_findings import agreement_finding
from marginalia.schemas.agreement_json import Estimate


@pytest.mark.parametrize(
    ("alpha", "grade"),
    [
        ((0.9, 0.82, 0.95), "Annotators agree well enough to rely on the labels"),
        ((0.81, 0.7, 0.9), "Annotators agree well enough for tentative conclusions"),
        ((0.7, 0.6, 0.8), "Annotators may not agree well enough for tentative conclusions"),
        ((0.5, 0.4, 0.6), "Annotators disagree too much to rely on single labels"),
        ((0.9, None, None), "Too few records have two answers to say whether annotators agree well enough"),
    ],
)
def test_agreement(alpha: tuple[float, float | None, float | None], grade: str) -> None:
    value, low, high = alpha
    assert agreement_finding(Estimate(value=value, low=low, high=high, n=40), None).sentence.startswith(
        f"{grade}: alpha of whole label sets (MASI) {value:.2f}"
    )


def test_each_alpha_is_named() -> None:
    """0.53 next to a lowest label of 0.60 is no contradiction: they are different measures."""
    estimate = Estimate(value=0.53, low=0.45, high=0.61, n=40)
    assert agreement_finding(estimate, ("Late delivery", 0.6)).sentence.endswith(
        ": alpha of whole label sets (MASI) 0.53 (0.45 to 0.61); of single labels, Late delivery has the lowest alpha "
        "(0.60)"
    )

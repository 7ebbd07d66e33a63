"""The function that all findings come from: yes, no, cannot tell, not computed."""

from __future__ import annotations

import numpy as np
import pytest

from marginalia.schemas.evaluation_json import Metric
from marginalia.scoring.measures.conclusions import Answer, Rule, above_other, compare, conclude, range_is_wide

NAN = float("nan")


@pytest.mark.parametrize(
    ("estimate", "interval", "rule", "answer"),
    [
        (0.9, (0.8, 0.95), "above", "yes"),
        (0.9, (0.8, 0.95), "at least", "yes"),
        (0.9, (0.8, 0.95), "below", "no"),
        (0.3, (0.2, 0.4), "above", "no"),
        (0.3, (0.2, 0.4), "at least", "no"),
        (0.3, (0.2, 0.4), "below", "yes"),
        (0.6, (0.4, 0.8), "above", "cannot tell"),
        (0.6, (0.4, 0.8), "below", "cannot tell"),
        (0.6, (0.4, 0.8), "at least", "cannot tell"),
        # ties with the baseline 0.5
        (0.6, (0.5, 0.8), "above", "cannot tell"),
        (0.6, (0.5, 0.8), "at least", "yes"),
        (0.6, (0.5, 0.8), "below", "no"),
        (0.4, (0.2, 0.5), "above", "no"),
        (0.4, (0.2, 0.5), "at least", "cannot tell"),
        (0.4, (0.2, 0.5), "below", "cannot tell"),
        (0.5, (0.5, 0.5), "above", "no"),
        (0.5, (0.5, 0.5), "below", "no"),
        (0.5, (0.5, 0.5), "at least", "yes"),
        (None, (0.4, 0.8), "above", "not computed"),
        (0.9, (None, 0.95), "above", "not computed"),
        (0.9, (0.8, None), "below", "not computed"),
        (NAN, (0.8, 0.9), "at least", "not computed"),
    ],
)
def test_every_answer(
    estimate: float | None, interval: tuple[float | None, float | None], rule: Rule, answer: Answer
) -> None:
    assert conclude(estimate, 0.5, interval, rule) == answer
    assert conclude(estimate, None, interval, rule) == "not computed"


def test_the_interval_is_widened_by_the_bounds() -> None:
    clear = Metric(value=0.6, low=0.55, high=0.65, n=9)
    assert compare(clear, 0.5, "above") == "yes"
    for low, answer in ((0.56, "yes"), (0.54, "cannot tell")):
        bounded = clear.model_copy(update={"range_low": low, "range_high": 0.61})
        assert compare(bounded, 0.5, "above") == answer
    assert compare(None, 0.5, "above") == "not computed"


def test_a_range_is_wide_above_a_third_of_the_interval() -> None:
    metric = Metric(value=0.6, low=0.5, high=0.8, n=9, range_low=0.55, range_high=0.64)
    assert not range_is_wide(metric)
    assert range_is_wide(metric.model_copy(update={"range_high": 0.66}))
    assert range_is_wide(Metric(value=0.6, n=9, range_low=0.55, range_high=0.64))
    assert not range_is_wide(Metric(value=0.6, low=0.5, high=0.8, n=9))


def test_with_many_comparisons_few_sets_have_a_false_finding() -> None:
    """20 equal groups, each with its interval: the two most different ones are reported as different in at most 5 % of
    sets."""
    rng = np.random.default_rng(3)
    alone = together = 0
    for _ in range(400):
        result = [Metric(value=v, low=v - 1.96, high=v + 1.96, n=9) for v in rng.normal(size=20)]
        low, high = min(result, key=lambda metric: metric.value or 0), max(result, key=lambda metric: metric.value or 0)
        alone += above_other(low, high, comparisons=1, confidence=0.95) == "yes"
        together += above_other(low, high, comparisons=190, confidence=0.95) == "yes"
    assert together <= 20
    assert alone > 200
    assert above_other(result[0], Metric(value=1.0, n=3), comparisons=1, confidence=0.95) == "not computed"
    assert above_other(Metric(value=0.2, low=0.1, high=0.3, n=9), Metric(value=0.7, low=0.6, high=0.8, n=9),
                       comparisons=3, confidence=0.95) == "yes"  # fmt: skip

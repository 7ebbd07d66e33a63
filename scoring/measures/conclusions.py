"""What can be concluded from a number with an interval. Every finding in reports comes from `conclude`.

A number is uncertain for two reasons: other records would give another value (`low`, `high`: the sampling interval),
and the probabilities that it is computed from are only known within bounds (`range_low`, `range_high`). A finding must
hold for both, so the interval is widened on each side by how far the bounds let the value move."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Literal, Protocol

Answer = Literal["yes", "no", "cannot tell", "not computed"]
Rule = Literal["above", "below", "at least"]
Ends = tuple[float | None, float | None]
# The one limit of few records: from fewer, nothing is concluded, a share of fewer cases is shown as a count, and the
# terminal, the report and the card say that numbers are imprecise. The exact 95 % interval of 15 of 30 is 0.31 to 0.69.
FEW_RECORDS = 30
WIDE = 1 / 3  # a range is shown if it is wider than this share of the sampling interval


class Estimated(Protocol):
    """A value with an interval: `Metric` of evaluation.json, `Estimate` of agreement.json."""

    @property
    def value(self) -> float | None:
        """None where it could not be computed."""
        ...

    @property
    def low(self) -> float | None:
        """The interval's lower end; None where there is none."""
        ...

    @property
    def high(self) -> float | None:
        """The interval's upper end; None where there is none."""
        ...


def conclude(estimate: float | None, baseline: float | None, interval: Ends, rule: Rule) -> Answer:
    """Whether the true value is above, below or at least (`rule`) the baseline, according to its interval.

    `yes` or `no` when that is the answer for every value of the interval, ends included, else `cannot tell`. A value
    equal to the baseline is `at least` it, and neither `above` nor `below`. `not computed` when the estimate, the
    baseline or an end of the interval is missing."""
    numbers = (estimate, baseline, *interval)
    if any(number is None or math.isnan(number) for number in numbers):
        return "not computed"
    _, base, low, high = (float(number) for number in numbers if number is not None)
    if rule == "below":
        base, low, high = -base, -high, -low
    always, never = (low >= base, high < base) if rule == "at least" else (low > base, high <= base)
    return "yes" if always else "no" if never else "cannot tell"


def interval_of(estimate: Estimated, *, wider: float = 1.0) -> Ends:
    """The sampling interval, stretched by the factor `wider` on both sides of the value, then widened by how far the
    bounds of the probabilities let the value move."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return None, None
    below, above = _bounds_add(estimate)
    down, up = wider * (estimate.value - estimate.low), wider * (estimate.high - estimate.value)
    return estimate.value - down - below, estimate.value + up + above


def _bounds_add(estimate: Estimated) -> tuple[float, float]:
    """How far the bounds of the probabilities let the value move down and up; 0 where it has no range."""
    low, high = range_of(estimate)
    if estimate.value is None or low is None or high is None:
        return 0.0, 0.0
    return max(estimate.value - low, 0.0), max(high - estimate.value, 0.0)


def range_of(estimate: Estimated) -> Ends:
    """The range that the bounds of the probabilities allow; (None, None) where they are single numbers."""
    return getattr(estimate, "range_low", None), getattr(estimate, "range_high", None)


def range_is_wide(estimate: Estimated) -> bool:
    """Whether the bounds of the probabilities matter: their range is wider than a third of the sampling interval, or,
    without an interval, than 0.01."""
    low, high = range_of(estimate)
    if low is None or high is None:
        return False
    return high - low > (
        WIDE * (estimate.high - estimate.low) if estimate.low is not None and estimate.high is not None else 0.01
    )


def compare(
    estimate: Estimated | None, baseline: float, rule: Rule, *, comparisons: int = 1, confidence: float = 0.95
) -> Answer:
    """`conclude` for a value with its interval at that confidence; `not computed` without a value.

    When several `comparisons` are made and any of them may be reported, each interval is widened so that all hold at
    once with that confidence (Bonferroni: by the ratio of normal quantiles)."""
    if estimate is None:
        return "not computed"
    wider = _bonferroni_factor(comparisons, confidence)
    return conclude(estimate.value, baseline, interval_of(estimate, wider=wider), rule)


def above_other(first: Estimated, second: Estimated, *, comparisons: int, confidence: float) -> Answer:
    """Whether `second` is above `first`, two numbers from *different* records. The interval of their difference is
    computed from their own intervals (MOVER; Zou & Donner 2008), each widened as in `compare`."""
    wider = _bonferroni_factor(comparisons, confidence)
    (low_a, high_a), (low_b, high_b) = interval_of(first, wider=wider), interval_of(second, wider=wider)
    if first.value is None or second.value is None or None in (low_a, high_a, low_b, high_b):
        return "not computed"
    assert low_a is not None and high_a is not None and low_b is not None and high_b is not None
    difference = second.value - first.value
    down = math.hypot(second.value - low_b, high_a - first.value)
    up = math.hypot(high_b - second.value, first.value - low_a)
    return conclude(difference, 0.0, (difference - down, difference + up), "above")


def _bonferroni_factor(comparisons: int, confidence: float) -> float:
    normal, error = NormalDist(), 1 - confidence
    return normal.inv_cdf(1 - error / (2 * max(comparisons, 1))) / normal.inv_cdf(1 - error / 2)

"""What a number with its interval lets us say. Every finding that is shown comes from `conclude`.

A number may be uncertain in two ways: other records would give another one (`low`, `high`), and the probabilities that
it is computed from are only known within bounds (`range_low`, `range_high`). A finding has to hold for every value that
either allows, so the interval is widened by what the bounds add on each side."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Literal, Protocol

Answer = Literal["yes", "no", "cannot tell", "not computed"]
Rule = Literal["above", "below", "at least"]
Ends = tuple[float | None, float | None]
WIDE = 1 / 3  # of the sampling interval: a range above that is shown


class Estimated(Protocol):
    """A value with an interval: `Metric` of evaluation.json, `Estimate` of agreement.json."""

    @property
    def value(self) -> float | None: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


def conclude(estimate: float | None, baseline: float | None, interval: Ends, rule: Rule) -> Answer:
    """Whether the true value is `rule` the baseline, as far as its interval tells.

    `yes` and `no` when every value of the interval agrees, ends included: a value equal to the baseline is at least it,
    and neither above nor below. `not computed` when the estimate, the baseline or an end is missing."""
    numbers = (estimate, baseline, *interval)
    if any(number is None or math.isnan(number) for number in numbers):
        return "not computed"
    _, at, low, high = (float(number) for number in numbers if number is not None)
    if rule == "below":
        at, low, high = -at, -high, -low
    all_of_it, none_of_it = (low >= at, high < at) if rule == "at least" else (low > at, high <= at)
    return "yes" if all_of_it else "no" if none_of_it else "cannot tell"


def interval_of(found: Estimated, *, wider: float = 1.0) -> Ends:
    """The interval of records that might have been drawn, `wider` times as far from the value on both sides, and then
    widened by what the bounds of the probabilities allow."""
    if found.value is None or found.low is None or found.high is None:
        return None, None
    below, above = _bounds_add(found)
    down, up = wider * (found.value - found.low), wider * (found.high - found.value)
    return found.value - down - below, found.value + up + above


def _bounds_add(found: Estimated) -> tuple[float, float]:
    """How far the bounds of the probabilities let the value go down and up; 0 where it has no range."""
    low, high = range_of(found)
    if found.value is None or low is None or high is None:
        return 0.0, 0.0
    return max(found.value - low, 0.0), max(high - found.value, 0.0)


def range_of(found: Estimated) -> Ends:
    """The range that the bounds of the probabilities allow; (None, None) where they are single numbers."""
    return getattr(found, "range_low", None), getattr(found, "range_high", None)


def wide(found: Estimated) -> bool:
    """Whether the bounds of the probabilities matter: their range exceeds a third of the sampling interval; without an
    interval, whether it would be seen in two digits."""
    low, high = range_of(found)
    if low is None or high is None:
        return False
    return high - low > (WIDE * (found.high - found.low) if found.low is not None and found.high is not None else 0.01)


def compare(
    found: Estimated | None, baseline: float, rule: Rule, *, comparisons: int = 1, confidence: float = 0.95
) -> Answer:
    """`conclude` for a value with its interval at that confidence; `not computed` where there is none.

    Of several `comparisons`, any of which would be told, each interval is widened to the confidence that all need to
    hold at once (Bonferroni, by the ratio of normal quantiles)."""
    if found is None:
        return "not computed"
    wider = _wider(comparisons, confidence)
    return conclude(found.value, baseline, interval_of(found, wider=wider), rule)


def above_other(first: Estimated, second: Estimated, *, comparisons: int, confidence: float) -> Answer:
    """Whether `second` is above `first`, two numbers of *different* records. The interval of the difference comes from
    those of its parts (MOVER; Zou & Donner 2008), each widened as in `compare`."""
    wider = _wider(comparisons, confidence)
    (low_a, high_a), (low_b, high_b) = interval_of(first, wider=wider), interval_of(second, wider=wider)
    if first.value is None or second.value is None or None in (low_a, high_a, low_b, high_b):
        return "not computed"
    assert low_a is not None and high_a is not None and low_b is not None and high_b is not None
    difference = second.value - first.value
    down = math.hypot(second.value - low_b, high_a - first.value)
    up = math.hypot(high_b - second.value, first.value - low_a)
    return conclude(difference, 0.0, (difference - down, difference + up), "above")


def _wider(comparisons: int, confidence: float) -> float:
    normal, error = NormalDist(), 1 - confidence
    return normal.inv_cdf(1 - error / (2 * max(comparisons, 1))) / normal.inv_cdf(1 - error / 2)

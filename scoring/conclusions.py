"""What a number with its interval lets us say. Every finding that is shown comes from `conclude`.

A number may be uncertain in two ways: other records would give another one (`low`, `high`), and the probabilities that
it is computed from are only known within bounds (`range_low`, `range_high`). A finding has to hold for every value that
either allows, so the interval is widened by what the bounds add on each side."""

from __future__ import annotations

import math
from typing import Literal, Protocol

Answer = Literal["yes", "no", "cannot tell", "not computed"]
Rule = Literal["above", "below", "at least"]
Ends = tuple[float | None, float | None]


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


def interval_of(found: Estimated) -> Ends:
    """The interval of records that might have been drawn, widened by what the bounds of the probabilities allow."""
    if found.value is None or found.low is None or found.high is None:
        return None, None
    below, above = bounds_add(found)
    return found.low - below, found.high + above


def bounds_add(found: Estimated) -> tuple[float, float]:
    """How far the bounds of the probabilities let the value go down and up; 0 where they are not known to."""
    low, high = getattr(found, "range_low", None), getattr(found, "range_high", None)
    if found.value is None or low is None or high is None:
        return 0.0, 0.0
    return max(found.value - low, 0.0), max(high - found.value, 0.0)


def compare(found: Estimated | None, baseline: float, rule: Rule) -> Answer:
    """`conclude` for a value with its interval; `not computed` where there is none."""
    return "not computed" if found is None else conclude(found.value, baseline, interval_of(found), rule)


def apart(first: Estimated, second: Estimated, *, comparisons: int, confidence: float) -> Answer:
    """Whether `second` is above `first`, two numbers of *different* records, when the largest of so many differences is
    looked for: the interval of the difference from those of its parts (MOVER; Newcombe 1998, Zou & Donner 2008), each
    widened to the confidence that Bonferroni asks for."""
    from scipy.special import ndtri  # here: scipy takes a fifth of a second to import

    (low_a, high_a), (low_b, high_b) = interval_of(first), interval_of(second)
    if first.value is None or second.value is None or None in (low_a, high_a, low_b, high_b):
        return "not computed"
    error = 1 - confidence
    wider = float(ndtri(1 - error / (2 * max(comparisons, 1))) / ndtri(1 - error / 2))
    difference = second.value - first.value
    down = wider * math.hypot(second.value - float(low_b or 0), float(high_a or 0) - first.value)
    up = wider * math.hypot(float(high_b or 0) - second.value, first.value - float(low_a or 0))
    return conclude(difference, 0.0, (difference - down, difference + up), "above")

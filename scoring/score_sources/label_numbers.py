"""From the probabilities of a guard's categories to the estimates of a record's rows."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from marginalia.schemas.errors import ModelError
from marginalia.scoring.covered_estimates import of_separate_calls
from marginalia.scoring.label_categories import CoveredLabel
from marginalia.scoring.marginal.estimators import LabelEstimates
from marginalia.scoring.score_sources.source_guard import SourceGuard

ROUNDING = 1e-6  # by how much a probability in 32 bits may be outside [0, 1]


def probability(value: object, of: str) -> float:
    """`value` as a probability. Raises ModelError when it is none; `of` names it in the message."""
    try:
        number = math.nan if isinstance(value, bool | str) else float(value)  # type: ignore[arg-type]
    except (TypeError, OverflowError):  # an integer of hundreds of digits
        number = math.nan
    if not -ROUNDING <= number <= 1 + ROUNDING:  # also for NaN
        raise ModelError(f"the number for {of} is not a probability: {str(value)[:40]}")
    return min(max(number, 0.0), 1.0)


def estimates_of(
    guard: SourceGuard, numbers: Mapping[str, float], verdict: float | None, *, exclusive: bool
) -> LabelEstimates:
    """The estimates of the guard's rows, from those of the categories that it was asked about, by id.

    `verdict` is the probability of the row `unsafe`. Without it, that of exclusive classes is their sum. Other labels
    only bound it: at least one applies with at least the largest probability and at most their sum (Fréchet); the
    largest is reported."""
    total = min(sum(numbers.values()), 1.0)
    if verdict is not None:
        unsafe = (verdict, verdict, verdict)
    else:
        unsafe = (total, total, total) if exclusive else (max(numbers.values()), max(numbers.values()), total)
    labels = _labels(guard, numbers)
    return LabelEstimates(
        *(
            np.append(values, value)
            for values, value in zip((labels.probability, labels.lower, labels.upper), unsafe, strict=True)
        )
    )


def predicted_labels(guard: SourceGuard, positive: set[str]) -> list[str]:
    """The labels that apply if these categories do. None applies that is only a part of a category."""
    if guard.covered is None:
        return [label for label in guard.labels if label in positive]
    return [label.label for label in guard.covered if positive & set(label.any_of)]


def _labels(guard: SourceGuard, numbers: Mapping[str, float]) -> LabelEstimates:
    points = {name: np.array([number]) for name, number in numbers.items()}
    if guard.covered is None:
        values = np.concatenate([points[label] for label in guard.labels])
        return LabelEstimates(values, values, values)
    if guard.file.are_exclusive:
        return _sums(numbers, guard.covered)
    calls = {name: LabelEstimates(point, point, point) for name, point in points.items()}
    return of_separate_calls(calls, guard.covered, certain=False)


def _sums(numbers: Mapping[str, float], covered: tuple[CoveredLabel, ...]) -> LabelEstimates:
    """The estimates of labels that consist of exclusive classes: sums of their probabilities."""
    rows = []
    for label in covered:
        inside, named = (min(sum(numbers[name] for name in names), 1.0) for names in (label.any_of, label.named))
        rows.append((np.nan if label.part_of else inside, inside, named if label.part_of else inside))
    return LabelEstimates(*(np.array(column) for column in zip(*rows, strict=True)))

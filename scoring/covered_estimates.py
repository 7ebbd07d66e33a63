"""From the estimates of a guard's categories to those of the policy's labels, which consist of them (`categories`).

One call that names categories gives the probability of a union of them exactly. Separate calls do not: the probability
that at least one of several categories applies is at least the largest of theirs and at most their sum (Fréchet)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from marginalia.scoring.label_categories import CoveredLabel
from marginalia.scoring.marginal.estimators import LabelEstimates


def of_labels(unions: LabelEstimates, covered: Sequence[CoveredLabel]) -> LabelEstimates:
    """The estimates of the labels and the verdict, from those of the rows of `union_rows` and the verdict. The
    probability of a label with only bounds is NaN."""
    probability, lower, upper = [], [], []
    row = 0
    for label in covered:
        last = row + bool(label.part_of)
        probability.append(np.nan if label.part_of else unions.probability[row])
        lower.append(unions.lower[row])
        upper.append(unions.upper[last])
        row = last + 1
    return LabelEstimates(
        *(
            np.append(values, all_rows[row])
            for values, all_rows in (
                (probability, unions.probability),
                (lower, unions.lower),
                (upper, unions.upper),
            )
        )
    )


def labels_in(rows: Collection[int], covered: Sequence[CoveredLabel]) -> list[str]:
    """The labels that an answer has for certain, if it completes these rows of `union_rows`."""
    found, row = [], 0
    for label in covered:
        if row in rows:
            found.append(label.label)
        row += 2 if label.part_of else 1
    return found


def of_separate_calls(
    calls: Mapping[str, LabelEstimates], covered: Sequence[CoveredLabel], *, certain: bool
) -> LabelEstimates:
    """The estimates of the labels, from those of the verdict in each category's own call. `certain`: they are 0 or 1
    without doubt, so that those of a union are too."""

    def union(categories: Sequence[str]) -> tuple[float, float, float]:
        values = [tuple(float(getattr(calls[name], part)[0]) for part in PARTS) for name in categories]
        probability, lower, upper = (tuple(column) for column in zip(*values, strict=True))
        if certain:
            return max(probability), max(lower), max(upper)
        return probability[0] if len(values) == 1 else np.nan, max(lower), min(sum(upper), 1.0)

    columns = []
    for label in covered:
        inside = union(label.any_of) if label.any_of else (0.0, 0.0, 0.0)
        columns.append((np.nan, inside[1], union(label.named)[2]) if label.part_of else inside)
    probability, lower, upper = (np.array(column) for column in zip(*columns, strict=True))
    return LabelEstimates(probability, lower, upper)


PARTS = ("probability", "lower", "upper")

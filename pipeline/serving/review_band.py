"""From which probability a label is reviewed: by costs, and by how many records people can review."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from marginalia.schemas.calibration_json import Calibration
from marginalia.scoring.measures.calibration import apply
from marginalia.scoring.measures.intervals import Array, Flags


@dataclass(frozen=True)
class ScoreBounds:
    """The scores of n records: bounds (n, L) of the `labels`, and the probability of answers outside the format (n,),
    which is NaN where it is not known."""

    labels: Sequence[str]
    lower: Array
    upper: Array
    off_language: Array

    def rows(self, chosen: Flags) -> ScoreBounds:
        """The scores of these records."""
        return ScoreBounds(self.labels, self.lower[chosen], self.upper[chosen], self.off_language[chosen])

    def at(self, thresholds: Mapping[str, float]) -> tuple[Flags, Flags]:
        """(n,) each: records with a label whose lower bound is at or above its threshold; the same for upper
        bounds."""
        columns = [column for column, label in enumerate(self.labels) if label in thresholds]
        at = np.array([thresholds[self.labels[column]] for column in columns])
        surely, perhaps = ((side[:, columns] >= at).any(1) for side in (self.lower, self.upper))
        return np.asarray(surely, dtype=bool), np.asarray(perhaps, dtype=bool)


def reviewed(scores: ScoreBounds, block: Mapping[str, float], review: Mapping[str, float], off_format: float) -> Flags:
    """(n,): the records that a profile with these thresholds sends to review, where straddling bounds and answers with
    the share `off_format` outside the format are reviewed."""
    blocked, perhaps_blocked = scores.at(block)
    outside = scores.off_language >= off_format  # False for NaN
    return ~blocked & (perhaps_blocked | scores.at(review)[1] | outside)


def cost_threshold(cost_miss: float, cost_false_alarm: float) -> float:
    """The calibrated probability from which a flag costs less than none: p · miss ≥ (1 − p) · false alarm."""
    return cost_false_alarm / (cost_miss + cost_false_alarm)


def review_from(
    scores: ScoreBounds,
    block: Mapping[str, float],
    labels: Sequence[str],
    calibration: Calibration,
    off_format: float,
    *,
    least: float,
    share: float,
) -> dict[str, float]:
    """Label → the uncalibrated probability from which it is reviewed, so that at most `share` of these records are.

    All labels start at the same calibrated probability: `least`, or where that is too many records the next higher
    one at which it is not, because the most probable labels are the most costly to miss. A label that would start at or
    above its threshold for `block`, or that never gets that probable, is left out."""
    always = reviewed(scores, block, {}, off_format)
    decided = scores.at(block)[0] | always
    columns = [column for column, label in enumerate(scores.labels) if label in labels]
    if not columns:
        return {}
    calibrated = np.column_stack(
        [apply(calibration, scores.labels[column], scores.upper[:, column]) for column in columns]
    )
    highest = np.sort(calibrated.max(1)[~decided])[::-1] if len(calibrated) else np.array([])
    room = int(share * len(scores.off_language)) - int(always.sum())
    candidates = highest[highest >= least]
    start = least
    if len(candidates) > room:
        if room <= 0:
            return {}
        too_many = candidates[room]
        higher = candidates[candidates > too_many]
        if not len(higher):
            return {}
        start = float(higher.min())
    starts = {label: _uncalibrated(calibration, label, start) for label in labels}
    return {label: at for label, at in starts.items() if at is not None and at < block.get(label, np.inf)}


def _uncalibrated(calibration: Calibration, label: str, calibrated: float) -> float | None:
    """The smallest probability that the label's map takes to `calibrated` or above; None when there is none."""
    low, high = 0.0, 1.0
    if apply(calibration, label, high) < calibrated:
        return None
    if apply(calibration, label, low) >= calibrated:
        return low
    while low < (middle := (low + high) / 2) < high:
        low, high = (low, middle) if apply(calibration, label, middle) >= calibrated else (middle, high)
    return high

"""Thresholds: a label is flagged when its probability ≥ threshold. Chosen on one split, evaluated on another.

`max_f1` maximises F1 on the calibration split. `precision >= x` and `false_positive_rate <= y` hold with a stated
confidence, by fixed-sequence Learn-then-Test (Angelopoulos et al. 2021): a grid of thresholds that was fixed before any
outcome was seen is tested from the strictest down with exact binomial (Clopper-Pearson) bounds, and the last threshold
before the first failure is chosen; if none passes, the goal is not attainable with these records. The guarantee is for
each label separately, and for records like those of the calibration split."""

from __future__ import annotations

import math

import numpy as np

from marginalia.schemas.evaluation_json import Metric, Outcome, Split, Threshold
from marginalia.scoring.measures.cell_means import judged_or_all
from marginalia.scoring.measures.intervals import Array, Flags, lower_bound, share_of_values, upper_bound

Cells = tuple[Flags, Array, Flags | None]  # (truth, p, which cells were judged; None: all)
# even steps of log-odds from 1 − 1e-6 down to 1e-6, then 0; fixed before any record is seen
NO_NEGATIVES = "no negatives on the calibration split"
GRID = np.r_[1 / (1 + np.exp(-np.arange(13.8, -13.81, -0.05))), 0.0]


def best_f1(truth: Flags, p: Array) -> float | None:
    """The threshold of highest F1 over flat `truth` and `p`, halfway between two neighbouring scores.

    Of equally good ones it is the highest, which flags least. None without positives."""
    positives = int(truth.sum())
    if positives == 0:
        return None
    order = np.argsort(-p, kind="stable")
    ordered = p[order]
    ends = np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], True])
    tp = np.cumsum(truth[order])[ends]
    best = int(np.argmax(2 * tp / (ends + 1 + positives)))
    at = float(ordered[ends[best]])
    if best + 1 == len(ends):
        return at
    between = (at + float(ordered[ends[best] + 1])) / 2
    return between if between > ordered[ends[best] + 1] else at  # adjacent floats have none between them


def precision_at_least(truth: Flags, p: Array, target: float, *, confidence: float) -> tuple[float | None, str | None]:
    """(the lowest threshold whose precision is at least `target` with that confidence, None), or (None, the reason).

    Thresholds that flag too few records to show it even without any error are skipped; this looks at scores only, so it
    does not invalidate the tests."""
    fewest = math.ceil(math.log(1 - confidence) / math.log(target))
    lowest: float | None = None
    ordered = np.sort(p)
    for threshold in GRID:
        n = len(p) - int(np.searchsorted(ordered, threshold, side="left"))
        if n < fewest:
            continue
        if lower_bound(int(truth[p >= threshold].sum()), n, error=1 - confidence) < target:
            break
        lowest = float(threshold)
    if lowest is not None:
        return lowest, None
    if len(p) < fewest:
        return None, f"not attainable: needs at least {fewest} flagged records; the split has {len(p)} in all"
    return None, f"not attainable at {confidence:.0%} confidence; the split has {_positives(int(truth.sum()))}"


def false_positive_rate_at_most(
    truth: Flags, p: Array, target: float, *, confidence: float
) -> tuple[float | None, str | None]:
    """(the lowest threshold whose false-positive rate is at most `target` with that confidence, None), or (None, the
    reason)."""
    negatives = np.sort(p[~truth])
    n = len(negatives)
    fewest = math.ceil(math.log(1 - confidence) / math.log(1 - target))
    if n < fewest:
        return None, f"not attainable: needs at least {fewest} records without the label; the split has {n}"
    lowest: float | None = None
    for threshold in GRID:
        wrong = n - int(np.searchsorted(negatives, threshold, side="left"))
        if upper_bound(wrong, n, error=1 - confidence) > target:
            break
        lowest = float(threshold)
    if lowest is None:
        return None, f"not attainable at {confidence:.0%} confidence; too many records without the label score near 1"
    return lowest, None


def outcome(
    truth: Flags, p: Array, threshold: float, *, split: Split, confidence: float, judged: Flags | None = None
) -> Outcome:
    """The threshold's precision, recall and false-positive rate on `truth` and `p`, each (n,) or (n, L), with the
    intervals of `share_of_values`, and F1 without one. `judged`: which values were judged; None if all were."""
    judged = judged_or_all(truth, judged)
    if truth.ndim == 1:
        truth, p, judged = truth[:, None], p[:, None], judged[:, None]
    positive, negative, flagged = truth & judged, ~truth & judged, (p >= threshold) & judged
    n = int(judged.sum())
    tp, n_flagged, positives = int((positive & flagged).sum()), int(flagged.sum()), int(positive.sum())
    total = n_flagged + positives  # 2 · true positives + false positives + false negatives
    f1 = 2 * tp / total if total else None
    return Outcome(
        split=split,
        n=n,
        positives=positives,
        flagged=n_flagged,
        precision=share_of_values(positive & flagged, flagged, confidence=confidence, undefined="nothing flagged"),
        recall=share_of_values(positive & flagged, positive, confidence=confidence, undefined="no positives"),
        f1=Metric(value=f1, n=n, reason=None if total else "nothing flagged, no positives"),
        false_positive_rate=share_of_values(
            negative & flagged, negative, confidence=confidence, undefined="no negatives"
        ),
    )


def label_thresholds(
    chosen_on: tuple[Flags, Array],
    judged_on: tuple[Flags, Array],
    *,
    overall: float | None,
    precision_targets: list[float],
    false_positive_targets: list[float],
    min_positives: int,
    confidence: float,
) -> list[Threshold]:
    """The threshold for each goal, for one label. With fewer than `min_positives` positives, or without negatives,
    max_f1 is the `overall` threshold, with the reason. Without negatives every threshold has precision 1, so none is
    chosen for a precision.

    chosen_on: (truth, p), each (n,), of the records of the calibration split in which the label was judged; judged_on:
    those of the test split."""
    truth, p = chosen_on
    positives = int(truth.sum())
    only_positives = len(truth) > 0 and positives == len(truth)
    goals = []
    if positives < min_positives or only_positives:
        why = f"{_positives(positives)} on the calibration split; at least {min_positives} are required"
        why = NO_NEGATIVES if only_positives else why
        goals.append(
            Threshold(goal="max_f1", threshold=overall, source="global", reason=why, chosen_on=None, judged_on=None)
        )
    else:
        goals.append(_own("max_f1", best_f1(truth, p), None))
    for target in precision_targets:
        found = (None, NO_NEGATIVES) if only_positives else precision_at_least(truth, p, target, confidence=confidence)
        goals.append(_own(f"precision >= {target:g}", *found))
    for target in false_positive_targets:
        goal = f"false_positive_rate <= {target:g}"
        goals.append(_own(goal, *false_positive_rate_at_most(truth, p, target, confidence=confidence)))
    return [
        with_outcomes(threshold, (*chosen_on, None), (*judged_on, None), confidence=confidence) for threshold in goals
    ]


def with_outcomes(threshold: Threshold, chosen_on: Cells, judged_on: Cells, *, confidence: float) -> Threshold:
    """The same threshold with its outcome on the split that it was chosen on and on the test split."""
    if threshold.threshold is None:
        return threshold
    at = threshold.threshold

    def outcome_on(split: Split, cells: Cells) -> Outcome:
        truth, p, judged = cells
        return outcome(truth, p, at, split=split, confidence=confidence, judged=judged)

    outcomes = {"chosen_on": outcome_on("calibration", chosen_on), "judged_on": outcome_on("test", judged_on)}
    return threshold.model_copy(update=outcomes)


def _positives(count: int) -> str:
    return f"{count} positive" if count == 1 else f"{count} positives"


def _own(goal: str, threshold: float | None, reason: str | None) -> Threshold:
    return Threshold(goal=goal, threshold=threshold, source="label", reason=reason, chosen_on=None, judged_on=None)

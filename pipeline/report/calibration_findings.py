"""Findings about a guard's probabilities: whether they are calibrated, and the guard next to single annotators."""

from __future__ import annotations

from marginalia.pipeline.report.as_text import calibration_method, number, percent, plural, with_interval
from marginalia.pipeline.report.as_text import share as share_text
from marginalia.pipeline.report.finding import Finding, answered
from marginalia.schemas.evaluation_json import CalibrationQuality, CalibrationReport, Metric, SoftMetrics
from marginalia.scoring.measures.conclusions import FEW_RECORDS, Answer, compare, conclude

FEW_OF_A_CLASS = 10  # with fewer positives or negatives, "no evidence of miscalibration" would say nothing
BRIER_CHANGES = {
    "yes": " and clearly lowers the Brier score",
    "no": " and clearly raises the Brier score",
    "cannot tell": " without a clear change of the Brier score",
    "not computed": "",
}


def calibration_finding(report: CalibrationReport) -> Finding:
    """Are the probabilities miscalibrated by more than chance explains? Says what recalibration changes.

    `no`: the calibration error of enough records is within what calibrated probabilities reach by chance."""
    raw = report.raw
    if raw is None or raw.ece.value is None:
        return Finding("not computed", "There are no test records to judge calibration on")
    answer = _miscalibrated(raw)
    sentence = _calibrated(report, raw, answer)
    top = max(raw.bins, key=lambda bin_: bin_.mean_probability, default=None)
    if top is not None and raw.n >= FEW_RECORDS:
        right = Metric(value=top.share_positive, low=top.low, high=top.high, n=top.n)
        highest = f"the highest probabilities ({percent(top.mean_probability)} on average)"
        sentence += f"; of the labels with {highest}, {share_text(right)} apply"
    after = report.recalibrated
    if after is None or after.ece.value is None:
        return Finding(answer, sentence)
    lower, higher = compare(report.improvement, 0.0, "above"), compare(report.improvement, 0.0, "below")
    return Finding(
        answer,
        f"{sentence}; {calibration_method(report.method)} recalibration changes the ECE from {_small(raw.ece.value)} "
        f"to {_small(after.ece.value)}{BRIER_CHANGES[answered(lower, higher)]}",
    )


def _calibrated(report: CalibrationReport, raw: CalibrationQuality, answer: Answer) -> str:
    mean_probability = sum(bin_.n * bin_.mean_probability for bin_ in raw.bins) / raw.n
    means = f"{percent(mean_probability)} on average, while {percent(raw.positives / raw.n)} of labels apply"
    ece = f"ECE {_small(raw.ece.value or 0.0)}"
    if answer == "not computed":
        return f"The calibration of the guard's probabilities could not be tested ({ece})"
    if answer == "cannot tell" and _has_few(raw):
        return (
            f"Too few records to say whether the guard's probabilities are calibrated ({ece}; calibrated ones reach up "
            f"to {number(raw.ece_if_calibrated)} by chance)"
        )
    if answer != "yes":
        return f"No evidence that the guard's probabilities are miscalibrated ({ece})"
    direction = answered(compare(report.bias, 0.0, "above"), compare(report.bias, 0.0, "below"))
    if direction in ("yes", "no"):
        return f"Probabilities are too {'high' if direction == 'yes' else 'low'}: {means}"
    return f"Probabilities are not calibrated ({ece}): {means}"


def _small(value: float) -> str:
    """A number that is never shown as 0.00 unless it is 0."""
    return "under 0.01" if 0 < value < 0.005 else number(value)


def _miscalibrated(quality: CalibrationQuality) -> Answer:
    """Whether the ECE is above the one that calibrated probabilities reach by chance.

    That limit is a quantile and has no interval, so only the range of the ECE matters."""
    ece = quality.ece
    allowed = (ece.value, ece.value) if ece.range_low is None else (ece.range_low, ece.range_high)
    answer = conclude(ece.value, quality.ece_if_calibrated, allowed, "above")
    if quality.n < FEW_RECORDS:
        return "not computed"
    return "cannot tell" if answer == "no" and _has_few(quality) else answer


def _has_few(quality: CalibrationQuality) -> bool:
    """Whether so few values are positive or negative that probabilities far off could pass as calibrated."""
    return min(quality.positives, quality.n - quality.positives) < FEW_OF_A_CLASS


def label_calibration_finding(report: CalibrationReport, names: dict[str, str]) -> Finding:
    """Is any label miscalibrated by more than chance explains? Names the one of the largest ECE.

    `no`: no label is, and each tested one has enough records."""
    answers = {label: _miscalibrated(quality) for label, quality in report.labels_raw.items()}
    known = [label for label, answer in answers.items() if answer != "not computed"]
    off = [label for label in known if answers[label] == "yes"]
    if not known:
        return Finding("not computed", "The calibration of single labels could not be tested")
    if not off:
        few = sum(_has_few(report.labels_raw[label]) for label in known)
        enough = len(known) - few
        if not enough:
            sentence = f"Too few records to say whether the probabilities of {plural(few, 'label')} are calibrated"
        elif few:
            sentence = f"No evidence of miscalibration for {plural(enough, 'label')}; too few records to tell for {few}"
        else:
            sentence = f"No evidence of miscalibration for any of {plural(len(known), 'label')}"
        return Finding("no" if all(answers[label] == "no" for label in known) else "cannot tell", sentence)
    furthest = max(off, key=lambda label: report.labels_raw[label].ece.value or 0.0)
    gap = _calibration_gap(report.labels_raw[furthest])
    points = percent(abs(gap)).removesuffix(" %")
    direction = "high" if gap > 0 else "low"
    return Finding(
        "yes",
        f"For {len(off)} of {plural(len(known), 'label')} the calibration error is larger than chance explains; "
        f"{names.get(furthest, furthest)} has the largest (ECE {number(report.labels_raw[furthest].ece.value)}; "
        f"{points} percentage points too {direction} on average)",
    )


def _calibration_gap(quality: CalibrationQuality) -> float:
    """Mean probability minus the share of positives."""
    mean_probability = sum(bin_.n * bin_.mean_probability for bin_ in quality.bins) / quality.n
    return mean_probability - quality.positives / quality.n


def annotators_finding(soft: SoftMetrics, estimator: str) -> Finding:
    """Does the guard agree with single annotators less than they agree with each other? `no`: it agrees more."""
    guard, annotators, gap = (
        soft.metrics[name] for name in ("expected_micro_f1", "annotator_micro_f1", "f1_below_annotators")
    )
    sentence = (
        f"Measured against single annotators, {estimator} reaches an F1 of {with_interval(guard)} and another "
        f"annotator reaches {with_interval(annotators)}"
    )
    answer = answered(compare(gap, 0.0, "above"), compare(gap, 0.0, "below"))
    answer = "not computed" if gap.n < FEW_RECORDS else answer
    ends = {
        "yes": ": the guard is clearly below",
        "no": ": the guard is clearly above",
        "cannot tell": ": no clear difference",
        "not computed": "; too few records to compare them",
    }
    return Finding(answer, f"{sentence}{ends[answer]}")

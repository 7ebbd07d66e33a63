"""The sentences that say what a plot or table shows. All of them are computed from the numbers."""

from __future__ import annotations

from collections.abc import Sequence

from marginalia.pipeline.report.as_text import (
    BOUNDS_EXPLAIN,
    CHANCE,
    NAMES,
    against_chance,
    calibration_method,
    chance_metric,
    explained_by_bounds,
    joined,
    number,
    percent,
    plural,
    with_interval,
)
from marginalia.schemas.agreement_json import Estimate
from marginalia.schemas.evaluation_json import (
    CalibrationQuality,
    CalibrationReport,
    Confusion,
    EstimatorEvaluation,
    GuardEvaluation,
    Metric,
    NotJudged,
    ReviewPoint,
    Slice,
    SoftMetrics,
)
from marginalia.scoring.measures.conclusions import Answer, above_other, compare, conclude

FEW_OF_A_CLASS = 10  # with fewer positives or negatives, "no evidence of miscalibration" would say nothing
BRIER_CHANGES = {
    "yes": " and clearly lowers the Brier score",
    "worse": " and clearly raises the Brier score",
    "cannot tell": " without a clear change of the Brier score",
    "not computed": "",
}


def estimators_finding(guard: GuardEvaluation) -> str:
    """Title of the estimators' plot: how good the recommended estimator is, and which others are clearly worse."""
    candidates = [estimator for estimator in guard.estimators if not estimator.baseline]
    findings = {estimator.estimator: against_chance(chance_metric(estimator)[1]) for estimator in candidates}
    if not candidates or all(finding == "not known" for finding in findings.values()):
        return "Too few records to say how well any estimator ranks labels"
    if "better than chance" not in findings.values():
        return f"No estimator of {guard.guard} ranks labels clearly better than chance"
    best = next((estimator for estimator in candidates if estimator.estimator == guard.recommended), candidates[0])
    name, metric = chance_metric(best)
    sentence = f"{best.estimator} reaches a {name} of {with_interval(metric)}"
    tested = [row for row in guard.differences if row.tested and row.estimator in findings]
    beaten = [row.estimator for row in tested if row.finding == "worse" and row.reference == best.estimator]
    beaten += [row.reference for row in tested if row.finding == "better" and row.estimator == best.estimator]
    if not beaten:
        return sentence
    in_metric = "" if NAMES[tested[0].metric] == name else f" in {NAMES[tested[0].metric]}"
    return f"{sentence}, clearly better{in_metric} than {joined(beaten)}"


def tested_finding(tested: Sequence[str], primary: str) -> str:
    """Which metric of a table is tested; empty if none is. `tested`: the metrics of its tested rows; `primary`: that of
    the config, which has no interval where another one is tested."""
    names = list(dict.fromkeys(tested))
    if not names:
        return ""
    others = joined([NAMES[name] for name in names if name != primary] or [""])
    if primary not in names:
        return f"Only {others} is tested, because {NAMES[primary]} has no interval here"
    sentence = f"Only {NAMES[primary]} is tested"
    return f"{sentence}, or {others} where it has no interval" if others else sentence


def labels_finding(estimator: EstimatorEvaluation, names: dict[str, str], confidence: float) -> str:
    """Title of the plot by label. The confidence holds for all labels at once."""
    judged = [row for row in estimator.labels if row.n]
    measurable = sum(row.metrics["roc_auc"].low is not None for row in judged)
    answers = {
        row.label: compare(row.metrics["roc_auc"], CHANCE, "above", comparisons=measurable, confidence=confidence)
        for row in judged
    }
    known = [label for label, answer in answers.items() if answer != "not computed"]
    better = [label for label in known if answers[label] == "yes"]
    unknown = len(answers) - len(known)
    end = f"; {plural(unknown, 'label has', 'labels have')} too few records to tell" if unknown else ""
    if never := len(estimator.labels) - len(judged):
        end += f"; {plural(never, 'label was', 'labels were')} never judged"
    if not known:
        return "No label has enough records to say whether the guard recognises it"
    if len(better) == len(known):
        return f"All {len(known)} {'measurable ' if unknown else ''}labels are recognised better than chance{end}"
    lowest = min((row for row in judged if row.label in known), key=lambda row: row.metrics["roc_auc"].value or 0)
    lowest_auc = number(lowest.metrics["roc_auc"].value)
    end = f"; {names.get(lowest.label, lowest.label)} has the lowest ROC AUC ({lowest_auc}){end}"
    if not better:
        return f"None of {plural(len(known), 'label')} is recognised clearly better than chance{end}"
    verb = "is" if len(better) == 1 else "are"
    return f"{len(better)} of {plural(len(known), 'label')} {verb} recognised clearly better than chance{end}"


def calibration_finding(report: CalibrationReport) -> str:
    """Title of the reliability diagram: whether probabilities are calibrated, and what recalibration changes."""
    raw = report.raw
    if raw is None or raw.ece.value is None:
        return "There are no test records to judge calibration on"
    mean_probability = sum(bin_.n * bin_.mean_probability for bin_ in raw.bins) / raw.n
    means = f"{percent(mean_probability)} on average, while {percent(raw.positives / raw.n)} of labels apply"
    ece = f"ECE {number(raw.ece.value)}"
    off = _miscalibrated(raw)
    if off == "not computed":
        sentence = f"The calibration of the guard's probabilities could not be tested ({ece})"
    elif off != "yes" and _has_few(raw):
        sentence = (
            f"Too few records to say whether the guard's probabilities are calibrated ({ece}; calibrated ones reach up "
            f"to {number(raw.ece_if_calibrated)} by chance)"
        )
    elif off != "yes":
        sentence = f"No evidence that the guard's probabilities are miscalibrated ({ece})"
    elif (direction := _direction(report.bias)) is not None:
        sentence = f"Probabilities are {direction}: {means}"
    else:
        sentence = f"Probabilities are not calibrated ({ece}): {means}"
    after = report.recalibrated
    if after is None or after.ece.value is None:
        return sentence
    return (
        f"{sentence}; {calibration_method(report.method)} recalibration changes the ECE from {number(raw.ece.value)} "
        f"to {number(after.ece.value)}{BRIER_CHANGES[_brier_change(report.improvement)]}"
    )


def _miscalibrated(quality: CalibrationQuality) -> Answer:
    """Whether the ECE is above the one that calibrated probabilities reach by chance.

    That limit is a quantile and has no interval, so only the range of the ECE matters."""
    ece = quality.ece
    allowed = (ece.value, ece.value) if ece.range_low is None else (ece.range_low, ece.range_high)
    return conclude(ece.value, quality.ece_if_calibrated, allowed, "above")


def _has_few(quality: CalibrationQuality) -> bool:
    """Whether so few values are positive or negative that probabilities far off could pass as calibrated."""
    return min(quality.positives, quality.n - quality.positives) < FEW_OF_A_CLASS


def _direction(bias: Metric | None) -> str | None:
    if compare(bias, 0.0, "above") == "yes":
        return "too high"
    return "too low" if compare(bias, 0.0, "below") == "yes" else None


def _brier_change(improvement: Metric | None) -> str:
    better, worse = compare(improvement, 0.0, "above"), compare(improvement, 0.0, "below")
    return better if better in ("yes", "not computed") else "worse" if worse == "yes" else "cannot tell"


def label_calibration_finding(report: CalibrationReport, names: dict[str, str]) -> str:
    """Title of the small reliability diagrams: for how many labels the calibration error is more than chance."""
    answers = {label: _miscalibrated(quality) for label, quality in report.labels_raw.items()}
    known = [label for label, answer in answers.items() if answer != "not computed"]
    off = [label for label in known if answers[label] == "yes"]
    if not known:
        return "The calibration of single labels could not be tested"
    if not off:
        few = sum(_has_few(report.labels_raw[label]) for label in known)
        enough = len(known) - few
        if not enough:
            return f"Too few records to say whether the probabilities of {plural(few, 'label')} are calibrated"
        if few:
            return f"No evidence of miscalibration for {plural(enough, 'label')}; too few records to tell for {few}"
        return f"No evidence of miscalibration for any of {plural(len(known), 'label')}"
    gaps = {label: _calibration_gap(report.labels_raw[label]) for label in off}
    furthest = max(gaps, key=lambda label: abs(gaps[label]))
    points = percent(abs(gaps[furthest])).removesuffix(" %")
    direction = "high" if gaps[furthest] > 0 else "low"
    return (
        f"For {len(off)} of {plural(len(known), 'label')} the calibration error is larger than chance explains; "
        f"{names.get(furthest, furthest)} is furthest off ({points} percentage points too {direction} on average)"
    )


def _calibration_gap(quality: CalibrationQuality) -> float:
    """Mean probability minus the share of positives."""
    mean_probability = sum(bin_.n * bin_.mean_probability for bin_ in quality.bins) / quality.n
    return mean_probability - quality.positives / quality.n


def annotators_finding(soft: SoftMetrics, estimator: str) -> str:
    """Title of the plot that compares the guard with the annotators."""
    guard, annotators, gap = (
        soft.metrics[name] for name in ("expected_micro_f1", "annotator_micro_f1", "f1_below_annotators")
    )
    sentence = (
        f"Measured against single annotators, {estimator} reaches an F1 of {number(guard.value)} and another annotator "
        f"reaches {number(annotators.value)}"
    )
    below, above = compare(gap, 0.0, "above"), compare(gap, 0.0, "below")
    if below == "not computed":
        return sentence
    if below == "yes":
        return f"{sentence}: the guard is clearly below"
    return f"{sentence}: the guard is clearly above" if above == "yes" else f"{sentence}: no clear difference"


def slices_finding(slices: Sequence[Slice], confidence: float) -> str:
    """Title of the plot by attribute: the two values that are furthest apart, if any two are clearly apart."""
    measured = [row for row in slices if row.metrics["micro_roc_auc"].low is not None]
    pairs = [
        (low, high) for low in measured for high in measured if low.attribute == high.attribute and low is not high
    ]
    apart = [
        (low, high)
        for low, high in pairs
        if above_other(
            *(row.metrics["micro_roc_auc"] for row in (low, high)), comparisons=len(pairs) // 2, confidence=confidence
        )
        == "yes"
    ]
    if not pairs:
        return "Too few records share an attribute to say where the guard is worse"
    if not apart:
        return "No attribute makes a clear difference"
    low, high = max(apart, key=lambda pair: _auc(pair[1]) - _auc(pair[0]))
    attribute, low_auc, high_auc = low.attribute, number(_auc(low)), number(_auc(high))
    return f"The guard is clearly worse where {attribute} is {low.value} ({low_auc}) than {high.value} ({high_auc})"


def _auc(row: Slice) -> float:
    return row.metrics["micro_roc_auc"].value or 0.0


def frequency_finding(guard: GuardEvaluation, best: EstimatorEvaluation) -> str:
    """Title of the ROC curves: the recommended estimator, and whether it beats label frequencies alone."""
    values = {estimator.estimator: estimator.metrics["micro_roc_auc"] for estimator in guard.estimators}
    sentence = (
        f"Over all labels pooled, {best.estimator} has a micro ROC AUC of {with_interval(values[best.estimator])}"
    )
    frequency, row = values.get("label_frequency"), guard.against_frequency
    if frequency is None or frequency.value is None:
        return sentence
    value = number(frequency.value)
    if row is None or row.finding == "not known":
        return f"{sentence}; label frequencies alone reach {value}, and the difference could not be tested"
    if row.finding in ("better", "worse"):
        return f"{sentence}, clearly {row.finding} than label frequencies alone ({value})"
    explained = BOUNDS_EXPLAIN if explained_by_bounds(row.finding, row.difference) else ""
    return f"{sentence}, not clearly different from label frequencies alone ({value}){explained}"


def bounds_finding(guard: GuardEvaluation) -> str:
    """How much the bounds of the probabilities move the metrics, and what to set; empty without bounds."""
    bounds = guard.bounds
    if bounds is None:
        return ""
    text = (
        f"The probabilities of {guard.recommended} are certain to within {bounds.widest:.2g} "
        f"({bounds.mean:.2g} on average)"
    )
    if not bounds.wide:
        return f"{text}. No metric's range is wider than a third of its sampling interval"
    names = [NAMES[name] for name in bounds.wide]
    shown = joined(names if len(names) <= 4 else [*names[:3], f"{len(names) - 3} more"])
    text += f". This makes the range of {shown} wider than a third of the sampling interval"
    if bounds.tolerance is not None:
        text += f". Score again with score.tolerance: {bounds.tolerance:g}"
    if bounds.beyond:
        text += (
            f". {plural(bounds.beyond, 'record')} did not reach the tolerance: raise score.node_budget (this may not "
            "help with a server that returns only its most probable tokens)"
        )
    return text


def confusions_finding(pairs: Sequence[Confusion], names: dict[str, str]) -> str:
    """The most frequent confusion of two labels."""
    top = pairs[0]
    missed, given = names.get(top.gold, top.gold), names.get(top.predicted, top.predicted)
    if top.records == 1:
        return "No two labels are confused in more than one record"
    return f"The most frequent confusion: the guard misses {missed} and gives {given} ({plural(top.records, 'record')})"


def agreement_finding(alpha: Estimate, lowest: tuple[str, float] | None) -> str:
    """Title of the agreement plot, with grades after Krippendorff (2004): 0.800 reliable, 0.667 tentative.

    `alpha`: of the label sets (MASI). `lowest`: the label with the lowest nominal alpha, and this alpha."""
    if alpha.value is None:
        return "Agreement cannot be computed: too few records have two answers"
    reliable, tentative = compare(alpha, 0.8, "at least"), compare(alpha, 0.667, "at least")
    if reliable == "not computed":
        grade = "Too few records have two answers to say whether annotators agree well enough"
    elif reliable == "yes":
        grade = "Annotators agree well enough to rely on the labels"
    elif tentative == "yes":
        grade = "Annotators agree well enough for tentative conclusions"
    elif tentative == "no":
        grade = "Annotators disagree too much to rely on single labels"
    else:
        grade = "Annotators may not agree well enough for tentative conclusions"
    lowest_label = f"; of single labels, {lowest[0]} has the lowest alpha ({number(lowest[1])})" if lowest else ""
    return f"{grade}: alpha of whole label sets (MASI) {with_interval(alpha)}{lowest_label}"


def not_judged_finding(cells: NotJudged | None) -> str:
    """How many values were not judged and are left out; empty if all were judged, or if an older file does not say."""
    if cells is None or not cells.cells:
        return ""
    records = plural(cells.records, "record is", "records are")
    share = percent(cells.cells / cells.of_cells)
    return (
        f"{records} partly judged: {cells.cells:,} of {plural(cells.of_cells, 'record × label value')} "
        f"({share}) were not judged and are left out"
    )


def unknown_verdicts_finding(cells: NotJudged | None) -> str:
    """How many records are left out of the verdict and of the safe records; empty if there are none."""
    if cells is None or not cells.verdicts:
        return ""
    records = plural(cells.verdicts, "record has", "records have")
    return f"{records} no label, but not all labels were judged, so it is not known whether any applies"


def review_finding(points: Sequence[ReviewPoint]) -> str:
    """Title of the risk-coverage plot: what reviewing a fifth of the records achieves."""
    start, fifth = points[0], min(points, key=lambda point: abs(point.share_reviewed - 0.2))
    if start.subset_error_overall is None or fifth.subset_error_overall is None:
        return "There are no test records to plan reviews with"
    return (
        f"Reviewing the least certain {percent(fifth.share_reviewed)} of records lowers the share of wrong records "
        f"from {percent(start.subset_error_overall)} to {percent(fifth.subset_error_overall)}"
    )

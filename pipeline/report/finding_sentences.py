"""The sentences that say what a plot or table shows. Every one is computed from the numbers."""

from __future__ import annotations

from collections.abc import Sequence

from marginalia.pipeline.report.as_text import (
    BOUNDS_EXPLAIN,
    CHANCE,
    NAMES,
    against_chance,
    deciding,
    explained_by_bounds,
    listed,
    method,
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
    ReviewPoint,
    Slice,
    SoftMetrics,
)
from marginalia.scoring.measures.conclusions import Answer, above_other, compare, conclude

RECALIBRATED = {
    "yes": ", and the Brier score clearly down",
    "worse": ", and the Brier score clearly up",
    "cannot tell": ", without a clear change of the Brier score",
    "not computed": "",
}


def estimators_finding(page: GuardEvaluation) -> str:
    """The title of the estimators' plot."""
    shown = [each for each in page.estimators if not each.baseline]
    judged = {each.estimator: against_chance(deciding(each)[1]) for each in shown}
    better = [name for name, word in judged.items() if word == "better than chance"]
    if not shown or all(word == "not known" for word in judged.values()):
        return "Too few records to say how well any estimator ranks labels"
    if not better:
        return f"No estimator of {page.guard} tells labels apart clearly better than chance"
    best = next((each for each in shown if each.estimator == page.recommended), shown[0])
    name, metric = deciding(best)
    lead = f"{best.estimator} reaches a {name} of {with_interval(metric)}"
    tested = [row for row in page.differences if row.tested and row.estimator in judged]
    beaten = [row.estimator for row in tested if row.finding == "worse" and row.reference == best.estimator]
    beaten += [row.reference for row in tested if row.finding == "better" and row.estimator == best.estimator]
    if not beaten:
        return lead
    where = "" if NAMES[tested[0].metric] == name else f" in {NAMES[tested[0].metric]}"
    return f"{lead}, clearly better{where} than {listed(beaten)}"


def labels_finding(each: EstimatorEvaluation, names: dict[str, str], confidence: float) -> str:
    """The title of the per-label plot. What it says of the labels holds for all of them at once."""
    measurable = sum(page.metrics["roc_auc"].low is not None for page in each.labels)
    answers = {
        page.label: compare(page.metrics["roc_auc"], CHANCE, "above", comparisons=measurable, confidence=confidence)
        for page in each.labels
    }
    known = [label for label, answer in answers.items() if answer != "not computed"]
    better = [label for label in known if answers[label] == "yes"]
    unknown = len(answers) - len(known)
    tail = f"; {plural(unknown, 'label has', 'labels have')} too few records to tell" if unknown else ""
    if not known:
        return "No label has enough records to say whether the guard recognises it"
    if len(better) == len(known):
        return f"All {len(known)} {'measurable ' if unknown else ''}labels are recognised better than chance{tail}"
    lowest = min(
        (page for page in each.labels if page.label in known), key=lambda page: page.metrics["roc_auc"].value or 0
    )
    worst = f"{names.get(lowest.label, lowest.label)} is the lowest at {number(lowest.metrics['roc_auc'].value)}"
    if not better:
        return f"None of {plural(len(known), 'label')} is recognised clearly better than chance; {worst}{tail}"
    verb = "is" if len(better) == 1 else "are"
    return f"{len(better)} of {plural(len(known), 'label')} {verb} recognised clearly better than chance; {worst}{tail}"


def calibration_finding(report: CalibrationReport) -> str:
    """The title of the reliability diagram."""
    raw = report.raw
    if raw is None or raw.ece.value is None:
        return "There are no test records to judge calibration on"
    said = sum(part.n * part.mean_probability for part in raw.bins) / raw.n
    true = raw.positives / raw.n
    shown = f"ECE {number(raw.ece.value)}"
    off = _off(raw)
    if off == "not computed":
        text = f"Whether the guard's own probabilities are calibrated is not computed ({shown})"
    elif off != "yes":
        text = f"Nothing speaks against the guard's own probabilities ({shown})"
    elif (word := _direction(report.bias)) is not None:
        text = f"Probabilities are {word}: on average {percent(said)} where {percent(true)} comes true"
    else:
        text = (
            f"Probabilities are not calibrated ({shown}); on average {percent(said)} where {percent(true)} comes true"
        )
    after = report.recalibrated
    if after is None or after.ece.value is None:
        return text
    change = (
        f"{method(report.method)} recalibration takes ECE from {number(raw.ece.value)} to {number(after.ece.value)}"
    )
    return f"{text}; {change}{RECALIBRATED[_change(report.improvement)]}"


def _off(quality: CalibrationQuality) -> Answer:
    """Whether the calibration error is above what calibrated probabilities show by luck (which has no interval)."""
    ece = quality.ece
    allowed = (ece.value, ece.value) if ece.range_low is None else (ece.range_low, ece.range_high)
    return conclude(ece.value, quality.ece_if_calibrated, allowed, "above")


def _direction(bias: Metric | None) -> str | None:
    if compare(bias, 0.0, "above") == "yes":
        return "too high"
    return "too low" if compare(bias, 0.0, "below") == "yes" else None


def _change(improvement: Metric | None) -> str:
    better, worse = compare(improvement, 0.0, "above"), compare(improvement, 0.0, "below")
    return better if better in ("yes", "not computed") else "worse" if worse == "yes" else "cannot tell"


def label_calibration_finding(report: CalibrationReport, names: dict[str, str]) -> str:
    """The title of the small multiples: for how many labels the calibration error is more than luck."""
    answers = {label: _off(page) for label, page in report.labels_raw.items()}
    known = [label for label, answer in answers.items() if answer != "not computed"]
    off = [label for label in known if answers[label] == "yes"]
    if not known:
        return "Whether the probabilities of single labels are calibrated is not computed"
    if not off:
        return f"Nothing speaks against the guard's own probabilities for any of {plural(len(known), 'label')}"
    gaps = {label: _gap(report.labels_raw[label]) for label in off}
    furthest = max(gaps, key=lambda label: abs(gaps[label]))
    word = "high" if gaps[furthest] > 0 else "low"
    return (
        f"For {len(off)} of {plural(len(known), 'label')} the calibration error is above what calibrated probabilities "
        f"show 19 times in 20; furthest off on average is {names.get(furthest, furthest)} "
        f"({percent(abs(gaps[furthest]))} too {word})"
    )


def _gap(page: CalibrationQuality) -> float:
    """Mean probability less the share of positives."""
    return sum(part.n * part.mean_probability for part in page.bins) / page.n - page.positives / page.n


def annotators_finding(soft: SoftMetrics, estimator: str) -> str:
    """The title of the plot that puts the guard beside the annotators."""
    guard, people, gap = (
        soft.metrics[name] for name in ("expected_micro_f1", "annotator_micro_f1", "f1_below_annotators")
    )
    text = (
        f"Judged by single annotators, {estimator} reaches an F1 of {number(guard.value)} where another annotator "
        f"reaches {number(people.value)}"
    )
    below, above = compare(gap, 0.0, "above"), compare(gap, 0.0, "below")
    if below == "not computed":
        return text
    if below == "yes":
        return f"{text}: clearly below people"
    return f"{text}: clearly above" if above == "yes" else f"{text}: no clear difference"


def slices_finding(slices: Sequence[Slice], confidence: float) -> str:
    """The title of the plot by attribute: the pair of values that are furthest apart, if any are clearly so."""
    known = [one for one in slices if one.metrics["micro_roc_auc"].low is not None]
    pairs = [(low, high) for low in known for high in known if low.attribute == high.attribute and low is not high]
    apart = [
        (low, high)
        for low, high in pairs
        if above_other(
            *(one.metrics["micro_roc_auc"] for one in (low, high)), comparisons=len(pairs) // 2, confidence=confidence
        )
        == "yes"
    ]
    if not pairs:
        return "Too few records share an attribute to say where the guard does worse"
    if not apart:
        return "No attribute makes a clear difference"
    low, high = max(apart, key=lambda pair: _auc(pair[1]) - _auc(pair[0]))
    attribute, low_auc, high_auc = low.attribute, number(_auc(low)), number(_auc(high))
    return f"The guard does clearly worse where {attribute} is {low.value} ({low_auc}) than {high.value} ({high_auc})"


def _auc(one: Slice) -> float:
    return one.metrics["micro_roc_auc"].value or 0.0


def frequency_finding(page: GuardEvaluation, best: EstimatorEvaluation) -> str:
    """The title of the ROC curves: the recommended estimator, and whether it beats label frequencies alone."""
    values = {each.estimator: each.metrics["micro_roc_auc"] for each in page.estimators}
    lead = f"Over all labels pooled, {best.estimator} has a micro ROC AUC of {with_interval(values[best.estimator])}"
    frequency, row = values.get("label_frequency"), page.against_frequency
    if frequency is None or frequency.value is None:
        return lead
    value = number(frequency.value)
    if row is None or row.finding == "not known":
        return f"{lead}; label frequencies alone give {value}, and whether that differs is not computed"
    if row.finding in ("better", "worse"):
        clearly = "more" if row.finding == "better" else "less"
        return f"{lead}, clearly {clearly} than label frequencies alone give ({value})"
    explained = BOUNDS_EXPLAIN if explained_by_bounds(row.finding, row.difference) else ""
    return f"{lead}, not clearly different from label frequencies alone ({value}){explained}"


def bounds_finding(page: GuardEvaluation) -> str:
    """What the bounds of the probabilities do to the metrics, and the tolerance to score at; empty without bounds."""
    found = page.bounds
    if found is None:
        return ""
    text = (
        f"The probabilities of {page.recommended} are known to within {found.widest:.2g} (on average {found.mean:.2g})"
    )
    if not found.wide:
        return f"{text}; no metric's range exceeds a third of its sampling interval"
    named = [NAMES[name] for name in found.wide]
    shown = listed(named if len(named) <= 4 else [*named[:3], f"{len(named) - 3} more"])
    text += f", so the range of {shown} exceeds a third of the sampling interval"
    if found.tolerance is not None:
        text += f"; score again with score.tolerance: {found.tolerance:g}"
    if found.beyond:
        text += (
            f"; {plural(found.beyond, 'record')} stopped before the tolerance: raise score.node_budget (a server that "
            "tells only its most probable tokens sets its own limit)"
        )
    return text


def confusions_finding(pairs: Sequence[Confusion], names: dict[str, str]) -> str:
    """What the table of confusions shows first."""
    top = pairs[0]
    gold, said = names.get(top.gold, top.gold), names.get(top.predicted, top.predicted)
    if top.records == 1:
        return "No two labels are mixed up in more than one record"
    return f"Most often {gold} is missed and {said} given: {plural(top.records, 'record')}"


def agreement_finding(alpha: Estimate, lowest: tuple[str, float] | None) -> str:
    """The title of the agreement plot; grades after Krippendorff (2004): 0.800 reliable, 0.667 tentative."""
    if alpha.value is None:
        return "Agreement cannot be computed: too few records have two answers"
    reliable, tentative = compare(alpha, 0.8, "at least"), compare(alpha, 0.667, "at least")
    if reliable == "not computed":
        grade = "Too few records have two answers to say whether annotators agree well enough"
    elif reliable == "yes":
        grade = "Annotators agree well enough to rely on"
    elif tentative == "yes":
        grade = "Annotators agree well enough for tentative conclusions"
    elif tentative == "no":
        grade = "Annotators disagree too much to rely on single labels"
    else:
        grade = "Annotators may not agree well enough for tentative conclusions"
    tail = f"; least on {lowest[0]} ({number(lowest[1])})" if lowest is not None else ""
    return f"{grade}: alpha {with_interval(alpha)}{tail}"


def review_finding(points: Sequence[ReviewPoint]) -> str:
    """The title of the risk-coverage plot."""
    start, fifth = points[0], min(points, key=lambda point: abs(point.share_reviewed - 0.2))
    if start.subset_error_overall is None or fifth.subset_error_overall is None:
        return "There are no test records to plan reviews with"
    return (
        f"Reviewing the least certain {percent(fifth.share_reviewed)} of records takes the share of wrong records "
        f"from {percent(start.subset_error_overall)} to {percent(fifth.subset_error_overall)}"
    )

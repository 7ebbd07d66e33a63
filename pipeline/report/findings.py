"""The sentences that say what a plot or table shows. Every one is computed from the numbers."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.report.words import against_chance, deciding, listed, method, number, percent, plural, with_interval
from schemas.agreement import Estimate
from schemas.evaluation import (
    CalibrationReport,
    Confusion,
    EstimatorEvaluation,
    GuardEvaluation,
    ReviewPoint,
    Slice,
    SoftMetrics,
)


def estimators_finding(page: GuardEvaluation) -> str:
    """The title of the estimators' plot."""
    shown = [each for each in page.estimators if not each.baseline]
    judged = {each.estimator: against_chance(deciding(each)[1]) for each in shown}
    better = [name for name, word in judged.items() if word == "better than chance"]
    if not shown or all(word == "not known" for word in judged.values()):
        return "Too few records to say how well any estimator ranks labels"
    if not better:
        return f"No estimator of {page.guard} tells labels apart better than chance"
    clear = [row for row in page.differences if row.metric == "macro_roc_auc" and row.estimator in judged]
    worse = [row.estimator for row in clear if row.finding == "worse"]
    best = next((each for each in shown if each.estimator == page.recommended), shown[0])
    name, metric = deciding(best)
    lead = f"{best.estimator} reaches a {name} of {with_interval(metric)}"
    return f"{lead}, clearly above {listed(worse)}" if worse and clear[0].reference == best.estimator else lead


def labels_finding(each: EstimatorEvaluation, names: dict[str, str]) -> str:
    """The title of the per-label plot."""
    words = {page.label: against_chance(page.metrics["roc_auc"]) for page in each.labels}
    known = [label for label, word in words.items() if word != "not known"]
    better = [label for label in known if words[label] == "better than chance"]
    unknown = len(words) - len(known)
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
        return f"None of {plural(len(known), 'label')} is recognised better than chance; {worst}{tail}"
    return f"{len(better)} of {plural(len(known), 'label')} are recognised better than chance; {worst}{tail}"


def calibration_finding(report: CalibrationReport) -> str:
    """The title of the reliability diagram."""
    raw = report.raw
    if raw is None or raw.ece.value is None:
        return "There are no test records to judge calibration on"
    said = sum(part.n * part.mean_probability for part in raw.bins) / raw.n
    true = raw.positives / raw.n
    limit = raw.ece_if_calibrated
    if limit is not None and raw.ece.value <= limit:
        text = f"Nothing speaks against the guard's own probabilities (ECE {number(raw.ece.value)})"
    elif abs(said - true) < 0.02:
        text = f"Probabilities are right on average but not one by one (ECE {number(raw.ece.value)})"
    else:
        word = "too high" if said > true else "too low"
        text = f"Probabilities are {word}: on average {percent(said)} where {percent(true)} comes true"
    after = report.recalibrated
    if after is not None and after.ece.value is not None:
        verb = "brings ECE down from" if after.ece.value < raw.ece.value else "does not help: ECE goes from"
        text += f"; {method(report.method)} recalibration {verb} {number(raw.ece.value)} to {number(after.ece.value)}"
    return text


def label_calibration_finding(report: CalibrationReport, names: dict[str, str]) -> str:
    """The title of the small multiples: for which labels the guard says too much or too little."""
    off: dict[str, list[tuple[float, str]]] = {"too high": [], "too low": []}
    for label, page in report.labels_raw.items():
        ece, limit = page.ece.value, page.ece_if_calibrated
        if ece is None or limit is None or ece <= limit:
            continue
        said = sum(part.n * part.mean_probability for part in page.bins) / page.n
        gap = said - page.positives / page.n
        off["too high" if gap > 0 else "too low"].append((abs(gap), names.get(label, label)))
    total = len(report.labels_raw)
    found = [(word, rows) for word, rows in off.items() if rows]
    if not found:
        return f"Nothing speaks against the guard's own probabilities for any of {plural(total, 'label')}"
    parts = [f"{word} for {len(rows)}" for word, rows in found]
    worst = max((row for _, rows in found for row in rows), key=lambda row: row[0])
    return (
        f"Of {plural(total, 'label')}, probabilities are {' and '.join(parts)}; "
        f"furthest off on average is {worst[1]} (by {percent(worst[0])})"
    )


def annotators_finding(soft: SoftMetrics, estimator: str) -> str:
    """The title of the plot that puts the guard beside the annotators."""
    guard, people, gap = (
        soft.metrics[name] for name in ("expected_micro_f1", "annotator_micro_f1", "f1_below_annotators")
    )
    text = (
        f"Judged by single annotators, {estimator} reaches an F1 of {number(guard.value)} where another annotator "
        f"reaches {number(people.value)}"
    )
    if gap.low is None or gap.high is None:
        return text
    if gap.low > 0:
        return f"{text}: clearly below people"
    return f"{text}: clearly above" if gap.high < 0 else f"{text}: no clear difference"


def slices_finding(slices: Sequence[Slice]) -> str:
    """The title of the plot by attribute: a pair of values whose intervals lie apart, if there is one."""
    known = [one for one in slices if one.metrics["micro_roc_auc"].low is not None]
    apart: list[tuple[float, str, Slice, Slice]] = []
    for low in known:
        for high in known:
            first, second = low.metrics["micro_roc_auc"], high.metrics["micro_roc_auc"]
            if low.attribute == high.attribute and (first.high or 1.0) < (second.low or 0.0):
                apart.append(((second.value or 0) - (first.value or 0), low.attribute, low, high))
    if not known:
        return "Too few records share an attribute to say where the guard does worse"
    if not apart:
        return "No attribute makes a clear difference: the intervals of its values overlap"
    _, attribute, low, high = max(apart, key=lambda row: row[0])
    low_auc, high_auc = (number(one.metrics["micro_roc_auc"].value) for one in (low, high))
    return f"The guard does clearly worse where {attribute} is {low.value} ({low_auc}) than {high.value} ({high_auc})"


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
    if alpha.value >= 0.8:
        grade = "Annotators agree well enough to rely on"
    elif alpha.value >= 0.667:
        grade = "Annotators agree well enough for tentative conclusions"
    else:
        grade = "Annotators disagree too much to rely on single labels"
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

"""The sentences that say what a plot or table shows. All of them are computed from the numbers."""

from __future__ import annotations

from collections.abc import Sequence

from marginalia.pipeline.report.as_text import (
    BOUNDS_EXPLAIN,
    CHANCE,
    FEW,
    NAMES,
    against_chance,
    calibration_method,
    chance_metric,
    explained_by_bounds,
    interval,
    joined,
    number,
    percent,
    plural,
    signed_interval,
    with_interval,
)
from marginalia.pipeline.report.as_text import share as share_text
from marginalia.schemas.agreement_json import Estimate
from marginalia.schemas.evaluation_json import (
    CalibrationQuality,
    CalibrationReport,
    Confusion,
    EstimatorEvaluation,
    Finding,
    GuardDifference,
    GuardEvaluation,
    Metric,
    NotJudged,
    ReviewPoint,
    Slice,
    SoftMetrics,
)
from marginalia.scoring.measures.conclusions import Answer, above_other, compare, conclude
from marginalia.scoring.measures.intervals import chance_at_most, share

FEW_OF_A_CLASS = 10  # with fewer positives or negatives, "no evidence of miscalibration" would say nothing
COUNTS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine"}
TAIL = 0.025  # of a two-sided 95 % test
NOT_CHOSEN = "not chosen by evaluate.where"
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
        row.label: "not computed"
        if row.n < FEW
        else compare(row.metrics["roc_auc"], CHANCE, "above", comparisons=measurable, confidence=confidence)
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
        measurable_labels = f"{len(known)} {'measurable ' if unknown else ''}label"
        if len(known) == 1:
            return f"The {measurable_labels.removeprefix('1 ')} is recognised better than chance{end}"
        return f"All {measurable_labels}s are recognised better than chance{end}"
    lowest = min((row for row in judged if row.label in known), key=lambda row: row.metrics["roc_auc"].value or 0)
    lowest_auc = number(lowest.metrics["roc_auc"].value)
    counts = f"{plural(lowest.positives, 'positive')} in {plural(lowest.n, 'record')}"
    end = f"; {names.get(lowest.label, lowest.label)} has the lowest ROC AUC ({lowest_auc}, {counts}){end}"
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
    ece = f"ECE {_small(raw.ece.value)}"
    off = _miscalibrated(raw)
    if raw.n < FEW or off == "not computed":
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
    top = max(raw.bins, key=lambda bin_: bin_.mean_probability, default=None)
    if top is not None and raw.n >= FEW:
        right = Metric(value=top.share_positive, low=top.low, high=top.high, n=top.n)
        sentence += f"; when the guard says {percent(top.mean_probability)}, {share_text(right)} are true"
    after = report.recalibrated
    if after is None or after.ece.value is None:
        return sentence
    return (
        f"{sentence}; {calibration_method(report.method)} recalibration changes the ECE from {_small(raw.ece.value)} "
        f"to {_small(after.ece.value)}{BRIER_CHANGES[_brier_change(report.improvement)]}"
    )


def _small(value: float) -> str:
    """A number that is never shown as 0.00 unless it is 0."""
    return "under 0.01" if 0 < value < 0.005 else "0" if value == 0 else number(value)


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
        f"Measured against single annotators, {estimator} reaches an F1 of {with_interval(guard)} and another "
        f"annotator reaches {with_interval(annotators)}"
    )
    below, above = compare(gap, 0.0, "above"), compare(gap, 0.0, "below")
    if below == "not computed" or gap.n < FEW:
        return f"{sentence}; too few records to compare them"
    if below == "yes":
        return f"{sentence}: the guard is clearly below"
    return f"{sentence}: the guard is clearly above" if above == "yes" else f"{sentence}: no clear difference"


def slices_finding(slices: Sequence[Slice], confidence: float) -> str:
    """Title of the plot by attribute: the two values that are furthest apart, if any two are clearly apart."""
    measured = [row for row in slices if row.metrics["micro_roc_auc"].low is not None and row.n >= FEW]
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
    at_low, at_high = (
        f"{row.value} (micro ROC AUC {number(_auc(row))}, {plural(row.n, 'record')})" for row in (low, high)
    )
    return f"The guard is clearly worse where {low.attribute} is {at_low} than {at_high}"


def _auc(row: Slice) -> float:
    return row.metrics["micro_roc_auc"].value or 0.0


def frequency_finding(guard: GuardEvaluation, best: EstimatorEvaluation) -> str:
    """Title of the ROC curves: the recommended estimator, and whether it beats label frequencies alone."""
    values = {estimator.estimator: estimator.metrics["micro_roc_auc"] for estimator in guard.estimators}
    own, frequency, row = values[best.estimator], values.get("label_frequency"), guard.against_frequency
    if frequency is None or frequency.value is None:
        return f"Over all labels pooled, {best.estimator} has a micro ROC AUC of {with_interval(own)}"
    both = f"micro ROC AUC {number(own.value)} against {number(frequency.value)}"
    difference = row.difference if row is not None else None
    start = f"Over all labels pooled, {best.estimator} is"
    if row is None or difference is None or row.finding == "not known" or difference.n < FEW:
        return f"{start} not compared with label frequencies alone: the difference could not be tested ({both})"
    ends = f"difference {signed_interval(difference)}, " if interval(difference) else ""
    numbers = f"{both}; {ends}{plural(difference.n, 'record')}"
    if row.finding in ("better", "worse"):
        return f"{start} clearly {row.finding} than label frequencies alone ({numbers})"
    explained = BOUNDS_EXPLAIN if explained_by_bounds(row.finding, row.difference) else ""
    return f"{start} not clearly different from label frequencies alone ({numbers}){explained}"


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
    """Whether one confusion of two labels is more frequent than the next one. `pairs`: the most frequent first.

    It is if the Clopper-Pearson interval of its share of the records of both pairs is above one half."""
    top = pairs[0]
    tied = sum(pair.records == top.records for pair in pairs)
    if top.records == 1:
        return "No two labels are confused in more than one record"
    if tied > 1:
        times = {2: "twice"}.get(top.records, f"{top.records} times")
        return f"No pair stands out: {COUNTS.get(tied, str(tied))} pairs occur {times}"
    missed, given = names.get(top.gold, top.gold), names.get(top.predicted, top.predicted)
    second = pairs[1].records if len(pairs) > 1 else 0
    both = share(top.records, top.records + second, confidence=0.95, undefined="")
    next_pair = f"; the next pair {second}" if second else ""
    numbers = f"the guard misses {missed} and gives {given} ({plural(top.records, 'record')}{next_pair})"
    if compare(both, 0.5, "above") == "yes":
        return f"The most frequent confusion: {numbers}"
    return f"No pair clearly stands out; most often {numbers}"


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
    """Title of the risk-coverage plot: what reviewing a fifth of the records achieves, compared with a random fifth.

    Reviewing at random finds a hypergeometric number of wrong records; the finding is clear if that number is as far
    off with a probability of at most 2.5 %."""
    start, fifth = points[0], min(points, key=lambda point: abs(point.share_reviewed - 0.2))
    if start.subset_error_overall is None or fifth.subset_error_overall is None:
        return "There are no test records to plan reviews with"
    n, reviewed = start.n_kept, start.n_kept - fifth.n_kept
    if n < FEW or not reviewed:
        return "There are too few test records to plan reviews with"
    wrong, left = round(start.subset_error_overall * n), round(fifth.subset_error_overall * n)
    at_random = start.subset_error_overall * fifth.n_kept / n
    gain = max(round(100 * abs(at_random - fifth.subset_error_overall)), 1)
    sentence = f"Reviewing the least certain {percent(fifth.share_reviewed)} leaves {percent(left / n)} wrong"
    if left == wrong - round(wrong * reviewed / n):
        return f"{sentence}, as many as reviewing at random ({plural(n, 'record')})"
    better = fifth.subset_error_overall < at_random
    sentence = f"{sentence}, {plural(gain, 'point')} {'better' if better else 'worse'} than reviewing at random"
    found = wrong - left
    chance = 1 - chance_at_most(found - 1, wrong, reviewed, n) if better else chance_at_most(found, wrong, reviewed, n)
    return f"{sentence} ({plural(n, 'record')}{'' if chance <= TAIL else '; this may be chance'})"


def judged_finding(guard: GuardEvaluation, best: EstimatorEvaluation, final: int) -> str:
    """On how many of the `final` gold records the guard was judged, why not on the others, and on how many of them its
    thresholds were tested."""
    reasons = [
        f"{n:,} {'left out by evaluate.where' if reason == NOT_CHOSEN else reason}"
        for reason, n in guard.left_out.items()
    ]
    others = guard.records - best.n
    reasons += [f"{others:,} in other splits or without a judged label"] if others > 0 else []
    why = f" ({'; '.join(reasons)})" if reasons else ""
    tested = best.tuned["micro_f1"].n if best.tuned else 0
    test = f"thresholds tested on {tested:,}" if tested else "no test records to test thresholds on"
    return f"Judged on {best.n:,} of {plural(final, 'record')}{why}; {test}"


def guards_finding(differences: Sequence[GuardDifference]) -> str:
    """Which guards are clearly better or worse than the first in the tested metric."""
    reference = differences[0].reference
    by_guard = {row.guard: row for row in differences if row.tested and _is_known(row)}
    if not by_guard:
        names = dict.fromkeys([reference, *(row.guard for row in differences)])
        return f"Too few records to tell {joined(list(names))} apart"
    tested_metrics = joined(list(dict.fromkeys(_at(row.metric) for row in by_guard.values())))
    findings = [
        f"{joined(guards)} {'is' if len(guards) == 1 else 'are'} clearly {word}"
        for word in ("better", "worse")
        if (guards := [guard for guard, row in by_guard.items() if row.finding == word])
    ]
    if not findings:
        return f"No guard is clearly better or worse than {reference} at {tested_metrics}"
    return f"{', '.join(findings)} than {reference} at {tested_metrics}"


def runs_finding(a: str, b: str, metric: str, difference: Metric | None, finding: Finding) -> str:
    """Whether run `b` is better than run `a` in the tested metric. `difference`: b minus a, paired."""
    if difference is None or finding == "not known" or difference.n < FEW:
        return f"It is not known whether {b} is better or worse than {a}: no tested metric has a paired interval"
    name = NAMES[metric]
    if finding in ("better", "worse"):
        ends = f" (difference {signed_interval(difference)}, {plural(difference.n, 'record')})"
        return f"{b} is clearly {finding} than {a} in {name}{ends}"
    explained = BOUNDS_EXPLAIN if explained_by_bounds(finding, difference) else ""
    return f"No clear difference between {a} and {b} in {name}{explained}"


def _is_known(row: GuardDifference) -> bool:
    return row.finding != "not known" and row.difference.n >= FEW


def _at(metric: str) -> str:
    is_ranking = metric.endswith(("roc_auc", "average_precision"))
    return f"{'ranking' if is_ranking else 'deciding on'} labels ({NAMES[metric]})"

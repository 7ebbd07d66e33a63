"""Findings about where a guard fails: label by label, by attribute, confused labels, and the review of its records."""

from __future__ import annotations

from collections.abc import Sequence

from marginalia.pipeline.report.as_text import CHANCE, joined, number, percent, plural, splits, with_interval
from marginalia.pipeline.report.finding import Finding
from marginalia.schemas.evaluation_json import Confusion, EstimatorEvaluation, LabelMetrics, ReviewPoint, Slice
from marginalia.scoring.measures.conclusions import FEW_RECORDS, Answer, above_other, compare
from marginalia.scoring.measures.intervals import chance_at_most, share

COUNTS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine"}
MOST_NAMED = 5  # labels in a sentence
TAIL = 0.025  # of a two-sided 95 % test


def labels_finding(estimator: EstimatorEvaluation, names: dict[str, str], confidence: float) -> Finding:
    """Is every measurable label recognised better than chance? The confidence holds for all labels at once.

    `no`: one of them is surely not; it is named."""
    judged = [row for row in estimator.labels if row.n]
    measurable = sum(row.metrics["roc_auc"].low is not None for row in judged)
    answers: dict[str, Answer] = {
        row.label: "not computed"
        if row.n < FEW_RECORDS
        else compare(row.metrics["roc_auc"], CHANCE, "above", comparisons=measurable, confidence=confidence)
        for row in judged
    }
    known = [row for row in judged if answers[row.label] != "not computed"]
    better = [row for row in known if answers[row.label] == "yes"]
    surely_not = [row for row in known if answers[row.label] == "no"]
    unknown = len(answers) - len(known)
    end = f"; {plural(unknown, 'label has', 'labels have')} too few records to tell" if unknown else ""
    if never := len(estimator.labels) - len(judged):
        end += f"; {plural(never, 'label was', 'labels were')} never judged"
    if not known:
        return Finding("not computed", "No label has enough records to say whether the guard recognises it")
    if len(better) == len(known):
        measurable_labels = f"{len(known)} {'measurable ' if unknown else ''}label"
        if len(known) == 1:
            only = measurable_labels.removeprefix("1 ")
            return Finding("yes", f"The {only} is recognised better than chance{end}")
        return Finding("yes", f"All {measurable_labels}s are recognised better than chance{end}")
    end = f"{_not_shown(better, known, names)}; {_lowest(surely_not or known, names, surely_not=bool(surely_not))}{end}"
    answer: Answer = "no" if surely_not else "cannot tell"
    if not better:
        return Finding(answer, f"None of {plural(len(known), 'label')} is recognised clearly better than chance{end}")
    verb = "is" if len(better) == 1 else "are"
    count = f"{len(better)} of {plural(len(known), 'label')}"
    return Finding(answer, f"{count} {verb} recognised clearly better than chance{end}")


def _not_shown(better: Sequence[LabelMetrics], known: Sequence[LabelMetrics], names: dict[str, str]) -> str:
    """Which labels are not among the `better` ones; empty where the rest of the sentence says it."""
    others = [names.get(row.label, row.label) for row in known if row not in better]
    if not better or len(others) == 1:
        return ""
    shown = others if len(others) <= MOST_NAMED else [*others[: MOST_NAMED - 1], f"{len(others) - MOST_NAMED + 1} more"]
    return f"; not shown for {joined(shown)}"


def _lowest(rows: Sequence[LabelMetrics], names: dict[str, str], *, surely_not: bool) -> str:
    row = min(rows, key=lambda row: row.metrics["roc_auc"].value or 0)
    counts = f"{plural(row.positives, 'positive')} in {plural(row.n, 'record')}"
    auc = f"{number(row.metrics['roc_auc'].value)}, {counts}"
    name = names.get(row.label, row.label)
    return f"{name} is not (ROC AUC {auc})" if surely_not else f"{name} has the lowest ROC AUC ({auc})"


def weakest_label_finding(estimator: EstimatorEvaluation, names: dict[str, str], confidence: float) -> Finding:
    """Is one label surely recognised worse than all others? Names the label of the lowest ROC AUC, and that of the
    lowest F1 where it is another one; empty with fewer than two measurable labels. Never `no`: overlapping intervals do
    not show that labels are equal."""
    known = [row for row in estimator.labels if row.n >= FEW_RECORDS and row.metrics["roc_auc"].low is not None]
    if len(known) < 2:
        return Finding("not computed", "")
    known.sort(key=lambda row: row.metrics["roc_auc"].value or 0)
    lowest, others = known[0], known[1:]
    auc = lowest.metrics["roc_auc"]
    worse_than = sum(
        above_other(auc, row.metrics["roc_auc"], comparisons=len(others), confidence=confidence) == "yes"
        for row in others
    )
    of_splits = f" of the {splits(estimator.splits)}" if estimator.splits else ""
    numbers = f"{with_interval(auc)}, {plural(lowest.positives, 'positive')} in {plural(lowest.n, 'record')}{of_splits}"
    numbers += _lowest_f1(known, lowest, names, estimator.threshold)
    name = names.get(lowest.label, lowest.label)
    if worse_than == len(others):
        return Finding("yes", f"{name} is recognised clearly worse than every other label: ROC AUC {numbers}")
    clearly = f"clearly below {worse_than} of {len(others)} others" if worse_than else "but not clearly below any other"
    return Finding("cannot tell", f"{name} has the lowest ROC AUC, {clearly}: {numbers}")


def _lowest_f1(rows: Sequence[LabelMetrics], other: LabelMetrics, names: dict[str, str], threshold: float) -> str:
    """Says which label has the lowest F1 at the fixed threshold, if it is not the `other`."""
    measured = [row for row in rows if "f1" in row.metrics and row.metrics["f1"].value is not None]
    lowest = min(measured, key=lambda row: row.metrics["f1"].value or 0.0, default=other)
    if lowest.label == other.label:
        return ""
    value = number(lowest.metrics["f1"].value)
    return f". By F1 at threshold {threshold:g} it is {names.get(lowest.label, lowest.label)} ({value})"


def slices_finding(slices: Sequence[Slice], confidence: float) -> Finding:
    """Is the guard clearly worse for one value of an attribute than for another? Names the two that are furthest apart.
    Never `no`: that no difference is clear does not show that there is none."""
    measured = [row for row in slices if row.metrics["micro_roc_auc"].low is not None and row.n >= FEW_RECORDS]
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
        return Finding("not computed", "Too few records share an attribute to say where the guard is worse")
    if not apart:
        return Finding("cannot tell", "No attribute makes a clear difference")
    low, high = max(apart, key=lambda pair: _auc(pair[1]) - _auc(pair[0]))
    at_low, at_high = (
        f"{row.value} (micro ROC AUC {number(_auc(row))}, {plural(row.n, 'record')})" for row in (low, high)
    )
    return Finding("yes", f"The guard is clearly worse where {low.attribute} is {at_low} than {at_high}")


def _auc(row: Slice) -> float:
    return row.metrics["micro_roc_auc"].value or 0.0


def confusions_finding(pairs: Sequence[Confusion], names: dict[str, str]) -> Finding:
    """Is one confusion of two labels more frequent than the next one? `pairs`: the most frequent first.

    It is if the Clopper-Pearson interval of its share of the records of both pairs is above one half. Never `no`: equal
    counts do not show equal frequencies. Empty without confusions."""
    if not pairs:
        return Finding("not computed", "")
    top = pairs[0]
    tied = sum(pair.records == top.records for pair in pairs)
    if top.records == 1:
        return Finding("not computed", "No two labels are confused in more than one record")
    if tied > 1:
        times = {2: "twice"}.get(top.records, f"{top.records} times")
        return Finding("cannot tell", f"No pair stands out: {COUNTS.get(tied, str(tied))} pairs occur {times}")
    missed, given = names.get(top.gold, top.gold), names.get(top.predicted, top.predicted)
    second = pairs[1].records if len(pairs) > 1 else 0
    both = share(top.records, top.records + second, confidence=0.95, undefined="")
    next_pair = f"; the next pair {second}" if second else ""
    numbers = f"the guard misses {missed} and gives {given} ({plural(top.records, 'record')}{next_pair})"
    if compare(both, 0.5, "above") == "yes":
        return Finding("yes", f"The most frequent confusion: {numbers}")
    return Finding("cannot tell", f"No pair clearly stands out; most often {numbers}")


def review_finding(points: Sequence[ReviewPoint]) -> Finding:
    """Does reviewing the least certain fifth of the records leave fewer wrong than a random fifth? `no`: more.

    Reviewing at random finds a hypergeometric number of wrong records; the finding is clear if that number is as far
    off with a probability of at most 2.5 %."""
    start, fifth = points[0], min(points, key=lambda point: abs(point.share_reviewed - 0.2))
    if start.subset_error_overall is None or fifth.subset_error_overall is None:
        return Finding("not computed", "There are no test records to plan reviews with")
    n, reviewed = start.n_kept, start.n_kept - fifth.n_kept
    if n < FEW_RECORDS or not reviewed:
        return Finding("not computed", "There are too few test records to plan reviews with")
    wrong, left = round(start.subset_error_overall * n), round(fifth.subset_error_overall * n)
    at_random = start.subset_error_overall * fifth.n_kept / n
    gain = max(round(100 * abs(at_random - fifth.subset_error_overall)), 1)
    sentence = f"Reviewing the least certain {percent(fifth.share_reviewed)} leaves {percent(left / n)} wrong"
    if left == wrong - round(wrong * reviewed / n):
        return Finding("cannot tell", f"{sentence}, as many as reviewing at random ({plural(n, 'record')})")
    better = fifth.subset_error_overall < at_random
    sentence = f"{sentence}, {plural(gain, 'point')} {'better' if better else 'worse'} than reviewing at random"
    found = wrong - left
    chance = 1 - chance_at_most(found - 1, wrong, reviewed, n) if better else chance_at_most(found, wrong, reviewed, n)
    if chance > TAIL:
        return Finding("cannot tell", f"{sentence} ({plural(n, 'record')}; this may be chance)")
    return Finding("yes" if better else "no", f"{sentence} ({plural(n, 'record')})")

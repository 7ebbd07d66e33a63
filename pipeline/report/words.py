"""Numbers as text, and the sentences that say what they show. Every sentence is computed from the numbers."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.agreement import Estimate
from schemas.evaluation import (
    CalibrationReport,
    Difference,
    EstimatorEvaluation,
    GuardEvaluation,
    Metric,
    ReviewPoint,
)

CHANCE = 0.5
NAMES = {
    "micro_f1": "micro F1",
    "macro_f1": "macro F1",
    "samples_f1": "F1 per record",
    "micro_precision": "micro precision",
    "micro_recall": "micro recall",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
    "samples_precision": "precision per record",
    "samples_recall": "recall per record",
    "hamming_loss": "Hamming loss",
    "subset_accuracy": "all labels right",
    "micro_roc_auc": "micro ROC AUC",
    "macro_roc_auc": "macro ROC AUC",
    "micro_average_precision": "micro average precision",
    "macro_average_precision": "macro average precision",
    "ranking_loss": "ranking loss",
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
    "f1": "F1",
    "precision": "precision",
    "recall": "recall",
    "false_positive_rate": "false-positive rate",
    "accuracy": "accuracy",
    "tuned_micro_f1": "micro F1 at own thresholds",
    "tuned_macro_f1": "macro F1 at own thresholds",
    "tuned_hamming_loss": "Hamming loss at own thresholds",
}


def number(value: float | None, digits: int = 2) -> str:
    return "—" if value is None else f"{value:z.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 2) -> str:
    return "—" if value is None else f"{value:+z.{digits}f}".replace("-", "−")


def interval(metric: Metric | Estimate, digits: int = 2) -> str:
    if metric.low is None or metric.high is None:
        return ""
    return f"{number(metric.low, digits)} to {number(metric.high, digits)}"


def with_interval(metric: Metric | Estimate, digits: int = 2) -> str:
    inside = interval(metric, digits)
    return f"{number(metric.value, digits)} ({inside})" if inside else number(metric.value, digits)


def percent(value: float | None, digits: int = 0) -> str:
    if value is None:
        return "—"
    least = 10.0**-digits
    return f"under {least:g} %" if 0 < 100 * value < least / 2 else f"{100 * value:.{digits}f} %"


def threshold(value: float | None) -> str:
    """Three decimals, more where a guard's probabilities are tiny."""
    if value is None:
        return "—"
    return f"{value:.3f}" if value >= 0.001 or value == 0 else f"{value:.1e}".replace("e-0", "e-").replace("-", "−")


def duration(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def plural(n: int, one: str, many: str | None = None) -> str:
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def splits(names: Sequence[str]) -> str:
    return " and ".join(names) + (" split" if len(names) == 1 else " splits")


def against_chance(auc: Metric) -> str:
    """What an ROC AUC says: `better than chance`, `no better than chance`, `worse than chance`, `not known`."""
    if auc.value is None or auc.low is None or auc.high is None:
        return "not known"
    if auc.low > CHANCE:
        return "better than chance"
    return "worse than chance" if auc.high < CHANCE else "no better than chance"


def deciding(each: EstimatorEvaluation) -> tuple[str, Metric]:
    """(name, metric) that says whether the estimator beats chance: macro ROC AUC, or micro where that has no interval.

    Macro is the stricter one: micro also rewards knowing which labels are common."""
    macro = each.metrics["macro_roc_auc"]
    name = "macro_roc_auc" if macro.low is not None else "micro_roc_auc"
    return NAMES[name], each.metrics[name]


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
        return (
            f"{'All' if not unknown else 'All measurable'} {len(known)} labels are recognised better than chance{tail}"
        )
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


def method(name: str) -> str:
    return "Platt" if name == "platt" else name


def difference_sentence(row: Difference) -> str:
    words = {
        "better": "clearly better",
        "worse": "clearly worse",
        "no clear difference": "no clear difference",
        "not known": "cannot be told",
    }
    return words[row.finding]


def listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]

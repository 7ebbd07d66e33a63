"""Numbers as text."""

from __future__ import annotations

from collections.abc import Sequence

from marginalia.schemas.agreement_json import Estimate
from marginalia.schemas.evaluation_json import Difference, EstimatorEvaluation, Finding, GuardDifference, Metric
from marginalia.scoring.measures.conclusions import compare, conclude, range_of, wide

CHANCE = 0.5
BOUNDS_EXPLAIN = ": the bounds of the probabilities can explain it"
UNCLEAR = "perhaps no better than chance"
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
    "brier": "Brier score",
    "log_loss": "log loss",
    "ece": "ECE",
    "verdict_roc_auc": "verdict: ROC AUC",
    "verdict_average_precision": "verdict: average precision",
    "verdict_f1": "verdict: F1",
    "verdict_precision": "verdict: precision",
    "verdict_recall": "verdict: recall",
    "verdict_false_positive_rate": "verdict: false-positive rate",
    "verdict_accuracy": "verdict: accuracy",
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


def signed_interval(metric: Metric, digits: int = 2) -> str:
    if metric.low is None or metric.high is None:
        return ""
    return f"{signed(metric.low, digits)} to {signed(metric.high, digits)}"


def bounds(metric: Metric | Estimate, digits: int = 2) -> str:
    """The range that the bounds of the probabilities allow, where it is wide beside the interval; else empty."""
    low, high = range_of(metric)
    return f"bounds allow {number(low, digits)} to {number(high, digits)}" if wide(metric) else ""


def with_interval(metric: Metric | Estimate, digits: int = 2) -> str:
    inside, allowed = interval(metric, digits), bounds(metric, digits)
    text = f"{number(metric.value, digits)} ({inside})" if inside else number(metric.value, digits)
    return f"{text}, {allowed}" if allowed else text


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
    """What an ROC AUC says: `better than chance`, `worse than chance`, UNCLEAR, or `not known`."""
    above, below = compare(auc, CHANCE, "above"), compare(auc, CHANCE, "below")
    if above == "not computed":
        return "not known"
    return "better than chance" if above == "yes" else "worse than chance" if below == "yes" else UNCLEAR


def deciding(each: EstimatorEvaluation) -> tuple[str, Metric]:
    """(name, metric) that says whether the estimator beats chance: macro ROC AUC, or micro where that has no interval.

    Macro is the stricter one: micro also rewards knowing which labels are common."""
    macro = each.metrics["macro_roc_auc"]
    name = "macro_roc_auc" if macro.low is not None else "micro_roc_auc"
    return NAMES[name], each.metrics[name]


def method(name: str) -> str:
    return "Platt" if name == "platt" else name


def difference_sentence(row: Difference | GuardDifference) -> str:
    """What the finding of a difference says; where the bounds of the probabilities stand in its way, that too."""
    words = {
        "better": "clearly better",
        "worse": "clearly worse",
        "no clear difference": "no clear difference",
        "not known": "not computed",
        "descriptive": "descriptive",
    }
    said = row.finding if row.tested or row.finding == "not known" else "descriptive"  # older files test every row
    return words[said] + (BOUNDS_EXPLAIN if explained_by_bounds(row.finding, row.difference) else "")


def explained_by_bounds(finding: Finding, found: Metric | None) -> bool:
    """Whether the difference would be clear if the probabilities were single numbers."""
    if finding != "no clear difference" or found is None:
        return False
    interval = (found.low, found.high)
    return "yes" in (conclude(found.value, 0.0, interval, "above"), conclude(found.value, 0.0, interval, "below"))


def listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]

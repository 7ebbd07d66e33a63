"""Numbers, metric names and findings as text, the same on every page and in the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from marginalia.schemas.agreement_json import Estimate
from marginalia.schemas.evaluation_json import (
    Difference,
    EstimatorEvaluation,
    Finding,
    GuardDifference,
    GuardEvaluation,
    Metric,
)
from marginalia.scoring.measures.conclusions import FEW_RECORDS, conclude, range_is_wide, range_of

CHANCE = 0.5
ROUNDING = 1e-9
BOUNDS_EXPLAIN = ": the bounds of the probabilities could explain the difference"
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
    """A number with a fixed count of decimals and a true minus sign; an em dash for None."""
    return "—" if value is None else f"{value:z.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 2) -> str:
    """`number` with a sign in front."""
    return "—" if value is None else f"{value:+z.{digits}f}".replace("-", "−")


def interval(metric: Metric | Estimate, digits: int = 2) -> str:
    """The sampling interval as "low to high"; empty when there is none."""
    if metric.low is None or metric.high is None:
        return ""
    return f"{number(metric.low, digits)} to {number(metric.high, digits)}"


def signed_interval(metric: Metric, digits: int = 2) -> str:
    """`interval` with signs, for differences."""
    if metric.low is None or metric.high is None:
        return ""
    return f"{signed(metric.low, digits)} to {signed(metric.high, digits)}"


def bounds(metric: Metric | Estimate, digits: int = 2) -> str:
    """The range that the bounds of the probabilities allow; empty unless it is wide relative to the interval."""
    low, high = range_of(metric)
    return f"bounds allow {number(low, digits)} to {number(high, digits)}" if range_is_wide(metric) else ""


def with_interval(metric: Metric | Estimate, digits: int = 2) -> str:
    """The value followed by its interval and, where it is wide, its range."""
    interval_text, bounds_text = interval(metric, digits), bounds(metric, digits)
    text = f"{number(metric.value, digits)} ({interval_text})" if interval_text else number(metric.value, digits)
    return f"{text}, {bounds_text}" if bounds_text else text


def percent(value: float | None, digits: int = 0) -> str:
    """A share as a percentage. A small share that is not zero is "under 1 %", never "0 %"."""
    if value is None:
        return "—"
    least = 10.0**-digits
    return f"under {least:g} %" if 0 < 100 * value < least / 2 else f"{100 * value:.{digits}f} %"


def share(metric: Metric) -> str:
    """A share of `metric.n` cases with its interval: "63 % (49–75)", or "9 of 12 (42–95 %)" for fewer than FEW_RECORDS
    cases.

    The ends of the interval are rounded outward, so that none is rounded to a value that it does not reach."""
    if metric.value is None:
        return "—"
    ends = ""
    if metric.low is not None and metric.high is not None:
        ends = f"{math.floor(100 * metric.low + ROUNDING)}–{math.ceil(100 * metric.high - ROUNDING)}"
    if metric.n < FEW_RECORDS:
        return f"{round(metric.value * metric.n)} of {metric.n}" + (f" ({ends} %)" if ends else "")
    value = "over 99 %" if 0.995 <= metric.value < 1 else percent(metric.value)
    return f"{value} ({ends})" if ends else value


def is_share(name: str) -> bool:
    """Whether the metric is a share of a number of cases, so that `share` shows it."""
    return name.removeprefix("verdict_") in ("precision", "recall", "false_positive_rate", "accuracy")


def threshold(value: float | None) -> str:
    """A threshold with three decimals, and with more where these would say little: below 0.001, and just below 1."""
    if value is None:
        return "—"
    if 0 < value < 0.001:
        return plain(value)
    return f"{value:.6f}" if 0.9995 <= value < 1 else f"{value:.3f}"


def plain(value: float) -> str:
    """A small number with two significant digits and without an exponent: "0.00057"."""
    return f"{value:.{max(1 - math.floor(math.log10(value)), 0)}f}" if value > 0 else f"{value:g}"


def duration(seconds: float) -> str:
    """Seconds as seconds, minutes or hours."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def plural(n: int, singular: str, plural_form: str | None = None) -> str:
    """The count with its noun: "1 record", "2,000 records"."""
    return f"{n:,} {singular if n == 1 else plural_form or singular + 's'}"


def splits(names: Sequence[str]) -> str:
    """Split names as a phrase: "test split", "calibration and test splits"."""
    return " and ".join(names) + (" split" if len(names) == 1 else " splits")


def calibration_method(name: str) -> str:
    """The name of a calibration method as it is spelled in a sentence."""
    return "Platt" if name == "platt" else name


def difference_sentence(row: Difference | GuardDifference) -> str:
    """The finding of a difference in words. Says when only the bounds of the probabilities leave it unclear."""
    sentences = {
        "better": "clearly better",
        "worse": "clearly worse",
        "no clear difference": "no clear difference",
        "not known": "not computed",
        "descriptive": "descriptive",
    }
    finding = (
        row.finding if row.tested or row.finding == "not known" else "descriptive"
    )  # older files have a finding in every row
    return sentences[finding] + (BOUNDS_EXPLAIN if explained_by_bounds(row.finding, row.difference) else "")


def explained_by_bounds(finding: Finding, difference: Metric | None) -> bool:
    """Whether the difference would be clear if the probabilities were exact."""
    if finding != "no clear difference" or difference is None:
        return False
    interval_ends = (difference.low, difference.high)
    above = conclude(difference.value, 0.0, interval_ends, "above")
    below = conclude(difference.value, 0.0, interval_ends, "below")
    return "yes" in (above, below)


def joined(names: Sequence[str]) -> str:
    """The names as a phrase: "a, b and c". There must be at least one."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def labels_covered(guard: GuardEvaluation, best: EstimatorEvaluation) -> str:
    """Which labels the numbers of the estimator are over, if the guard has no probability for some of them; else
    empty."""
    only_bounds = [row.label for row in guard.only_bounds]
    parts = [
        f"{text}: {', '.join(labels)}"
        for text, labels in (("only bounds", only_bounds), ("not covered", guard.labels_not_scored))
        if labels
    ]
    total = len(best.labels) + len(only_bounds) + len(guard.labels_not_scored)
    return f"over {len(best.labels)} of {total} labels ({'; '.join(parts)})" if parts else ""

"""One guard's part of the report: estimators, calibration, thresholds, failures."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from pipeline.report import words
from pipeline.report.material import Figure, Material
from pipeline.report.plots import Axis, Mark, Row, Series, curves, forest, nice_axis
from schemas.evaluation import (
    UNSAFE,
    Difference,
    EstimatorEvaluation,
    GuardEvaluation,
    LabelMetrics,
    Metric,
    Threshold,
    WorstRecord,
)

TABLE_METRICS = ("macro_roc_auc", "micro_roc_auc", "micro_average_precision", "micro_f1", "hamming_loss")
COMPARED = ("macro_roc_auc", "micro_roc_auc", "micro_f1", "tuned_micro_f1")
LABEL_METRICS = ("roc_auc", "average_precision", "f1", "precision", "recall")
MOST_CURVES = 6
MOST_CONFUSIONS = 12


@dataclass(frozen=True)
class WorstCase:
    record: WorstRecord
    messages: list[dict[str, str]]
    gold: list[str]  # label names
    predicted: list[str]


@dataclass(frozen=True)
class Promises:
    """Thresholds that keep a promise, for labels that have any; `missing` says which cannot be proved, and why."""

    goals: list[str]
    rows: list[tuple[str, list[Threshold]]]
    missing: list[str]


@dataclass(frozen=True)
class GuardView:
    """What the template shows of a guard. `best` is the recommended estimator; without one there are only reasons."""

    page: GuardEvaluation
    best: EstimatorEvaluation | None
    chance: str
    estimators: Figure | None
    roc: Figure | None
    differences: list[tuple[str, list[Difference | None]]]
    reference: str
    reliability: Figure | None
    thresholds: list[tuple[str, list[Threshold]]]
    borrowed: bool  # some labels have no max-F1 threshold of their own
    promises: Promises
    labels: Figure | None
    label_rows: list[tuple[str, LabelMetrics]]
    review: Figure | None
    worst: list[WorstCase]
    reasons: list[str]  # why numbers of the tables are missing


def guard_view(material: Material, page: GuardEvaluation) -> GuardView:
    names = material.label_names
    best = next((each for each in page.estimators if each.estimator == page.recommended), None)
    reference = page.differences[0].reference if page.differences else ""
    return GuardView(
        page=page,
        best=best,
        chance=words.against_chance(words.deciding(best)[1]) if best is not None else "not known",
        estimators=_estimators(page) if page.estimators else None,
        roc=_roc(page) if best is not None else None,
        differences=_difference_rows(page),
        reference=reference,
        reliability=_reliability(best) if best is not None else None,
        thresholds=_threshold_rows(material, best) if best is not None else [],
        borrowed=best is not None and any(rows[0].reason for rows in best.thresholds.labels.values()),
        promises=_promises(_threshold_rows(material, best)[1:] if best is not None else []),
        labels=_labels(best, names) if best is not None else None,
        label_rows=[(names.get(row.label, row.label), row) for row in best.labels] if best is not None else [],
        review=_review(best) if best is not None and best.review else None,
        worst=_worst(material, page),
        reasons=_reasons(best, names) if best is not None else [],
    )


def _mark(metric: Metric, tone: int) -> Mark:
    return Mark(metric.value, metric.low, metric.high, tone, note="not available")


def _estimators(page: GuardEvaluation) -> Figure:
    ordered = sorted(page.estimators, key=lambda each: (each.baseline, each.estimator != page.recommended))
    rows = [
        Row(
            each.estimator + (" (baseline)" if each.baseline else ""),
            [_mark(each.metrics["macro_roc_auc"], 1), _mark(each.metrics["micro_roc_auc"], 2)],
            words.with_interval(each.metrics["macro_roc_auc"]),
        )
        for each in ordered
    ]
    title = words.estimators_finding(page)
    found = [
        metric for each in page.estimators for metric in (each.metrics["macro_roc_auc"], each.metrics["micro_roc_auc"])
    ]
    lowest = min([1.0, *(metric.low for metric in found if metric.low is not None)])
    start, ticks = next(
        (start, ticks) for start, ticks in ((0.4, 6), (0.2, 4), (0.0, 5)) if start <= lowest or start == 0
    )
    axis = Axis(start, 1.0, "ROC AUC", 0.5, "chance", ticks=ticks)
    note = (
        "ROC AUC: how often a record that has a label scores higher on it than one that has not; 0.5 is guessing, 1 is "
        "perfect. Macro takes each label alone and averages, micro pools all, so micro also rewards knowing which "
        "labels are common."
    )
    drawing = forest(rows, axis, alt=title, legend=[("macro (numbers at the right)", 1), ("micro", 2)])
    return Figure(title, drawing, note)


def _roc(page: GuardEvaluation) -> Figure:
    order = sorted(page.estimators, key=lambda each: each.estimator != page.recommended)
    series = [
        Series(f"{each.estimator}  {words.number(each.metrics['micro_roc_auc'].value)}", each.roc.x, each.roc.y, tone)
        for tone, each in enumerate(order[:MOST_CURVES], start=1)
        if each.roc.x
    ]
    values = {each.estimator: each.metrics["micro_roc_auc"] for each in order}
    frequency = values.get("label_frequency")
    best = values[order[0].estimator]
    title = f"Over all labels pooled, {order[0].estimator} has a micro ROC AUC of {words.with_interval(best)}"
    if frequency is not None and frequency.value is not None and best.value is not None:
        row = next(
            (
                row
                for row in page.differences
                if {row.estimator, row.reference} == {"label_frequency", order[0].estimator}
                and row.metric == "micro_roc_auc"
            ),
            None,
        )
        if row is not None and row.finding in ("worse", "better"):
            clearly = "more" if best.value > frequency.value else "less"
            title += f", clearly {clearly} than label frequencies alone give ({words.number(frequency.value)})"
        else:
            title += f", not clearly different from label frequencies alone ({words.number(frequency.value)})"
    note = (
        "Each point is a threshold: right, the share of absent labels wrongly flagged; up, of present ones found. "
        "The dashed diagonal is guessing. label_frequency knows nothing but how common each label is in these records."
    )
    x, y = Axis(0, 1, "false-positive rate"), Axis(0, 1, "true-positive rate")
    return Figure(title, curves(series, x, y, alt=title, diagonal=True), note)


def _difference_rows(page: GuardEvaluation) -> list[tuple[str, list[Difference | None]]]:
    by_key = {(row.estimator, row.metric): row for row in page.differences}
    names = list(dict.fromkeys(row.estimator for row in page.differences))
    return [(name, [by_key.get((name, metric)) for metric in COMPARED]) for name in names]


def _reliability(best: EstimatorEvaluation) -> Figure | None:
    report = best.calibration
    if report.raw is None:
        return None
    shown = [("as the guard says", report.raw, 1)]
    if report.recalibrated is not None:
        shown.append((f"recalibrated ({report.method})", report.recalibrated, 2))
    series = [
        Series(
            name,
            [part.mean_probability for part in quality.bins],
            [part.share_positive for part in quality.bins],
            tone,
            [part.low for part in quality.bins],
            [part.high for part in quality.bins],
        )
        for name, quality, tone in shown
    ]
    largest = max(value for one in series for values in (one.x, one.y, one.high) for value in values)
    title = words.calibration_finding(report)
    note = (
        "Each point holds equally many record × label values of the test split, by probability: across, what the guard "
        "says; up, how often it is true, with its interval. On the dashed line they agree; below it the guard says too "
        "much. Equal values share a point."
    )
    x, y = nice_axis(min(largest, 1.0), "mean probability"), nice_axis(min(largest, 1.0), "share that is true")
    return Figure(title, curves(series, x, y, alt=title, diagonal=True), note)


def _threshold_rows(material: Material, best: EstimatorEvaluation) -> list[tuple[str, list[Threshold]]]:
    names = {**material.label_names, UNSAFE: f"verdict: {material.taxonomy.verdict}"}
    rows = [("all labels together", best.thresholds.overall)]
    return rows + [(names.get(label, label), found) for label, found in best.thresholds.labels.items()]


def _promises(labels: list[tuple[str, list[Threshold]]]) -> Promises:
    goals = [row.goal for row in labels[0][1][1:]] if labels else []
    kept = [(name, rows[1:]) for name, rows in labels if any(row.threshold is not None for row in rows[1:])]
    why: dict[tuple[str, str], list[str]] = {}
    for name, rows in labels:
        for row in rows[1:]:
            if row.threshold is None:
                why.setdefault((row.goal, (row.reason or "").partition(";")[0]), []).append(name)
    missing = [
        f"{_goal(goal)}: {reason} ({'every label' if len(names) == len(labels) else ', '.join(names)})"
        for (goal, reason), names in why.items()
    ]
    return Promises([_goal(goal) for goal in goals], kept, missing)


def _goal(goal: str) -> str:
    return goal.replace("false_positive_rate", "false-positive rate").replace(">=", "≥").replace("<=", "≤")


def _labels(best: EstimatorEvaluation, names: dict[str, str]) -> Figure:
    ordered = sorted(best.labels, key=lambda row: -(row.metrics["roc_auc"].value or 0))
    rows = [
        Row(
            names.get(row.label, row.label),
            [Mark(auc.value, auc.low, auc.high, 1, note=auc.reason or "")],
            f"{words.with_interval(auc)}" if auc.value is not None else "—",
        )
        for row in ordered
        for auc in [row.metrics["roc_auc"]]
    ]
    title = words.labels_finding(best, names)
    note = f"ROC AUC of {best.estimator} for each label. A point without whiskers has too few records for an interval."
    return Figure(title, forest(rows, Axis(0, 1, "ROC AUC", 0.5, "chance"), alt=title), note)


def _review(best: EstimatorEvaluation) -> Figure:
    points = [point for point in best.review if point.subset_error_overall is not None]
    series = [
        Series(
            "wrong records left, of all",
            [p.share_reviewed for p in points],
            [p.subset_error_overall or 0.0 for p in points],
            1,
        ),
        Series(
            "wrong among those the guard keeps",
            [p.share_reviewed for p in points],
            [p.subset_error or 0.0 for p in points],
            2,
        ),
    ]
    title = words.review_finding(best.review)
    note = (
        "A record is wrong when any of its labels is. Records are reviewed in the order of their expected number of "
        "wrong labels, and reviewers are taken to be right."
    )
    x, y = Axis(0, 0.5, "share of records sent to a reviewer"), Axis(0, 1, "share of wrong records")
    return Figure(title, curves(series, x, y, alt=title, diagonal=False), note)


def _worst(material: Material, page: GuardEvaluation) -> list[WorstCase]:
    names = material.label_names
    wanted = [record.record_id for record in page.worst]
    found = material.gold.filter(pl.col("id").is_in(wanted)).select("id", "messages")
    messages = dict(found.iter_rows())
    return [
        WorstCase(
            record,
            messages.get(record.record_id, []),
            [names.get(label, label) for label in record.gold],
            [names.get(label, label) for label in record.predicted],
        )
        for record in page.worst
    ]


def _reasons(best: EstimatorEvaluation, names: dict[str, str]) -> list[str]:
    """Each distinct reason for a missing number of the label table, with the labels that it holds for."""
    by_reason: dict[str, list[str]] = {}
    for row in best.labels:
        for metric in LABEL_METRICS:
            reason = row.metrics[metric].reason
            name = names.get(row.label, row.label)
            if reason is not None and name not in by_reason.setdefault(reason, []):
                by_reason[reason].append(name)
    return [f"{reason} ({', '.join(labels)})" for reason, labels in by_reason.items()]

"""The plots of one guard's part of the report; each title is computed from the numbers that it shows."""

from __future__ import annotations

from marginalia.pipeline.report import as_text, finding_sentences
from marginalia.pipeline.report.plots import Axis, Mark, Series, curves, forest, nice_axis
from marginalia.pipeline.report.plots import PlotRow as PlotRow
from marginalia.pipeline.report.report_data import Figure
from marginalia.pipeline.report.small_multiples import Panel, panels
from marginalia.schemas.evaluation_json import (
    CalibrationQuality,
    EstimatorEvaluation,
    GuardEvaluation,
    Metric,
    SoftMetrics,
)

MOST_CURVES = 6


def _mark(metric: Metric, tone: int) -> Mark:
    return Mark(metric.value, metric.low, metric.high, tone, note="not available")


def estimators_figure(page: GuardEvaluation) -> Figure:
    """Macro and micro ROC AUC of every estimator with intervals, beside chance."""
    ordered = sorted(page.estimators, key=lambda each: (each.baseline, each.estimator != page.recommended))
    rows = [
        PlotRow(
            each.estimator + (" (baseline)" if each.baseline else ""),
            [_mark(each.metrics["macro_roc_auc"], 1), _mark(each.metrics["micro_roc_auc"], 2)],
            as_text.with_interval(each.metrics["macro_roc_auc"]),
        )
        for each in ordered
    ]
    title = finding_sentences.estimators_finding(page)
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


def roc_figure(page: GuardEvaluation) -> Figure:
    """ROC curves over all labels pooled, the recommended estimator first."""
    order = sorted(page.estimators, key=lambda each: each.estimator != page.recommended)
    last = [each for each in order if each.estimator == "label_frequency"]
    shown = [each for each in order if each not in last][: MOST_CURVES - len(last)] + last
    series = [
        Series(f"{each.estimator}  {as_text.number(each.metrics['micro_roc_auc'].value)}", each.roc.x, each.roc.y, tone)
        for tone, each in enumerate(shown, start=1)
        if each.roc.x
    ]
    title = finding_sentences.frequency_finding(page, order[0])
    note = (
        "Each point is a threshold: right, the share of absent labels wrongly flagged; up, of present ones found. "
        "The dashed diagonal is guessing. label_frequency knows nothing but how common each label is in these records."
    )
    x, y = Axis(0, 1, "false-positive rate"), Axis(0, 1, "true-positive rate")
    return Figure(title, curves(series, x, y, alt=title, diagonal=True), note)


def reliability_figure(best: EstimatorEvaluation) -> Figure | None:
    """Reliability before and after recalibration on the test split; None without test records."""
    report = best.calibration
    if report.raw is None:
        return None
    shown = [("as the guard says", report.raw, 1)]
    if report.recalibrated is not None:
        shown.append((f"recalibrated ({as_text.method(report.method)})", report.recalibrated, 2))
    series = [_reliability(name, quality, tone, banded=True) for name, quality, tone in shown]
    largest = max(value for one in series for values in (one.x, one.y, one.high) for value in values)
    title = finding_sentences.calibration_finding(report)
    note = (
        "Each point holds equally many record × label values of the test split, by probability: across, what the guard "
        "says; up, how often it is true, with its interval. On the dashed line they agree; below it the guard says too "
        "much. Equal values share a point."
    )
    x, y = nice_axis(min(largest, 1.0), "mean probability"), nice_axis(min(largest, 1.0), "share that is true")
    return Figure(title, curves(series, x, y, alt=title, diagonal=True), note)


def label_reliability_figure(best: EstimatorEvaluation, names: dict[str, str]) -> Figure | None:
    """One small reliability diagram a label, as the guard says it and recalibrated; None without test records."""
    report = best.calibration
    if not report.labels_raw:
        return None
    shown, largest = [], 0.0
    for label, raw in report.labels_raw.items():
        series = [_reliability("as the guard says", raw, 1, banded=True)]
        if (after := report.labels_recalibrated.get(label)) is not None:
            series.append(_reliability(f"recalibrated ({as_text.method(report.method)})", after, 2, banded=False))
        largest = max(largest, *(value for one in series for values in (one.x, one.y) for value in values))
        line = f"{as_text.plural(raw.positives, 'positive')}, ECE {as_text.number(raw.ece.value)}"
        shown.append(Panel(names.get(label, label), line, series))
    title = finding_sentences.label_calibration_finding(report, names)
    note = (
        "Across: the mean probability of a bin of equally many test records; up: the share that has the label. The "
        "band is the interval for what the guard says. On the dashed line both agree; below it the guard says too much."
    )
    axis = nice_axis(min(largest, 1.0), "")
    legend = max((panel.series for panel in shown), key=len)
    return Figure(title, panels(shown, axis, alt=title, legend=legend), note)


def _reliability(name: str, quality: CalibrationQuality, tone: int, *, banded: bool) -> Series:
    return Series(
        name,
        [part.mean_probability for part in quality.bins],
        [part.share_positive for part in quality.bins],
        tone,
        [part.low for part in quality.bins] if banded else (),
        [part.high for part in quality.bins] if banded else (),
    )


def annotators_figure(soft: SoftMetrics, best: EstimatorEvaluation) -> Figure | None:
    """The guard and the annotators, judged by the same single answers; None where no record has two answers."""
    people = soft.metrics["annotator_micro_f1"]
    if people.value is None:
        return None
    rows = [
        PlotRow(name, [_mark(soft.metrics[metric], tone)], as_text.with_interval(soft.metrics[metric]))
        for name, metric, tone in (
            (f"{best.estimator}, one answer", "expected_micro_f1", 1),
            ("annotator, another's answer", "annotator_micro_f1", 2),
            ("annotator, gold", "annotator_gold_micro_f1", 2),
        )
    ]
    title = finding_sentences.annotators_finding(soft, best.estimator)
    note = (
        "Micro F1 against the answer of an annotator drawn at random. No guard can be expected to agree with single "
        "people better than they do with each other. Against gold annotators look better than they are: they made it."
    )
    return Figure(title, forest(rows, Axis(0, 1, "micro F1"), alt=title), note)


def slices_figure(page: GuardEvaluation, confidence: float) -> Figure | None:
    """ROC AUC for each value of each attribute; None without attributes."""
    if not page.slices:
        return None
    rows = [
        PlotRow(f"{one.attribute}: {one.value}", [_mark(auc, 1)], as_text.with_interval(auc))
        for one in page.slices
        for auc in [one.metrics["micro_roc_auc"]]
    ]
    title = finding_sentences.slices_finding(page.slices, confidence)
    note = (
        "Micro ROC AUC over the records that share the value. Each is judged alone; small groups have wide intervals."
    )
    return Figure(title, forest(rows, Axis(0, 1, "micro ROC AUC", 0.5, "chance"), alt=title), note)


def labels_figure(best: EstimatorEvaluation, names: dict[str, str], confidence: float) -> Figure:
    """ROC AUC of each label with its interval."""
    ordered = sorted(best.labels, key=lambda row: -(row.metrics["roc_auc"].value or 0))
    rows = [
        PlotRow(
            names.get(row.label, row.label),
            [Mark(auc.value, auc.low, auc.high, 1, note=auc.reason or "")],
            f"{as_text.with_interval(auc)}" if auc.value is not None else "—",
        )
        for row in ordered
        for auc in [row.metrics["roc_auc"]]
    ]
    title = finding_sentences.labels_finding(best, names, confidence)
    note = f"ROC AUC of {best.estimator} for each label. A point without whiskers has too few records for an interval."
    return Figure(title, forest(rows, Axis(0, 1, "ROC AUC", 0.5, "chance"), alt=title), note)


def review_figure(best: EstimatorEvaluation) -> Figure:
    """Risk against coverage: what is still wrong when the least certain records are reviewed."""
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
    start = points[0].subset_error_overall or 0.0 if points else 0.0
    shares = [p.share_reviewed for p in points]
    series.append(Series("wrong records left, reviewed at random", shares, [start * (1 - at) for at in shares], 5))
    title = finding_sentences.review_finding(best.review)
    note = (
        "A record is wrong when any of its labels is. Records are reviewed in the order of their expected number of "
        "wrong labels, and reviewers are taken to be right. Reviewing at random is what that order has to beat."
    )
    x, y = Axis(0, 0.5, "share of records sent to a reviewer"), Axis(0, 1, "share of wrong records")
    return Figure(title, curves(series, x, y, alt=title, diagonal=False), note)

"""The plots of the report's sections about one guard. Each title is computed from the numbers that the plot shows."""

from __future__ import annotations

from marginalia.pipeline.report import as_text
from marginalia.pipeline.report.calibration_findings import (
    annotators_finding,
    calibration_finding,
    label_calibration_finding,
)
from marginalia.pipeline.report.estimator_findings import estimators_finding, frequency_finding
from marginalia.pipeline.report.figure_csv import panels_csv, rows_csv, series_csv
from marginalia.pipeline.report.label_findings import labels_finding, review_finding, slices_finding
from marginalia.pipeline.report.plots import Axis, Mark, PlotRow, Series, curves, forest, listed, nice_axis
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


def _value_and_interval(metric: Metric) -> str:
    """The numbers at the right of a row; there is no room for the bounds, which the table under the figure shows."""
    interval = as_text.interval(metric)
    return as_text.number(metric.value) + (f" ({interval})" if interval else "")


def estimators_figure(guard: GuardEvaluation) -> Figure:
    """Macro and micro ROC AUC of every estimator, with intervals and a line at chance."""
    ordered = sorted(
        guard.estimators, key=lambda estimator: (estimator.baseline, estimator.estimator != guard.recommended)
    )
    rows = [
        PlotRow(
            estimator.estimator + (" (baseline)" if estimator.baseline else ""),
            [_mark(estimator.metrics["macro_roc_auc"], 1), _mark(estimator.metrics["micro_roc_auc"], 2)],
            _value_and_interval(estimator.metrics["macro_roc_auc"]),
        )
        for estimator in ordered
    ]
    finding = estimators_finding(guard)
    auc_metrics = [
        metric
        for estimator in guard.estimators
        for metric in (estimator.metrics["macro_roc_auc"], estimator.metrics["micro_roc_auc"])
    ]
    lowest = min([1.0, *(metric.low for metric in auc_metrics if metric.low is not None)])
    start, ticks = next(
        (start, ticks) for start, ticks in ((0.4, 6), (0.2, 4), (0.0, 5)) if start <= lowest or start == 0
    )
    axis = Axis(start, 1.0, "ROC AUC", 0.5, "chance", ticks=ticks)
    note = (
        "ROC AUC: how often a record with a label gets a higher score for it than a record without it. 0.5 is chance, "
        "1 is perfect. Macro is the mean over labels. Micro pools all labels, so it also rewards knowing which labels "
        "are common."
    )
    drawing = forest(rows, axis, alt=finding.aria, legend=[("macro (numbers at the right)", 1), ("micro", 2)])
    measures = ("macro ROC AUC", "micro ROC AUC")
    return Figure(
        finding.title,
        drawing,
        note,
        as_text.plural(ordered[0].n, "record"),
        rows_csv(rows, measures),
        alt=listed("Macro ROC AUC of each estimator", rows),
    )


def roc_figure(guard: GuardEvaluation) -> Figure:
    """ROC curves over all labels pooled, the recommended estimator first."""
    order = sorted(guard.estimators, key=lambda estimator: estimator.estimator != guard.recommended)
    frequency = [estimator for estimator in order if estimator.estimator == "label_frequency"]
    shown = [estimator for estimator in order if estimator not in frequency][: MOST_CURVES - len(frequency)] + frequency
    series = [
        Series(
            f"{estimator.estimator}  {as_text.number(estimator.metrics['micro_roc_auc'].value)}",
            estimator.roc.x,
            estimator.roc.y,
            tone,
        )
        for tone, estimator in enumerate(shown, start=1)
        if estimator.roc.x
    ]
    finding = frequency_finding(guard, order[0])
    note = (
        "Each point of a curve is a threshold. Horizontal: share of absent labels that are flagged wrongly. Vertical: "
        "share of present labels that are found. The dashed diagonal is a random guess. label_frequency knows only how "
        "common each label is in these records."
    )
    x, y = Axis(0, 1, "false-positive rate"), Axis(0, 1, "true-positive rate")
    drawing = curves(series, x, y, alt=finding.aria, diagonal=True)
    n = as_text.plural(order[0].n, "record") + ", all labels pooled"
    return Figure(finding.title, drawing, note, n, series_csv(series, x.title, y.title))


def reliability_figure(best: EstimatorEvaluation) -> Figure | None:
    """Reliability before and after recalibration on the test split; None without test records."""
    report = best.calibration
    if report.raw is None:
        return None
    versions = [("before recalibration", report.raw, 1)]
    if report.recalibrated is not None:
        versions.append((f"recalibrated ({as_text.calibration_method(report.method)})", report.recalibrated, 2))
    series = [_reliability(name, quality, tone, banded=True) for name, quality, tone in versions]
    largest = max(value for curve in series for values in (curve.x, curve.y, curve.high) for value in values)
    finding = calibration_finding(report)
    note = (
        "Each point is a bin of record × label values of the test split. Bins have equal size, except that equal "
        "probabilities share a bin. Horizontal: mean probability. Vertical: share of labels that apply, with its "
        "interval. On the dashed line both agree; below it the guard's probabilities are too high."
    )
    x, y = nice_axis(min(largest, 1.0), "mean probability"), nice_axis(min(largest, 1.0), "share that applies")
    drawing = curves(series, x, y, alt=finding.aria, diagonal=True)
    n = f"{report.raw.n:,} record × label values, {as_text.plural(report.raw.positives, 'positive')}"
    return Figure(
        finding.title,
        drawing,
        note,
        n,
        series_csv(series, x.title, y.title),
        alt="Mean probability and share that applies, " + _points(series),
    )


def _points(series: list[Series]) -> str:
    """The points of the curves in words."""
    curves_in_words = [
        f"{curve.name}: "
        + ", ".join(f"{as_text.number(x)} and {as_text.number(y)}" for x, y in zip(curve.x, curve.y, strict=True))
        for curve in series
    ]
    return "; ".join(curves_in_words) + "."


def label_reliability_figure(
    best: EstimatorEvaluation, names: dict[str, str], *, partly: bool = False
) -> Figure | None:
    """One small reliability diagram per label, before and after recalibration; None without test records. `partly`: not
    all labels were judged in all records."""
    report = best.calibration
    if not report.labels_raw:
        return None
    panels_of_labels, largest = [], 0.0
    for label, raw in report.labels_raw.items():
        series = [_reliability("before recalibration", raw, 1, banded=True)]
        if (recalibrated := report.labels_recalibrated.get(label)) is not None:
            series.append(
                _reliability(
                    f"recalibrated ({as_text.calibration_method(report.method)})", recalibrated, 2, banded=False
                )
            )
        largest = max(largest, *(value for curve in series for values in (curve.x, curve.y) for value in values))
        of_judged = f" of {raw.n:,}" if partly else ""
        subtitle = f"{as_text.plural(raw.positives, 'positive')}{of_judged}, ECE {as_text.number(raw.ece.value)}"
        panels_of_labels.append(Panel(names.get(label, label), subtitle, series))
    finding = label_calibration_finding(report, names)
    note = (
        f"Test records{' in which the label was judged' if partly else ''} are sorted by probability into bins of "
        "equal size. Horizontal: mean probability of a bin. Vertical: share of its records that have the label. The "
        "band is the interval before recalibration. On the dashed line both agree; below it the guard's probabilities "
        "are too high."
    )
    axis = nice_axis(min(largest, 1.0), "")
    legend = max((panel.series for panel in panels_of_labels), key=len)
    drawing = panels(panels_of_labels, axis, alt=finding.aria, legend=legend)
    n = as_text.plural(max(raw.n for raw in report.labels_raw.values()), "test record") + (
        " or fewer" if partly else ""
    )
    csv = panels_csv(panels_of_labels, "mean probability", "share that applies")
    return Figure(finding.title, drawing, note, n, csv)


def _reliability(name: str, quality: CalibrationQuality, tone: int, *, banded: bool) -> Series:
    return Series(
        name,
        [bin_.mean_probability for bin_ in quality.bins],
        [bin_.share_positive for bin_ in quality.bins],
        tone,
        [bin_.low for bin_ in quality.bins] if banded else (),
        [bin_.high for bin_ in quality.bins] if banded else (),
    )


def annotators_figure(soft: SoftMetrics, best: EstimatorEvaluation, *, simulated: bool = False) -> Figure | None:
    """The guard and the annotators, measured against the same single answers; None where no record has two answers."""
    annotators = soft.metrics["annotator_micro_f1"]
    if annotators.value is None:
        return None
    rows = [
        PlotRow(name, [_mark(soft.metrics[metric], tone)], _value_and_interval(soft.metrics[metric]))
        for name, metric, tone in (
            (f"{best.estimator} vs annotator", "expected_micro_f1", 1),
            ("annotator vs annotator", "annotator_micro_f1", 2),
            ("annotator vs gold", "annotator_gold_micro_f1", 2),
        )
    ]
    finding = annotators_finding(soft, best.estimator)
    title = f"Simulated annotators: {finding.title[:1].lower()}{finding.title[1:]}" if simulated else finding.title
    note = (
        "Micro F1 against the answer of a randomly drawn annotator. Do not expect a guard to agree with single "
        "annotators better than they agree with each other. The comparison of annotators with gold is optimistic: "
        "their answers were used to build the gold."
    )
    drawing = forest(rows, Axis(0, 1, "micro F1"), alt=title)
    return Figure(title, drawing, note, as_text.plural(soft.n, "record"), rows_csv(rows, ("micro F1",)))


def slices_figure(guard: GuardEvaluation, confidence: float) -> Figure | None:
    """ROC AUC for each value of each attribute; None without attributes."""
    if not guard.slices:
        return None
    rows = [
        PlotRow(f"{slice_.attribute}: {slice_.value}", [_mark(auc, 1)], _value_and_interval(auc))
        for slice_ in guard.slices
        for auc in [slice_.metrics["micro_roc_auc"]]
    ]
    finding = slices_finding(guard.slices, confidence)
    note = (
        "Micro ROC AUC over the records with the same attribute value. Each group is judged alone; small groups have "
        "wide intervals."
    )
    drawing = forest(rows, Axis(0, 1, "micro ROC AUC", 0.5, "chance"), alt=finding.aria)
    sizes = [slice_.n for slice_ in guard.slices]
    n = f"groups of {min(sizes)} to {as_text.plural(max(sizes), 'record')}"
    return Figure(finding.title, drawing, note, n, rows_csv(rows, ("micro ROC AUC",)))


def labels_figure(
    best: EstimatorEvaluation, names: dict[str, str], confidence: float, *, partly: bool = False
) -> Figure:
    """ROC AUC of each label with its interval. `partly`: not all labels were judged in all records."""
    ordered = sorted(best.labels, key=lambda row: -(row.metrics["roc_auc"].value or 0))
    rows = [
        PlotRow(
            names.get(row.label, row.label),
            [Mark(auc.value, auc.low, auc.high, 1, note=auc.reason or "")],
            _value_and_interval(auc) if auc.value is not None else "—",
        )
        for row in ordered
        for auc in [row.metrics["roc_auc"]]
    ]
    finding = labels_finding(best, names, confidence)
    note = (
        f"ROC AUC of {best.estimator} for each label. A point without whiskers has too few records for an interval. "
        "Whiskers hold for each label alone. “Clearly” in the title uses wider intervals that hold for all labels at "
        "once, so fewer labels can be clear than have whiskers above 0.5."
    )
    if partly:
        note += " Only records in which the label was judged count."
    drawing = forest(rows, Axis(0, 1, "ROC AUC", 0.5, "chance"), alt=finding.aria)
    positives = [row.positives for row in best.labels]
    n = as_text.plural(best.n, "record")
    if positives:
        n += f", {min(positives)} to {as_text.plural(max(positives), 'positive')} per label"
    return Figure(
        finding.title, drawing, note, n, rows_csv(rows, ("ROC AUC",)), alt=listed("ROC AUC of each label", rows)
    )


def review_figure(best: EstimatorEvaluation, *, partly: bool = False) -> Figure:
    """Risk against coverage: the errors that remain when the least certain records are reviewed. `partly`: not all
    labels were judged in all records."""
    points = [point for point in best.review if point.subset_error_overall is not None]
    shares = [point.share_reviewed for point in points]
    left = [point.subset_error_overall or 0.0 for point in points]
    among_kept = [point.subset_error or 0.0 for point in points]
    start = left[0] if left else 0.0
    series = [
        Series("wrong, of all records", shares, left, 1),
        Series("wrong, among those not reviewed", shares, among_kept, 2),
        Series("wrong, reviewed at random", shares, [start * (1 - share) for share in shares], 5),
    ]
    finding = review_finding(best.review)
    note = (
        f"A record is wrong when any of its {'judged ' if partly else ''}labels is wrong. Records with the most "
        "expected wrong labels are reviewed first. Reviewers are assumed to be right. Compare with reviewing the same "
        "number of records at random."
    )
    x, y = Axis(0, 0.5, "share of records sent to a reviewer"), Axis(0, 1, "share of wrong records")
    drawing = curves(series, x, y, alt=finding.aria, diagonal=False)
    most = max((point.n_kept for point in points), default=0)
    return Figure(finding.title, drawing, note, as_text.plural(most, "record"), series_csv(series, x.title, y.title))

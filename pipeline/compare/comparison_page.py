"""A comparison as one self-contained HTML page in the style of the report."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from marginalia.pipeline.compare.comparison_model import Comparison, EqualRecall, LabelRow, MetricRow
from marginalia.pipeline.compare.comparison_sentences import (
    cost_finding,
    costs_title,
    rate,
    rate_details,
    side_names,
    speed_sentence,
    use_text,
)
from marginalia.pipeline.compare.comparison_text import comparison_finding
from marginalia.pipeline.report import as_text
from marginalia.pipeline.report.figure_csv import rows_csv
from marginalia.pipeline.report.page_script import TEMPLATES
from marginalia.pipeline.report.plots import Axis, Mark, PlotRow, forest, nice_axis, truncated
from marginalia.pipeline.report.report_data import Figure
from marginalia.pipeline.report.report_page import environment

STYLES = ("page.css", "decision.css", "compare.css")
DECISION_SECTIONS = (("decision", "Which guard?"), ("recall", "Equal recall"))
SECTIONS = (("differs", "What differs"), ("metrics", "Metrics"), ("labels", "Metrics of each label"))
LABEL_METRICS = ("roc_auc", "average_precision", "f1")


def build_comparison(comparison: Comparison, names: dict[str, str]) -> str:
    """The HTML page. `names`: label id → name. Every text is escaped; the page loads nothing."""
    by_label: dict[str, dict[str, LabelRow]] = {}
    for row in comparison.labels:
        by_label.setdefault(row.label, {})[row.metric] = row
    style = Markup("".join((TEMPLATES / name).read_text(encoding="utf-8") for name in STYLES))
    auc_rows = [row for row in comparison.labels if row.metric == "roc_auc"]
    decision, costs = comparison.decision, comparison.equal_recall
    names_of_sides = side_names(comparison.a, comparison.b)
    return (
        environment()
        .get_template("compare.html.j2")
        .render(
            comparison=comparison,
            names=names_of_sides,
            label_names=names,
            decision=decision,
            costs=costs,
            sections=[*DECISION_SECTIONS[: bool(decision) + bool(costs)], *SECTIONS],
            use_text=use_text,
            cost_finding=cost_finding,
            speed=speed_sentence(names_of_sides, comparison.a, comparison.b),
            rate=rate,
            rate_details=rate_details,
            title=comparison_finding(comparison),
            tested=next((row.metric for row in comparison.metrics if row.tested), None),
            cost_figure=_cost_figure(comparison, costs) if costs and costs.overall else None,
            overall_figure=_figure(comparison, [(as_text.NAMES[row.metric], row) for row in comparison.metrics]),
            label_figure=_figure(comparison, [(names.get(row.label, row.label), row) for row in auc_rows], labels=True),
            by_label=[(names.get(label, label), rows) for label, rows in by_label.items()],
            label_metrics=LABEL_METRICS,
            metric_names=as_text.NAMES,
            as_text=as_text,
            style=style,
        )
    )


def _cost_figure(comparison: Comparison, costs: EqualRecall) -> Figure:
    """False alarms of both guards at equal recall, label by label."""
    names = side_names(comparison.a, comparison.b)
    sides = [(row.a.false_alarms, row.b.false_alarms) for row in costs.labels]
    rows = [
        PlotRow(
            row.name,
            [Mark(metric.value, metric.low, metric.high, tone) for tone, metric in enumerate(pair, 1)],
            " / ".join(rate(metric.value) for metric in pair),
        )
        for row, pair in zip(costs.labels, sides, strict=True)
    ]
    largest = max((end for pair in sides for metric in pair for end in (metric.value, metric.high) if end), default=1.0)
    axis = nice_axis(largest, "false alarms per 1,000 records")
    recall = as_text.percent(costs.recall)
    title = costs_title(names, costs)
    note = (
        f"False alarms per 1,000 records, at the threshold at which a guard finds {recall} of the label's positives. "
        f"At the right: {names[0]} / {names[1]}. Lines are intervals of each value, not of the difference."
    )
    legend = [(truncated(name, 24), tone) for tone, name in enumerate(names, 1)]
    n = as_text.plural(comparison.shared.judged, "shared record")
    return Figure(title, forest(rows, axis, alt=title, legend=legend), note, n, rows_csv(rows, names))


def _label_title(values: Sequence[tuple[str, float]]) -> str:
    (lowest, least), (highest, most) = (extreme(values, key=lambda pair: pair[1]) for extreme in (min, max))
    return (
        f"By label, b minus a ranges from {as_text.signed(least, 3)} ({lowest}) to {as_text.signed(most, 3)} "
        f"({highest})"
    )


def _figure(comparison: Comparison, rows: Sequence[tuple[str, MetricRow]], *, labels: bool = False) -> Figure | None:
    """Differences with their intervals; None without paired differences. Log loss is left out, as it is unbounded."""
    shown = [
        (name, row, row.difference)
        for name, row in rows
        if row.difference is not None and row.difference.value is not None and row.metric != "log_loss"
    ]
    if not shown:
        return None
    ends = [
        abs(end)
        for _, _, difference in shown
        for end in (difference.value, difference.low, difference.high)
        if end is not None
    ]
    reach = nice_axis(max(*ends, 0.01), "").high
    axis = Axis(-reach, reach, "b minus a", 0.0, "no difference", ticks=4)
    drawn = [
        PlotRow(
            name,
            [Mark(difference.value, difference.low, difference.high, 1, note=difference.reason or "")],
            as_text.signed(difference.value, 3) + (f" {row.finding}" if row.finding in ("better", "worse") else ""),
        )
        for name, row, difference in shown
    ]
    title = (
        _label_title([(name, difference.value or 0.0) for name, _, difference in shown])
        if labels
        else comparison_finding(comparison)
    )
    note = (
        f"Each point is b minus a over {as_text.plural(comparison.shared.judged, 'shared record')}; the line through "
        "it is the interval over the same resamples. Right of the dashed line b is higher. For losses, errors and "
        "false positives, higher is worse."
    )
    n = as_text.plural(comparison.shared.judged, "shared record")
    return Figure(title, forest(drawn, axis, alt=title), note, n, rows_csv(drawn, ("b minus a",)))

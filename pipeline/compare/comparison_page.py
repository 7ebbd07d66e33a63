"""A comparison as one self-contained HTML page, in the report's dress."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from marginalia.pipeline.compare.comparison_model import Comparison, LabelRow, MetricRow
from marginalia.pipeline.compare.comparison_text import finding
from marginalia.pipeline.report import as_text
from marginalia.pipeline.report.plots import Axis, Mark, forest, nice_axis
from marginalia.pipeline.report.plots import PlotRow as PlotRow
from marginalia.pipeline.report.report_data import Figure
from marginalia.pipeline.report.report_page import TEMPLATES, environment

LABEL_METRICS = ("roc_auc", "average_precision", "f1")


def build_comparison(found: Comparison, names: dict[str, str]) -> str:
    """The page. `names`: label id → name. Every text is escaped; nothing is loaded from anywhere."""
    by_label: dict[str, dict[str, LabelRow]] = {}
    for row in found.labels:
        by_label.setdefault(row.label, {})[row.metric] = row
    style = Markup((TEMPLATES / "page.css").read_text(encoding="utf-8"))
    auc = [row for row in found.labels if row.metric == "roc_auc"]
    return (
        environment()
        .get_template("compare.html.j2")
        .render(
            found=found,
            title=finding(found),
            overall=_figure(found, [(as_text.NAMES[row.metric], row) for row in found.metrics]),
            each=_figure(found, [(names.get(row.label, row.label), row) for row in auc], labels=True),
            by_label=[(names.get(label, label), rows) for label, rows in by_label.items()],
            label_metrics=LABEL_METRICS,
            metric_names=as_text.NAMES,
            words=as_text,
            style=style,
        )
    )


def _by_label(values: Sequence[tuple[str, float]]) -> str:
    (low, least), (high, most) = (extreme(values, key=lambda pair: pair[1]) for extreme in (min, max))
    return (
        f"Label by label, b less a goes from {as_text.signed(least, 3)} ({low}) to {as_text.signed(most, 3)} ({high})"
    )


def _figure(found: Comparison, rows: Sequence[tuple[str, MetricRow]], *, labels: bool = False) -> Figure | None:
    """Differences with their intervals around 0; None when nothing is paired. Log loss has no end and is left out."""
    shown = [
        (name, row, row.difference)
        for name, row in rows
        if row.difference is not None and row.difference.value is not None and row.metric != "log_loss"
    ]
    if not shown:
        return None
    ends = [abs(end) for _, _, one in shown for end in (one.value, one.low, one.high) if end is not None]
    reach = nice_axis(max(*ends, 0.01), "").high
    axis = Axis(-reach, reach, "b less a", 0.0, "no difference", ticks=4)
    drawn = [
        PlotRow(
            name,
            [Mark(one.value, one.low, one.high, 1, note=one.reason or "")],
            as_text.signed(one.value, 3) + (f" {row.finding}" if row.finding in ("better", "worse") else ""),
        )
        for name, row, one in shown
    ]
    title = _by_label([(name, one.value or 0.0) for name, _, one in shown]) if labels else finding(found)
    note = (
        f"Each point is b less a over {as_text.plural(found.shared.judged, 'shared record')}, with the interval of "
        "differences on the same resamples. Right of the line is more, which is worse for losses."
    )
    return Figure(title, forest(drawn, axis, alt=title), note)

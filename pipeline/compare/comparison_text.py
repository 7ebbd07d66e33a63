"""A comparison as the terminal shows it."""

from __future__ import annotations

from marginalia.pipeline.compare.comparison_model import Comparison, MetricRow
from marginalia.pipeline.report import as_text
from marginalia.pipeline.report.comparison_findings import runs_finding
from marginalia.pipeline.report.plots import truncated
from marginalia.schemas.evaluation_json import Metric

WIDEST = 34  # characters of a setting's value that are shown
FINDINGS = {
    "better": "b is better",
    "worse": "b is worse",
    "no clear difference": "no clear difference",
    "not known": "",
    "descriptive": "descriptive",
}


def comparison_table(comparison: Comparison) -> str:
    """The settings that differ, then the metrics of both runs with their difference, then the ROC AUC of each label."""
    a, b = comparison.a, comparison.b
    lines = [
        f"a  {a.run}: {a.estimator} of guard {a.guard}{_model(a.model)}, {as_text.plural(a.records, 'record')}",
        f"b  {b.run}: {b.estimator} of guard {b.guard}{_model(b.model)}, {as_text.plural(b.records, 'record')}",
        *(f"note: {note}" for note in comparison.notes),
        "",
        "what differs" if comparison.differing else "config, gold, taxonomy and versions are the same",
    ]
    differing = [[row.what, _shortened(row.a), _shortened(row.b)] for row in comparison.differing]
    lines += _columns(["", "a", "b"], differing) if differing else []
    confidence = as_text.percent(comparison.confidence)
    lines += [
        "",
        f"metrics; b minus a over {as_text.plural(comparison.shared.judged, 'shared record')}, {confidence} intervals",
    ]
    lines += _columns(
        ["", "a", "b", "b minus a", ""], [[as_text.NAMES[row.metric], *_cells(row)] for row in comparison.metrics]
    )
    lines += ["", "ROC AUC of each label"]
    labels = [row for row in comparison.labels if row.metric == "roc_auc"]
    lines += _columns(["", "a", "b", "b minus a", ""], [[row.label, *_cells(row)] for row in labels])
    return "\n".join(lines)


def comparison_finding(comparison: Comparison) -> str:
    """The headline: which run is better in the tested metric, if its interval shows that."""
    row = next((row for row in comparison.metrics if row.tested and row.finding != "not known"), None)
    a, b = comparison.a.run, comparison.b.run
    if a == b:
        a, b = (f"{compared.guard} {compared.estimator}" for compared in (comparison.a, comparison.b))
    if row is None:
        return runs_finding(a, b, "", None, "not known").sentence
    return runs_finding(a, b, row.metric, row.difference, row.finding).sentence


def _cells(row: MetricRow) -> list[str]:
    def cell(metric: Metric | None) -> str:
        return "—" if metric is None else as_text.with_interval(metric, 3)

    difference = "—"
    if row.difference is not None and row.difference.value is not None:
        interval, bounds = as_text.signed_interval(row.difference, 3), as_text.bounds(row.difference, 3)
        details = "; ".join(part for part in (interval, bounds) if part)
        difference = as_text.signed(row.difference.value, 3) + (f" ({details})" if details else "")
    explained = as_text.BOUNDS_EXPLAIN if as_text.explained_by_bounds(row.finding, row.difference) else ""
    return [cell(row.a), cell(row.b), difference, FINDINGS[row.finding] + explained]


def _columns(head: list[str], rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [head, *rows]
    ]


def _model(model: str | None) -> str:
    return f" ({model})" if model else ""


def _shortened(value: str | None) -> str:
    if value is None:
        return "—"
    return truncated(" ".join(value.split()), WIDEST)

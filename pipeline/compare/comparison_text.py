"""A comparison as the terminal shows it."""

from __future__ import annotations

from marginalia.pipeline.compare.comparison_model import Comparison, MetricRow
from marginalia.pipeline.report import as_text
from marginalia.schemas.evaluation_json import Metric

WIDEST = 34  # characters of a setting's value
MARKS = {
    "better": "b is better",
    "worse": "b is worse",
    "no clear difference": "no clear difference",
    "not known": "",
    "descriptive": "descriptive",
}


def table(found: Comparison) -> str:
    """What differs, the metrics side by side with the difference, then each label."""
    a, b = found.a, found.b
    lines = [
        f"a  {a.run}: {a.estimator} of guard {a.guard}{_model(a.model)}, {as_text.plural(a.records, 'record')}",
        f"b  {b.run}: {b.estimator} of guard {b.guard}{_model(b.model)}, {as_text.plural(b.records, 'record')}",
        *(f"note: {note}" for note in found.notes),
        "",
        "what differs" if found.differing else "nothing differs in config, gold, taxonomy and versions",
    ]
    differing = [[row.what, _cut(row.a), _cut(row.b)] for row in found.differing]
    lines += _columns(["", "a", "b"], differing) if differing else []
    confidence = as_text.percent(found.confidence)
    lines += [
        "",
        f"metrics; b less a over {as_text.plural(found.shared.judged, 'shared record')}, {confidence} intervals",
    ]
    lines += _columns(
        ["", "a", "b", "b less a", ""], [[as_text.NAMES[row.metric], *_cells(row)] for row in found.metrics]
    )
    lines += ["", "ROC AUC of each label"]
    labels = [row for row in found.labels if row.metric == "roc_auc"]
    lines += _columns(["", "a", "b", "b less a", ""], [[row.label, *_cells(row)] for row in labels])
    return "\n".join(lines)


def finding(found: Comparison) -> str:
    """The headline: which is better in the metric that is tested, in words that its interval allows."""
    row = next((row for row in found.metrics if row.tested and row.finding != "not known"), None)
    a, b = found.a.run, found.b.run
    if a == b:
        a, b = (f"{side.guard} {side.estimator}" for side in (found.a, found.b))
    if row is None:
        return f"Nothing says whether {b} is better or worse than {a}: the metric to test has no paired interval"
    name = as_text.NAMES[row.metric]
    if row.finding in ("better", "worse"):
        return f"{b} is clearly {row.finding} than {a} in {name}"
    explained = as_text.BOUNDS_EXPLAIN if as_text.explained_by_bounds(row.finding, row.difference) else ""
    return f"No clear difference between {a} and {b} in {name}{explained}"


def _cells(row: MetricRow) -> list[str]:
    def cell(metric: Metric | None) -> str:
        return "—" if metric is None else as_text.with_interval(metric, 3)

    difference = "—"
    if row.difference is not None and row.difference.value is not None:
        inside = as_text.signed_interval(row.difference, 3)
        bounds = as_text.bounds(row.difference, 3)
        inside = "; ".join(part for part in (inside, bounds) if part)
        difference = as_text.signed(row.difference.value, 3) + (f" ({inside})" if inside else "")
    explained = as_text.BOUNDS_EXPLAIN if as_text.explained_by_bounds(row.finding, row.difference) else ""
    return [cell(row.a), cell(row.b), difference, MARKS[row.finding] + explained]


def _columns(head: list[str], rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[place]) for row in [head, *rows]) for place in range(len(head))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [head, *rows]
    ]


def _model(model: str | None) -> str:
    return f" ({model})" if model else ""


def _cut(value: str | None) -> str:
    if value is None:
        return "—"
    line = " ".join(value.split())
    return line if len(line) <= WIDEST else line[: WIDEST - 1] + "…"

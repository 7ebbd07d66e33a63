"""How much of the plan was filled, by attribute, and why attempts were rejected."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from marginalia.pipeline.report import as_text
from marginalia.pipeline.report.figure_csv import rows_csv
from marginalia.pipeline.report.gold_findings import CoveredValue, rejections_finding
from marginalia.pipeline.report.plots import Mark, PlotRow, bars, nice_axis
from marginalia.pipeline.report.report_data import Figure, ReportData
from marginalia.schemas.tables import PlannedSlot

MOST_VALUES = 12  # attributes with more values are left out of the table


def coverage(data: ReportData) -> list[CoveredValue]:
    """A row for each value of every attribute of the plan, and of the number of labels per record.

    Empty for a run without plan or prompts."""
    if data.plan is None or data.prompts is None:
        return []
    final = data.gold.filter(pl.col("status") == "final")["id"].to_list()
    written = data.prompts.filter(pl.col("slot_id").is_not_null())
    accepted = set(written["slot_id"])
    gold = set(written.filter(pl.col("id").is_in(final))["slot_id"])
    plan = data.plan.with_columns(
        pl.col("labels").list.len().cast(pl.String).alias("labels per record"),
        accepted=pl.col("slot_id").is_in(list(accepted)),
        gold=pl.col("slot_id").is_in(list(gold)),
    )
    plan_columns = {*PlannedSlot.polars_schema(), "accepted", "gold"}
    rows = []
    for name in sorted(set(plan.columns) - plan_columns, key=lambda name: (name != "labels per record", name)):
        counts = (
            plan.filter(pl.col(name).is_not_null() & (pl.col(name) != ""))
            .group_by(pl.col(name).cast(pl.String).alias("value"))
            .agg(pl.len().alias("planned"), pl.col("accepted").sum(), pl.col("gold").sum())
            .sort("value")
        )
        if 2 <= counts.height <= MOST_VALUES:
            rows += [CoveredValue(name, *row) for row in counts.iter_rows()]
    return rows


def rejected_figure(rejections: Sequence[tuple[str, int]]) -> Figure | None:
    """Rejected attempts by reason, most frequent first; None when nothing was rejected."""
    if not rejections:
        return None
    total = sum(count for _, count in rejections)
    finding, most = rejections_finding(rejections), rejections[0][1]
    rows = [PlotRow(name.replace("_", " "), [Mark(count, tone=5)], f"{count:,}") for name, count in rejections]
    note = "After a rejected attempt its record is requested again, until a text is accepted or all attempts are used."
    drawing = bars(rows, nice_axis(max(most, 5), "rejected attempts"), alt=finding.aria)
    n = as_text.plural(total, "rejected attempt")
    return Figure(finding.title, drawing, note, n, rows_csv(rows, ("rejected attempts",)))

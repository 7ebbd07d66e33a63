"""How the plan was covered: what was asked for by attribute, what was accepted, and why attempts were rejected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from marginalia.pipeline.report import as_text
from marginalia.pipeline.report.plots import Mark, PlotRow, bars, nice_axis
from marginalia.pipeline.report.report_data import Figure, ReportData
from marginalia.schemas.tables import PlannedSlot

MOST_VALUES = 12  # of one attribute; one with more is no attribute to make a table of


@dataclass(frozen=True)
class Covered:
    """Slots that asked for this value, accepted records that fill them, and final gold records among those."""

    attribute: str
    value: str
    planned: int
    accepted: int
    gold: int


def coverage(material: ReportData) -> list[Covered]:
    """Labels a record and every attribute of the plan; empty for a run without plan or prompts."""
    if material.plan is None or material.prompts is None:
        return []
    final = material.gold.filter(pl.col("status") == "final")["id"].to_list()
    filled = material.prompts.filter(pl.col("slot_id").is_not_null())
    accepted = set(filled["slot_id"])
    gold = set(filled.filter(pl.col("id").is_in(final))["slot_id"])
    plan = material.plan.with_columns(
        pl.col("labels").list.len().cast(pl.String).alias("labels a record"),
        accepted=pl.col("slot_id").is_in(list(accepted)),
        gold=pl.col("slot_id").is_in(list(gold)),
    )
    own = {*PlannedSlot.polars_schema(), "accepted", "gold"}
    rows = []
    for name in sorted(set(plan.columns) - own, key=lambda name: (name != "labels a record", name)):
        counts = (
            plan.filter(pl.col(name).is_not_null() & (pl.col(name) != ""))
            .group_by(pl.col(name).cast(pl.String).alias("value"))
            .agg(pl.len().alias("planned"), pl.col("accepted").sum(), pl.col("gold").sum())
            .sort("value")
        )
        if 2 <= counts.height <= MOST_VALUES:
            rows += [Covered(name, *row) for row in counts.iter_rows()]
    return rows


def coverage_finding(rows: Sequence[Covered]) -> str:
    """Where the accepted records fall shortest of the plan."""
    short = [row for row in rows if row.planned and row.accepted < row.planned]
    if not short:
        return "Every planned slot was filled"
    worst = min(short, key=lambda row: row.accepted / row.planned)
    filled = f"{worst.accepted:,} of {worst.planned:,} slots"
    return f"The plan is filled least where {worst.attribute} is {worst.value}: {filled}"


def rejected_figure(rejections: Sequence[tuple[str, int]]) -> Figure | None:
    """Rejected attempts by reason, most frequent first; None when nothing was rejected."""
    if not rejections:
        return None
    total = sum(count for _, count in rejections)
    reason, most = rejections[0]
    title = (
        f"{as_text.plural(total, 'attempt was', 'attempts were')} rejected, {most} of them for the reason "
        f"“{reason.replace('_', ' ')}”"
    )
    rows = [PlotRow(name.replace("_", " "), [Mark(count, tone=5)], f"{count:,}") for name, count in rejections]
    note = "A slot whose attempt is rejected is asked for again, until an attempt passes or the tries are used up."
    return Figure(title, bars(rows, nice_axis(max(most, 5), "rejected attempts"), alt=title), note)

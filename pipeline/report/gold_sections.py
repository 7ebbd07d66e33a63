"""What was built, how far to trust the labels, what it cost and how it was made."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from marginalia.pipeline.report import as_text, finding_sentences
from marginalia.pipeline.report.coverage_section import Covered, coverage, coverage_finding, rejected_figure
from marginalia.pipeline.report.plots import Axis, Mark, PlotRow, bars, forest, nice_axis
from marginalia.pipeline.report.report_data import Figure, ReportData
from marginalia.schemas.agreement_json import Agreement, LabelAgreement
from marginalia.schemas.manifest_json import Manifest


@dataclass(frozen=True)
class BuildStep:
    """One station of the way from plan to scores; `share` of the largest count, for the width of its bar."""

    name: str
    count: int
    what: str
    share: float


@dataclass(frozen=True)
class Built:
    steps: list[BuildStep]
    figure: Figure
    labels: list[tuple[str, int, int | None]]  # name, in gold, intended
    rejections: list[tuple[str, int]]
    rejected: Figure | None
    coverage: list[Covered]
    coverage_finding: str
    left_out: list[tuple[str, int]]


@dataclass(frozen=True)
class Trust:
    agreement: Agreement
    figure: Figure
    labels: list[LabelAgreement]


@dataclass(frozen=True)
class StageRow:
    """One line of the table of stages, from its manifest."""

    stage: str
    counts_in: str
    counts_out: str
    seconds: str
    tokens: str
    cost: str
    models: str


def built(material: ReportData) -> Built:
    """Counts of every station, counted in the files themselves, and labels in gold beside those asked for."""
    gold = material.evaluation.gold
    counted: list[tuple[str, int, str]] = []
    if material.plan is not None:
        counted.append(("Planned", material.plan.height, "slots to fill"))
    if material.prompts is not None:
        written = material.prompts.filter(pl.col("slot_id").is_not_null()).height
        if written or material.plan is not None:
            counted.append(("Written", written, "texts accepted"))
        if brought := material.prompts.height - written:
            name = "Included" if material.plan is not None else "Imported"
            counted.append((name, brought, "records brought along"))
    if material.annotations is not None:
        submitted = material.annotations.filter(pl.col("status") == "submitted")
        answered = submitted.filter(pl.col("round") == "annotate")
        expert = submitted.filter(pl.col("round") == "adjudicate").height
        people = answered["annotator"].n_unique()
        what = f"records answered by {as_text.plural(people, 'annotator')}, {as_text.plural(answered.height, 'answer')}"
        if expert:
            what += f", {as_text.plural(expert, 'record')} adjudicated"
        counted.append(("Annotated", answered["record_id"].n_unique(), what))
    counted.append(("Gold", gold.final, f"records with final labels, {gold.safe} of them with none"))
    counted += [("Scored", page.records, f"records judged by {page.guard}") for page in material.evaluation.guards]
    largest = max((count for _, count, _ in counted), default=0) or 1
    intended = _intended(material)
    names = material.label_names
    labels = [(names[label], n, intended.get(label, 0) if intended else None) for label, n in gold.positives.items()]
    rejections = _tally(material.rejected, "reason") if material.rejected is not None else []
    covered = coverage(material)
    return Built(
        steps=[BuildStep(name, count, what, count / largest) for name, count, what in counted],
        figure=_label_counts(labels),
        labels=labels,
        rejections=rejections,
        rejected=rejected_figure(rejections),
        coverage=covered,
        coverage_finding=coverage_finding(covered),
        left_out=list(gold.left_out.items()),
    )


def _intended(material: ReportData) -> dict[str, int]:
    """How many final gold records were asked to have each label; empty for imported records."""
    if material.prompts is None or material.plan is None:
        return {}
    final = material.gold.filter(pl.col("status") == "final")["id"]
    asked = material.prompts.filter(pl.col("id").is_in(final.to_list()))["intended_labels"]
    return {str(label): int(n) for label, n in asked.explode().drop_nulls().value_counts().iter_rows()}


def _tally(frame: pl.DataFrame, column: str) -> list[tuple[str, int]]:
    counts = frame.group_by(column).len().sort("len", column, descending=[True, False])
    return [(str(value), int(n)) for value, n in counts.iter_rows()]


def _label_counts(labels: list[tuple[str, int, int | None]]) -> Figure:
    ordered = sorted(labels, key=lambda row: -row[1])
    has_intended = any(intended is not None for _, _, intended in labels)
    empty = [name for name, n, _ in labels if n == 0]
    most, fewest = ordered[0], ordered[-1]
    if empty:
        title = f"{as_text.plural(len(empty), 'label has', 'labels have')} no gold record: {as_text.listed(empty)}"
    else:
        title = f"Every label has gold records: from {fewest[1]} ({fewest[0]}) to {most[1]} ({most[0]})"
    rows = []
    for name, n, intended in ordered:
        marks = [Mark(n, tone=1)] + ([Mark(intended, tone=2)] if intended is not None else [])
        rows.append(PlotRow(name, marks, f"{n} (asked {intended})" if intended is not None else str(n)))
    largest = max((max(n, intended or 0) for _, n, intended in labels), default=1)
    axis = nice_axis(max(largest, 5), "gold records with the label")
    note = "Bars: records that people gave the label."
    if has_intended:
        note += " Upright marks: records whose writer was asked for it. Only what people said counts."
    return Figure(title, bars(rows, axis, alt=title), note)


def trust(material: ReportData) -> Trust | None:
    """Agreement as measured; None when there is no agreement.json."""
    found = material.agreement
    if found is None:
        return None
    names = material.label_names
    known = [(row.alpha.value, row) for row in found.per_label if row.alpha.value is not None]
    lowest = min(known, key=lambda pair: pair[0])[1] if known else None
    low_words = (names.get(lowest.label, lowest.label), lowest.alpha.value or 0.0) if lowest is not None else None
    title = finding_sentences.agreement_finding(found.alpha_masi, low_words)
    ordered = sorted(found.per_label, key=lambda row: -(row.alpha.value if row.alpha.value is not None else -9))
    rows = [
        PlotRow(
            names.get(row.label, row.label),
            [Mark(row.alpha.value, row.alpha.low, row.alpha.high, note="no variation to agree about")],
            as_text.with_interval(row.alpha) if row.alpha.value is not None else "—",
        )
        for row in ordered
    ]
    low = min([0.0, *(row.alpha.low for row in found.per_label if row.alpha.low is not None)])
    axis = Axis(
        -1.0 if low < -0.5 else -0.5 if low < 0 else 0.0, 1.0, "Krippendorff's alpha", 0.667, "tentative from 0.667"
    )
    note = "1 is full agreement, 0 is what guessing would give. Whiskers: 95 % interval over records."
    return Trust(found, Figure(title, forest(rows, axis, alt=title), note), ordered)


def stage_rows(material: ReportData) -> list[StageRow]:
    """One row a manifest, in the order in which the stages ended."""
    return [
        _stage_row(manifest, material.currency) for manifest in sorted(material.manifests, key=lambda m: m.finished_at)
    ]


def _stage_row(manifest: Manifest, currency: str) -> StageRow:
    def counts(values: dict[str, int]) -> str:
        return ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in values.items()) or "—"

    return StageRow(
        stage=manifest.stage,
        counts_in=counts(manifest.counts_in),
        counts_out=counts(manifest.counts_out),
        seconds=as_text.duration(manifest.seconds),
        tokens=counts(manifest.tokens),
        cost="—" if manifest.cost is None else f"{manifest.cost:,.2f} {currency}".rstrip(),
        models=", ".join(manifest.models) or "—",
    )

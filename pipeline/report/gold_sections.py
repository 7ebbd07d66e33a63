"""The report's sections about the data set: what was built, how far to trust the labels, and the stages with cost."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from marginalia.pipeline.core.imported_files import is_answers_imported
from marginalia.pipeline.report import as_text, finding_sentences
from marginalia.pipeline.report.coverage_section import CoveredValue, coverage, coverage_finding, rejected_figure
from marginalia.pipeline.report.plots import Axis, Mark, PlotRow, bars, forest, nice_axis
from marginalia.pipeline.report.report_data import Figure, ReportData
from marginalia.schemas.agreement_json import Agreement, LabelAgreement
from marginalia.schemas.manifest_json import Manifest


@dataclass(frozen=True)
class BuildStep:
    """One step from the plan to the scores. `share`: its count divided by the largest one, for the width of its bar."""

    name: str
    count: int
    description: str
    share: float


@dataclass(frozen=True)
class DatasetSection:
    """The section "What was built"."""

    steps: list[BuildStep]
    figure: Figure
    labels: list[tuple[str, int, int | None]]  # name, gold records, records whose writer was asked for it
    rejections: list[tuple[str, int]]  # reason, attempts
    rejected: Figure | None
    coverage: list[CoveredValue]
    coverage_finding: str
    left_out: list[tuple[str, int]]  # status, records


@dataclass(frozen=True)
class TrustSection:
    """The section "How far to trust the labels"; `labels` by falling alpha."""

    agreement: Agreement
    figure: Figure
    labels: list[LabelAgreement]


@dataclass(frozen=True)
class StageRow:
    """One row of the table of stages, as text, from the stage's manifest."""

    stage: str
    counts_in: str
    counts_out: str
    seconds: str
    tokens: str
    cost: str
    models: str


def dataset_section(data: ReportData) -> DatasetSection:
    """Counts of every step, taken from the files themselves, and gold records by label next to those asked for."""
    gold = data.evaluation.gold
    steps: list[tuple[str, int, str]] = []
    if data.plan is not None:
        steps.append(("Planned", data.plan.height, "slots to fill"))
    if data.prompts is not None:
        written = data.prompts.filter(pl.col("slot_id").is_not_null()).height
        if written or data.plan is not None:
            steps.append(("Written", written, "texts accepted"))
        if other_records := data.prompts.height - written:
            name = "Included" if data.plan is not None else "Imported"
            steps.append((name, other_records, "records from your own data"))
    if data.annotations is not None:
        submitted = data.annotations.filter(pl.col("status") == "submitted")
        answers = submitted.filter(pl.col("round") == "annotate")
        expert = submitted.filter(pl.col("round") == "adjudicate").height
        annotators = answers["annotator"].n_unique()
        description = (
            f"records answered by {as_text.plural(annotators, 'annotator')}, {as_text.plural(answers.height, 'answer')}"
        )
        if is_answers_imported(data.manifests):
            description += ", imported with the records"
        if expert:
            description += f", {as_text.plural(expert, 'record')} adjudicated"
        steps.append(("Annotated", answers["record_id"].n_unique(), description))
    steps.append(("Gold", gold.final, f"records with final labels, {gold.safe} of them with no label"))
    steps += [("Scored", guard.records, f"records judged by {guard.guard}") for guard in data.evaluation.guards]
    largest = max((count for _, count, _ in steps), default=0) or 1
    intended = _intended(data)
    names = data.label_names
    labels = [(names[label], n, intended.get(label, 0) if intended else None) for label, n in gold.positives.items()]
    rejections = _counts_of(data.rejected, "reason") if data.rejected is not None else []
    covered = coverage(data)
    return DatasetSection(
        steps=[BuildStep(name, count, description, count / largest) for name, count, description in steps],
        figure=_label_counts(labels),
        labels=labels,
        rejections=rejections,
        rejected=rejected_figure(rejections),
        coverage=covered,
        coverage_finding=coverage_finding(covered),
        left_out=list(gold.left_out.items()),
    )


def _intended(data: ReportData) -> dict[str, int]:
    """How many final gold records were asked to have each label; empty for imported records."""
    if data.prompts is None or data.plan is None:
        return {}
    final = data.gold.filter(pl.col("status") == "final")["id"]
    asked = data.prompts.filter(pl.col("id").is_in(final.to_list()))["intended_labels"]
    return {str(label): int(n) for label, n in asked.explode().drop_nulls().value_counts().iter_rows()}


def _counts_of(frame: pl.DataFrame, column: str) -> list[tuple[str, int]]:
    counts = frame.group_by(column).len().sort("len", column, descending=[True, False])
    return [(str(value), int(n)) for value, n in counts.iter_rows()]


def _label_counts(labels: list[tuple[str, int, int | None]]) -> Figure:
    ordered = sorted(labels, key=lambda row: -row[1])
    has_intended = any(intended is not None for _, _, intended in labels)
    without_records = [name for name, n, _ in labels if n == 0]
    most, fewest = ordered[0], ordered[-1]
    if without_records:
        count = as_text.plural(len(without_records), "label has", "labels have")
        title = f"{count} no gold record: {as_text.joined(without_records)}"
    else:
        title = f"Every label has gold records: from {fewest[1]} ({fewest[0]}) to {most[1]} ({most[0]})"
    rows = []
    for name, n, intended in ordered:
        marks = [Mark(n, tone=1)] + ([Mark(intended, tone=2)] if intended is not None else [])
        rows.append(PlotRow(name, marks, f"{n} (asked for {intended})" if intended is not None else str(n)))
    largest = max((max(n, intended or 0) for _, n, intended in labels), default=1)
    axis = nice_axis(max(largest, 5), "gold records with the label")
    note = "Bars: gold records with the label."
    if has_intended:
        note += " Vertical marks: records whose writer was asked for it. Only the gold labels count in the evaluation."
    return Figure(title, bars(rows, axis, alt=title), note)


def trust_section(data: ReportData) -> TrustSection | None:
    """The measured agreement of the annotators; None when the run has no agreement.json."""
    agreement = data.agreement
    if agreement is None:
        return None
    names = data.label_names
    with_alpha = [(row.alpha.value, row) for row in agreement.per_label if row.alpha.value is not None]
    lowest = min(with_alpha, key=lambda pair: pair[0])[1] if with_alpha else None
    lowest_shown = (names.get(lowest.label, lowest.label), lowest.alpha.value or 0.0) if lowest is not None else None
    title = finding_sentences.agreement_finding(agreement.alpha_masi, lowest_shown)
    ordered = sorted(agreement.per_label, key=lambda row: -(row.alpha.value if row.alpha.value is not None else -9))
    rows = [
        PlotRow(
            names.get(row.label, row.label),
            [Mark(row.alpha.value, row.alpha.low, row.alpha.high, note="undefined: all answers are the same")],
            as_text.with_interval(row.alpha) if row.alpha.value is not None else "—",
        )
        for row in ordered
    ]
    lowest_end = min([0.0, *(row.alpha.low for row in agreement.per_label if row.alpha.low is not None)])
    start = -1.0 if lowest_end < -0.5 else -0.5 if lowest_end < 0 else 0.0
    axis = Axis(start, 1.0, "Krippendorff's alpha", 0.667, "tentative from 0.667")
    note = "1 is full agreement; 0 is the agreement of random answers. Whiskers: 95 % interval over records."
    return TrustSection(agreement, Figure(title, forest(rows, axis, alt=title), note), ordered)


def stage_rows(data: ReportData) -> list[StageRow]:
    """One row per manifest, in the order in which the stages finished."""
    return [_stage_row(manifest, data.currency) for manifest in sorted(data.manifests, key=lambda m: m.finished_at)]


def _stage_row(manifest: Manifest, currency: str) -> StageRow:
    def counts_text(values: dict[str, int]) -> str:
        return ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in values.items()) or "—"

    return StageRow(
        stage=manifest.stage,
        counts_in=counts_text(manifest.counts_in),
        counts_out=counts_text(manifest.counts_out),
        seconds=as_text.duration(manifest.seconds),
        tokens=counts_text(manifest.tokens),
        cost="—" if manifest.cost is None else f"{manifest.cost:,.2f} {currency}".rstrip(),
        models=", ".join(manifest.models) or "—",
    )

"""The report's sections about the data set: what was built, how far to trust the labels, and the stages with cost."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from marginalia.pipeline.core.imported_files import is_answers_imported
from marginalia.pipeline.core.stage_summary import counted
from marginalia.pipeline.report import as_text
from marginalia.pipeline.report.coverage_section import coverage, rejected_figure
from marginalia.pipeline.report.figure_csv import rows_csv
from marginalia.pipeline.report.finding import Finding
from marginalia.pipeline.report.gold_findings import (
    CoveredValue,
    LabelCount,
    agreement_finding,
    coverage_finding,
    label_counts_finding,
    not_judged_finding,
    unknown_verdicts_finding,
)
from marginalia.pipeline.report.plots import Axis, Mark, PlotRow, bars, forest, listed, nice_axis
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
    labels: list[LabelCount]
    not_judged: Finding
    unknown_verdicts: Finding
    rejections: list[tuple[str, int]]  # reason, attempts
    rejected: Figure | None
    coverage: list[CoveredValue]
    coverage_finding: Finding
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
        steps.append(("Planned", data.plan.height, "records to write"))
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
    unknown = gold.not_judged.verdicts if gold.not_judged is not None else 0
    description = f"records with final labels, {gold.safe} of them with no label"
    steps.append(
        ("Gold", gold.final, description + (f", {unknown} without one but only partly judged" if unknown else ""))
    )
    for guard in data.evaluation.guards:
        left_out = sum(guard.left_out.values())
        description = f"records on which {guard.guard} was judged"
        steps.append(
            (
                "Judged",
                guard.records,
                description + (f"; {left_out:,} more {'is' if left_out == 1 else 'are'} left out" if left_out else ""),
            )
        )
    largest = max((count for _, count, _ in steps), default=0) or 1
    intended = _intended(data)
    names = data.label_names
    judged = gold.judged or {}
    labels = [
        LabelCount(names[label], n, judged.get(label, gold.final), intended.get(label, 0) if intended else None)
        for label, n in gold.positives.items()
    ]
    rejections = _counts_of(data.rejected, "reason") if data.rejected is not None else []
    covered = coverage(data)
    return DatasetSection(
        steps=[BuildStep(name, count, description, count / largest) for name, count, description in steps],
        figure=_label_counts(labels, gold.final),
        labels=labels,
        not_judged=not_judged_finding(gold.not_judged),
        unknown_verdicts=unknown_verdicts_finding(gold.not_judged),
        rejections=rejections,
        rejected=rejected_figure(rejections),
        coverage=covered,
        coverage_finding=coverage_finding(covered),
        left_out=list(gold.left_out.items()),
    )


def _intended(data: ReportData) -> dict[str, int]:
    """How many final gold records were asked to have each label, of those in which it was judged; empty for imported
    records."""
    if data.prompts is None or data.plan is None:
        return {}
    final = data.gold.filter(pl.col("status") == "final").select("id", "judged")
    asked = data.prompts.select("id", label="intended_labels").join(final, on="id").explode("label").drop_nulls("label")
    judged = asked.filter(pl.col("judged").is_null() | pl.col("judged").list.contains(pl.col("label")))
    return {str(label): int(n) for label, n in judged["label"].value_counts().iter_rows()}


def _counts_of(frame: pl.DataFrame, column: str) -> list[tuple[str, int]]:
    counts = frame.group_by(column).len().sort("len", column, descending=[True, False])
    return [(str(value), int(n)) for value, n in counts.iter_rows()]


def _label_counts(labels: list[LabelCount], final: int) -> Figure:
    ordered = sorted(labels, key=lambda row: -row.records)
    has_intended = any(row.intended is not None for row in labels)
    partly = any(row.judged < final for row in labels)
    rows = []
    for row in ordered:
        marks = [Mark(row.records, tone=1)] + ([Mark(row.intended, tone=2)] if row.intended is not None else [])
        if partly:  # the table has the other number; there is no room for three
            shown = f"{row.records} of {row.judged}"
        else:
            shown = f"{row.records} (asked for {row.intended})" if has_intended else str(row.records)
        rows.append(PlotRow(row.name, marks, shown))
    largest = max((max(row.records, row.intended or 0) for row in labels), default=1)
    axis = nice_axis(max(largest, 5), "gold records with the label")
    finding = label_counts_finding(ordered)
    note = "Bars: gold records with the label."
    if partly:
        note += " Numbers: records with the label, of those in which it was judged; only these count."
    if has_intended:
        note += " Vertical marks: records whose writer was asked for it. Only the gold labels count in the evaluation."
    measures = ("gold records with the label", "records whose writer was asked for it")
    drawing = bars(rows, axis, alt=finding.aria)
    return Figure(
        finding.title,
        drawing,
        note,
        as_text.plural(final, "final record"),
        rows_csv(rows, measures),
        alt=listed("Gold records with the label", rows),
    )


def trust_section(data: ReportData) -> TrustSection | None:
    """The measured agreement of the annotators; None when the run has no agreement.json."""
    agreement = data.agreement
    if agreement is None:
        return None
    names = data.label_names
    with_alpha = [(row.alpha.value, row) for row in agreement.per_label if row.alpha.value is not None]
    lowest = min(with_alpha, key=lambda pair: pair[0])[1] if with_alpha else None
    lowest_shown = (names.get(lowest.label, lowest.label), lowest.alpha.value or 0.0) if lowest is not None else None
    finding = agreement_finding(agreement.alpha_masi, lowest_shown)
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
    note = (
        "Alpha of each label alone. 1 is full agreement; 0 is the agreement of random answers. Whiskers: "
        "95 % interval over records. The alpha of whole label sets can be lower than that of every label: two sets are "
        "equal only if all their labels are."
    )
    n = f"{as_text.plural(agreement.pairable, 'record')} with at least two answers"
    title = finding.title
    if agreement.simulated:
        title = f"Simulated annotators: {title[:1].lower()}{title[1:]}"
    figure = Figure(
        title,
        forest(rows, axis, alt=title),
        note,
        n,
        rows_csv(rows, ("alpha",)),
        alt=listed("Krippendorff's alpha of each label", rows),
    )
    return TrustSection(agreement, figure, ordered)


def stage_rows(data: ReportData) -> list[StageRow]:
    """One row per manifest, in the order in which the stages finished."""
    return [_stage_row(manifest, data.currency) for manifest in sorted(data.manifests, key=lambda m: m.finished_at)]


def _stage_row(manifest: Manifest, currency: str) -> StageRow:
    return StageRow(
        stage=manifest.stage,
        counts_in=counted(manifest.counts_in) or "—",
        counts_out=counted(manifest.counts_out) or "—",
        seconds=as_text.duration(manifest.seconds),
        tokens=counted(manifest.tokens) or "—",
        cost="—" if manifest.cost is None else f"{manifest.cost:,.2f} {currency}".rstrip(),
        models=", ".join(manifest.models) or "—",
    )

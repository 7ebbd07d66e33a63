"""Measures of label quality in addition to agreement: gold questions, anchoring, severity, the audit."""

from __future__ import annotations

from dataclasses import dataclass

from marginalia.pipeline.annotating.suspect_labels import ChangeRate, change_rates, gold_error_rate
from marginalia.pipeline.report.finding import Finding
from marginalia.pipeline.report.gold_findings import anchoring_finding
from marginalia.pipeline.report.report_data import ReportData
from marginalia.schemas.agreement_json import Anchoring, Estimate, GoldQuestionAccuracy, LabelSeverity

SUGGESTION_SOURCES = {"intended": "the labels that the writer was asked for", "check": "the blind check's labels"}


@dataclass(frozen=True)
class AnnotatorSection:
    """What the template shows; fields are empty or None for what the run did not measure.

    `levels` names the columns of `severity`'s counts, `selected` counts the records chosen for the audit, and `partly`
    those of them in which gold judged only some labels."""

    questions: list[GoldQuestionAccuracy]
    anchoring: Anchoring | None
    suggested: str
    anchored: Finding | None
    levels: list[str]
    severity: list[LabelSeverity]
    audit: list[ChangeRate]
    gold_errors: Estimate | None
    selected: int
    partly: int


def annotator_section(data: ReportData) -> AnnotatorSection:
    """Fills the section from agreement.json and audit.parquet."""
    agreement = data.agreement
    anchoring = agreement.anchoring if agreement is not None else None
    severity = agreement.severity if agreement is not None else None
    audited = data.audited
    return AnnotatorSection(
        questions=agreement.gold_questions if agreement is not None else [],
        anchoring=anchoring,
        suggested=suggested_labels(anchoring) if anchoring is not None else "",
        anchored=anchoring_finding(anchoring.difference) if anchoring is not None else None,
        levels=severity.levels if severity is not None else [],
        severity=[row for row in severity.per_label if sum(row.counts)] if severity is not None else [],
        audit=[rate for rate in change_rates(audited) if rate.seen] if audited is not None else [],
        gold_errors=gold_error_rate(audited) if audited is not None else None,
        selected=audited.height if audited is not None else 0,
        partly=audited["judged"].count() if audited is not None else 0,
    )


def suggested_labels(anchoring: Anchoring) -> str:
    """Where the suggestions that annotators saw came from."""
    return " or ".join(SUGGESTION_SOURCES[source] for source in anchoring.sources)

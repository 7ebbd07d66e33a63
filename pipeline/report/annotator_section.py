"""What tells how good annotators work, beside their agreement: gold questions, anchoring, severity, the audit."""

from __future__ import annotations

from dataclasses import dataclass

from marginalia.pipeline.annotating.suspect_labels import ChangeRate, change_rates, gold_error_rate
from marginalia.pipeline.report.report_data import ReportData
from marginalia.schemas.agreement_json import Anchoring, Estimate, GoldQuestionAccuracy, LabelSeverity
from marginalia.scoring.measures.conclusions import compare

SOURCES = {"intended": "the labels that the writer was asked for", "check": "the blind check's labels"}


@dataclass(frozen=True)
class AnnotatorSection:
    """Empty or None where it was not asked for. `levels` names the columns of `severity`'s counts."""

    questions: list[GoldQuestionAccuracy]
    anchoring: Anchoring | None
    suggested: str
    anchored: str
    levels: list[str]
    severity: list[LabelSeverity]
    audit: list[ChangeRate]
    gold_errors: Estimate | None
    selected: int


def people(material: ReportData) -> AnnotatorSection:
    """What agreement.json and audit.parquet say of it."""
    found = material.agreement
    anchoring = found.anchoring if found is not None else None
    severity = found.severity if found is not None else None
    audited = material.audited
    return AnnotatorSection(
        questions=found.gold_questions if found is not None else [],
        anchoring=anchoring,
        suggested=suggested(anchoring) if anchoring is not None else "",
        anchored=anchoring_finding(anchoring.difference) if anchoring is not None else "",
        levels=severity.levels if severity is not None else [],
        severity=[row for row in severity.per_label if sum(row.counts)] if severity is not None else [],
        audit=[rate for rate in change_rates(audited) if rate.seen] if audited is not None else [],
        gold_errors=gold_error_rate(audited) if audited is not None else None,
        selected=audited.height if audited is not None else 0,
    )


def suggested(anchoring: Anchoring) -> str:
    """Whose labels annotators were shown."""
    return " or ".join(SOURCES[source] for source in anchoring.sources)


def anchoring_finding(difference: Estimate) -> str:
    """One sentence that claims no more than the interval."""
    more, less = compare(difference, 0.0, "above"), compare(difference, 0.0, "below")
    if more == "not computed":
        return "Too few answers to say whether the suggestions drew answers to them."
    if more == "yes":
        return "The suggestions drew answers to them: the labels are in part the suggester's."
    if less == "yes":
        return "Answers equal the suggestion less often where it was shown."
    return "No anchoring is shown at this number of records; a small one cannot be excluded."

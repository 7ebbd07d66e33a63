"""What the report says about gold questions, suggestions, severity and the audit."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

from marginalia.annotation.gold.gold_questions import wilson
from marginalia.pipeline.report.annotator_section import suggested_labels
from marginalia.pipeline.report.gold_findings import anchoring_finding
from marginalia.pipeline.report.report_data import ReportData
from marginalia.pipeline.report.report_page import build_page
from marginalia.schemas.agreement_json import Anchoring, Estimate, GoldQuestionAccuracy, LabelSeverity, Severity
from marginalia.schemas.tables import AuditedRecord
from tests.pipeline.report.test_page import Page, report_data
from tests.pipeline.synthetic_run import Synthetic

LEVEL = "<b>grave</b>"


def estimate(value: float, low: float, high: float) -> Estimate:
    return Estimate(value=value, low=low, high=high, n=40)


ANCHORING = Anchoring(
    suggested=estimate(0.9, 0.85, 0.95), control=estimate(0.6, 0.5, 0.7), difference=estimate(0.3, 0.2, 0.4)
)


def audited(changed: list[bool | None]) -> pl.DataFrame:
    rows = [
        {
            "id": f"r{index}",
            "why": "guard" if index % 2 == 0 else "control",
            "label": None,
            "probability": None,
            "support": None,
            "gold_labels": [],
            "audited_labels": None,
            "changed": value,
            "weight": 1.0 if index % 2 == 0 else 10.0,
        }
        for index, value in enumerate(changed)
    ]
    return AuditedRecord.frame(rows)


@pytest.fixture(scope="module")
def plain() -> ReportData:
    return report_data(Synthetic(n=48, skill=0.0))


@pytest.fixture(scope="module")
def with_measures(plain: ReportData) -> ReportData:
    assert plain.agreement is not None
    alpha = Estimate(value=None, low=None, high=None, n=0)
    label = plain.taxonomy.ids[0]
    questions = [
        GoldQuestionAccuracy(annotator=f"A0{at}", skipped=at, exact=wilson(8 + at, 10), precision=0.9, recall=None)
        for at in (1, 2)
    ]
    severity = Severity(levels=["mild", LEVEL], per_label=[LabelSeverity(label=label, counts=[3, 4], alpha=alpha)])
    agreement = plain.agreement.model_copy(
        update={"gold_questions": questions, "anchoring": ANCHORING, "severity": severity}
    )
    return replace(plain, agreement=agreement, audited=audited([True, False, False, None, True, False]))


def test_the_page_shows_gold_questions_anchoring_severity_and_the_audit(with_measures: ReportData) -> None:
    text = Page(build_page(with_measures)).text
    assert "Each annotator on the gold questions" in text
    assert "A02 10 2 1.00" in text
    assert "The suggestions influenced the answers" in text
    assert "What was suggested: the labels that the writer was asked for." in text
    blind = ANCHORING.model_copy(update={"sources": ["check", "intended"]})
    assert suggested_labels(blind) == "the blind check's labels or the labels that the writer was asked for"
    assert f"mild {LEVEL}" in text
    assert "disputed by a confident guard 3 2 0.67" in text
    assert "random sample of the others 2 0 0.00" in text
    assert "all final gold, estimated 0.06" in text  # 2 of 3 disputed and 0 of 30 others
    assert "uses the labels from before" in text


def test_the_page_leaves_out_what_was_not_measured(plain: ReportData) -> None:
    text = Page(build_page(plain)).text
    for words in ("gold questions", "anchor", "Severity", "second look"):
        assert words not in text
    assert "gold judged only some labels" not in text
    of_audit = audited([True, False]).with_columns(judged=pl.Series([["refund"], None], dtype=pl.List(pl.String)))
    partly = Page(build_page(replace(plain, audited=of_audit))).text
    assert "In 1 record gold judged only some labels; only these were reviewed." in partly
    waiting = Page(build_page(replace(plain, audited=audited([None, None])))).text
    assert "2 records were chosen for a second look; no expert has answered yet." in waiting


@pytest.mark.parametrize(
    ("difference", "expected"),
    [
        (estimate(0.1, -0.1, 0.3), "a small effect cannot be excluded"),
        (estimate(-0.2, -0.3, -0.1), "less often"),
        (Estimate(value=0.5, low=None, high=None, n=1), "Too few answers"),
    ],
)
def test_anchoring_claims_no_more_than_its_interval(difference: Estimate, expected: str) -> None:
    assert expected in anchoring_finding(difference).sentence

"""Findings about the data set: labels in gold, values that were not judged, agreement, the plan and suggestions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from marginalia.pipeline.report.as_text import joined, number, percent, plural, with_interval
from marginalia.pipeline.report.finding import Finding, answered
from marginalia.schemas.agreement_json import Estimate
from marginalia.schemas.evaluation_json import NotJudged
from marginalia.scoring.measures.conclusions import FEW_RECORDS, Answer, compare


@dataclass(frozen=True)
class LabelCount:
    """One label: gold records with it, those in which it was judged, and those whose writer was asked for it (None for
    imported records)."""

    name: str
    records: int
    judged: int
    intended: int | None


@dataclass(frozen=True)
class CoveredValue:
    """One attribute value: slots that asked for it, accepted records in them, and final gold records of those."""

    attribute: str
    value: str
    planned: int
    accepted: int
    gold: int


def label_counts_finding(ordered: Sequence[LabelCount]) -> Finding:
    """Does every label have gold records? `ordered`: by falling number of records.

    `cannot tell`: all judged ones do, but others were never judged, which does not mean that they have no records."""
    never = [row.name for row in ordered if not row.judged]
    judged = [row for row in ordered if row.judged]
    without_records = [row.name for row in judged if row.records == 0]
    if not judged:
        return Finding("not computed", "No label was judged in any gold record")
    answer: Answer = "no" if without_records else "cannot tell" if never else "yes"
    if without_records:
        count = plural(len(without_records), "label has", "labels have")
        sentence = f"{count} no gold record: {joined(without_records)}"
    else:
        most, fewest = judged[0], judged[-1]
        every = "judged label" if never else "label"
        sentence = (
            f"Every {every} has gold records: from {fewest.records} ({fewest.name}) to {most.records} ({most.name})"
        )
    if never:
        sentence += f"; {plural(len(never), 'label was', 'labels were')} never judged: {joined(never)}"
    return Finding(answer, sentence)


def not_judged_finding(cells: NotJudged | None) -> Finding:
    """Were all labels judged in all records? Says how many values are left out; empty if none. `not computed`: an older
    file does not say."""
    if cells is None:
        return Finding("not computed", "")
    if not cells.cells:
        return Finding("yes", "")
    records = plural(cells.records, "record is", "records are")
    share = percent(cells.cells / cells.of_cells)
    return Finding(
        "no",
        f"{records} partly judged: {cells.cells:,} of {plural(cells.of_cells, 'record × label value')} "
        f"({share}) were not judged and are left out",
    )


def unknown_verdicts_finding(cells: NotJudged | None) -> Finding:
    """Is it known of every record whether any label applies? Says how many are left out of the verdict and of the safe
    records; empty if none."""
    if cells is None:
        return Finding("not computed", "")
    if not cells.verdicts:
        return Finding("yes", "")
    records = plural(cells.verdicts, "record has", "records have")
    return Finding("no", f"{records} no label, but not all labels were judged, so it is not known whether any applies")


def agreement_finding(alpha: Estimate, lowest: tuple[str, float] | None) -> Finding:
    """Do annotators agree well enough to conclude anything? Grades after Krippendorff (2004): 0.800 reliable, 0.667
    tentative; both are `yes`.

    `alpha`: of the label sets (MASI). `lowest`: the label with the lowest nominal alpha, and this alpha."""
    if alpha.value is None:
        return Finding("not computed", "Agreement cannot be computed: too few records have two answers")
    reliable, answer = compare(alpha, 0.8, "at least"), compare(alpha, 0.667, "at least")
    answer = "not computed" if alpha.n < FEW_RECORDS else answer
    grades = {
        "yes": "Annotators agree well enough for tentative conclusions",
        "no": "Annotators disagree too much to rely on single labels",
        "cannot tell": "Annotators may not agree well enough for tentative conclusions",
        "not computed": "Too few records have two answers to say whether annotators agree well enough",
    }
    grade = grades[answer]
    if answer == "yes" and reliable == "yes":
        grade = "Annotators agree well enough to rely on the labels"
    lowest_label = f"; of single labels, {lowest[0]} has the lowest alpha ({number(lowest[1])})" if lowest else ""
    return Finding(answer, f"{grade}: alpha of whole label sets (MASI) {with_interval(alpha)}{lowest_label}")


def coverage_finding(rows: Sequence[CoveredValue]) -> Finding:
    """Was every planned slot filled? Names the attribute value with the smallest share of filled slots; empty without a
    plan."""
    if not rows:
        return Finding("not computed", "")
    unfilled = [row for row in rows if row.planned and row.accepted < row.planned]
    if not unfilled:
        return Finding("yes", "Every planned record was written")
    worst = min(unfilled, key=lambda row: row.accepted / row.planned)
    filled = f"{worst.accepted:,} of {worst.planned:,} planned records"
    return Finding(
        "no", f"The largest gap in the plan is where {worst.attribute} is {worst.value}: {filled} were written"
    )


def rejections_finding(rejections: Sequence[tuple[str, int]]) -> Finding:
    """Were attempts rejected? `rejections`: (reason, attempts), the most frequent first."""
    if not rejections:
        return Finding("no", "No written text was rejected")
    total = sum(count for _, count in rejections)
    reason, most = rejections[0]
    return Finding(
        "yes",
        f"{plural(total, 'written text was', 'written texts were')} rejected, {most} of them for the reason "
        f"“{reason.replace('_', ' ')}”",
    )


def anchoring_finding(difference: Estimate) -> Finding:
    """Did the suggestions influence the answers? `difference`: of the shares of answers that equal the suggestion, with
    it shown minus without. `no`: answers follow the suggestion less often where it was shown."""
    sentences = {
        "yes": "The suggestions influenced the answers: the labels partly follow the suggestions",
        "no": "Answers equal the suggestion less often where it was shown",
        "cannot tell": "No anchoring was found in this number of records; a small effect cannot be excluded",
        "not computed": "Too few answers to say whether the suggestions influenced the answers",
    }
    answer = answered(compare(difference, 0.0, "above"), compare(difference, 0.0, "below"))
    answer = "not computed" if difference.n < FEW_RECORDS else answer
    return Finding(answer, sentences[answer])

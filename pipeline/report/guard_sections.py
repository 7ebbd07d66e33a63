"""The report's sections about one guard: tables, texts and plots, ready for the template."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from marginalia.pipeline.report.estimator_findings import (
    bounds_finding,
    chance_finding,
    chance_metric,
    decisions_note,
    name_tested_metric,
)
from marginalia.pipeline.report.finding import Finding
from marginalia.pipeline.report.gold_findings import not_judged_finding, unknown_verdicts_finding
from marginalia.pipeline.report.guard_figures import (
    annotators_figure,
    estimators_figure,
    label_reliability_figure,
    labels_figure,
    reliability_figure,
    review_figure,
    roc_figure,
    slices_figure,
)
from marginalia.pipeline.report.label_findings import confusions_finding
from marginalia.pipeline.report.record_browser import shortened
from marginalia.pipeline.report.report_data import (
    Figure,
    ReportData,
    format_warning,
    headlined,
    recommended_estimator,
    source_estimator,
)
from marginalia.schemas.evaluation_json import (
    UNSAFE,
    Difference,
    EstimatorEvaluation,
    GuardEvaluation,
    LabelMetrics,
    Metric,
    SoftLabel,
    SoftMetrics,
    Threshold,
    WorstRecord,
)
from marginalia.scoring.measures.conclusions import FEW_RECORDS

TABLE_METRICS = ("macro_roc_auc", "micro_roc_auc", "micro_average_precision", "micro_f1", "hamming_loss")
DIFFERENCE_COLUMNS = ("macro_roc_auc", "micro_roc_auc", "micro_f1", "tuned_micro_f1")
LABEL_METRICS = ("roc_auc", "average_precision", "f1", "precision", "recall")
MOST_CONFUSIONS = 12
MOST_CHARACTERS = 4_000  # of a message in the list of the worst records
NO_METRIC = Metric(value=None, n=0)
HOW_COVERED = {"exact": "exact", "union": "exact, as a union", "bounds": "only bounds"}


@dataclass(frozen=True)
class WorstCase:
    """A record that the guard judged badly, with its text and with label names instead of ids."""

    record: WorstRecord
    messages: list[dict[str, str]]
    gold: list[str]
    predicted: list[str]
    not_judged: list[str]


@dataclass(frozen=True)
class Guarantees:
    """Thresholds that guarantee a goal such as "precision ≥ 0.9", for labels that have at least one.

    `missing`: one line per goal and reason, with the labels for which these records cannot prove the goal."""

    goals: list[str]
    rows: list[tuple[str, list[Threshold]]]
    missing: list[str]


@dataclass(frozen=True)
class CoverageRow:
    """How a guard with other categories covers one label: its name, in which way, and the guard's categories."""

    label: str
    how: str
    categories: str


@dataclass(frozen=True)
class GuardView:
    """What the template shows of a guard. `best` is the recommended estimator; without one most fields are empty."""

    guard: GuardEvaluation
    best: EstimatorEvaluation | None
    source_estimator: str  # the only estimator of a guard that gives numbers itself; empty for others
    headlined: bool
    few_records: int  # that the guard was evaluated on, if they are few; else 0
    format_warning: str  # empty for a guard that kept its answer format
    chance: Finding  # of `best`
    chance_metric: tuple[str, Metric] | None  # (name, metric) that `chance` is about
    estimators: Figure | None
    roc: Figure | None
    differences: list[tuple[str, list[Difference | None]]]
    reference: str
    decisions_note: str  # see estimator_findings.decisions_note
    tested: str  # the sentence about the tested metric; empty when no difference is tested
    bounds: Finding
    reliability: Figure | None
    label_reliability: Figure | None
    annotators: Figure | None  # the guard compared with single annotators; None where no record has two answers
    soft: SoftMetrics | None  # the numbers of that figure
    soft_rows: list[tuple[str, SoftLabel]]
    thresholds: list[tuple[str, list[Threshold]]]
    borrowed: bool  # some labels have no max-F1 threshold of their own and use that of all labels
    guarantees: Guarantees
    labels: Figure | None
    label_rows: list[tuple[str, LabelMetrics]]
    review: Figure | None
    slices: Figure | None
    confusions: Finding
    worst: list[WorstCase]
    left_out: list[str]  # why labels are not in macro averages
    reasons: list[str]  # why numbers of the table by label are missing
    not_judged: Finding
    unknown_verdicts: Finding
    notes: list[str]  # what the scores depend on, from the manifest of the stage score
    coverage: list[CoverageRow]  # empty for a guard whose categories are the labels
    unused: str  # the guard's categories that no label names


def guard_view(data: ReportData, guard: GuardEvaluation) -> GuardView:
    """Prepares everything that the template shows of a guard."""
    names, confidence = data.label_names, data.evaluation.confidence
    not_judged = not_judged_finding(guard.not_judged)
    partly = not_judged.answer == "no"
    best = recommended_estimator(guard)
    decisive = chance_metric(best) if best is not None else None
    soft = (best.soft_tuned or best.soft) if best is not None else None
    reference = guard.differences[0].reference if guard.differences else ""
    return GuardView(
        guard=guard,
        best=best,
        source_estimator=source_estimator(guard),
        headlined=headlined(guard),
        few_records=best.n if best is not None and best.n < FEW_RECORDS else 0,
        format_warning=_as_sentence(format_warning(guard)),
        chance=chance_finding(decisive[1] if decisive is not None else NO_METRIC),
        chance_metric=decisive,
        estimators=estimators_figure(guard) if guard.estimators else None,
        roc=roc_figure(guard) if best is not None else None,
        differences=_difference_rows(guard),
        reference=reference,
        decisions_note=decisions_note(guard),
        tested=name_tested_metric([row.metric for row in guard.differences if row.tested], data.primary),
        bounds=bounds_finding(guard),
        reliability=reliability_figure(best) if best is not None else None,
        label_reliability=label_reliability_figure(best, names, partly=partly) if best is not None else None,
        annotators=annotators_figure(soft, best, simulated=data.simulated)
        if best is not None and soft is not None
        else None,
        soft=soft,
        soft_rows=[(names.get(row.label, row.label), row) for row in soft.labels] if soft is not None else [],
        thresholds=_threshold_rows(data, best) if best is not None else [],
        borrowed=best is not None and any(rows[0].reason for rows in best.thresholds.labels.values()),
        guarantees=_guarantees(_threshold_rows(data, best)[1:] if best is not None else []),
        labels=labels_figure(best, names, confidence, partly=partly) if best is not None else None,
        label_rows=[(names.get(row.label, row.label), row) for row in best.labels] if best is not None else [],
        review=review_figure(best, partly=partly) if best is not None and best.review else None,
        slices=slices_figure(guard, confidence),
        confusions=confusions_finding(guard.confusions, names),
        worst=_worst_cases(data, guard),
        left_out=_left_out(best, names) if best is not None else [],
        reasons=_reasons(best, names) if best is not None else [],
        not_judged=not_judged,
        unknown_verdicts=unknown_verdicts_finding(guard.not_judged),
        notes=_notes(data, guard.guard),
        coverage=_coverage_rows(guard, names),
        unused=", ".join(guard.coverage.unused) if guard.coverage is not None else "",
    )


def _as_sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _coverage_rows(guard: GuardEvaluation, names: dict[str, str]) -> list[CoverageRow]:
    if guard.coverage is None:
        return []
    bounds = {row.label: row for row in guard.only_bounds}
    rows = []
    for label in guard.coverage.labels:
        row = bounds.get(label.label)
        how = HOW_COVERED[label.kind]
        if row is not None and row.lower is not None and row.upper is not None:
            how += f": {row.lower:.2f} to {row.upper:.2f} on average ({row.estimator})"
        parts = [" or ".join(label.any_of)] if label.any_of else []
        parts += [f"a part of {' or '.join(label.part_of)}"] if label.part_of else []
        rows.append(CoverageRow(names.get(label.label, label.label), how, " or ".join(parts)))
    return rows + [CoverageRow(names.get(label, label), "not covered", "—") for label in guard.coverage.not_covered]


def _notes(data: ReportData, guard_name: str) -> list[str]:
    facts = next((manifest.facts.get(guard_name) for manifest in data.manifests if manifest.stage == "score"), None)
    return [str(note) for note in facts.get("notes", [])] if isinstance(facts, dict) else []


def _difference_rows(guard: GuardEvaluation) -> list[tuple[str, list[Difference | None]]]:
    by_key = {(row.estimator, row.metric): row for row in guard.differences}
    names = list(dict.fromkeys(row.estimator for row in guard.differences))
    return [(name, [by_key.get((name, metric)) for metric in DIFFERENCE_COLUMNS]) for name in names]


def _threshold_rows(data: ReportData, best: EstimatorEvaluation) -> list[tuple[str, list[Threshold]]]:
    names = {**data.label_names, UNSAFE: f"verdict: {data.taxonomy.verdict}"}
    rows = [("all labels together", best.thresholds.overall)]
    return rows + [(names.get(label, label), thresholds) for label, thresholds in best.thresholds.labels.items()]


def _guarantees(labels: list[tuple[str, list[Threshold]]]) -> Guarantees:
    goals = [row.goal for row in labels[0][1][1:]] if labels else []
    kept = [(name, rows[1:]) for name, rows in labels if any(row.threshold is not None for row in rows[1:])]
    missing_by_reason: dict[tuple[str, str], list[str]] = {}
    for name, rows in labels:
        for row in rows[1:]:
            if row.threshold is None:
                missing_by_reason.setdefault((row.goal, (row.reason or "").partition(";")[0]), []).append(name)
    missing = [
        f"{_goal(goal)}: {reason} ({'every label' if len(names) == len(labels) else ', '.join(names)})"
        for (goal, reason), names in missing_by_reason.items()
    ]
    return Guarantees([_goal(goal) for goal in goals], kept, missing)


def _goal(goal: str) -> str:
    return goal.replace("false_positive_rate", "false-positive rate").replace(">=", "≥").replace("<=", "≤")


def _worst_cases(data: ReportData, guard: GuardEvaluation) -> list[WorstCase]:
    names = data.label_names
    ids = [record.record_id for record in guard.worst]
    records = data.gold.filter(pl.col("id").is_in(ids)).select("id", "messages")
    messages = dict(records.iter_rows())
    return [
        WorstCase(
            record,
            [
                {**message, "content": shortened(message["content"], MOST_CHARACTERS)}
                for message in messages.get(record.record_id, [])
            ],
            [names.get(label, label) for label in record.gold],
            [names.get(label, label) for label in record.predicted],
            [names.get(label, label) for label in record.not_judged],
        )
        for record in guard.worst
    ]


def _left_out(best: EstimatorEvaluation, names: dict[str, str]) -> list[str]:
    """Each reason why labels are left out of macro averages, with these labels."""
    by_reason: dict[str, list[str]] = {}
    for label, reason in best.labels_left_out.items():
        by_reason.setdefault(reason, []).append(names.get(label, label))
    return [f"{', '.join(labels)} ({reason})" for reason, labels in by_reason.items()]


def _reasons(best: EstimatorEvaluation, names: dict[str, str]) -> list[str]:
    """Each reason for a missing number in the table by label, with the labels that it applies to."""
    by_reason: dict[str, list[str]] = {}
    for row in best.labels:
        for metric in LABEL_METRICS:
            reason = row.metrics[metric].reason
            name = names.get(row.label, row.label)
            if reason is not None and name not in by_reason.setdefault(reason, []):
                by_reason[reason].append(name)
    return [f"{reason} ({', '.join(labels)})" for reason, labels in by_reason.items()]

"""One guard's part of the report: its tables, texts and plots as the template shows them."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from marginalia.pipeline.report import as_text, finding_sentences
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
from marginalia.pipeline.report.report_data import Figure, ReportData
from marginalia.schemas.evaluation_json import (
    UNSAFE,
    Difference,
    EstimatorEvaluation,
    GuardEvaluation,
    LabelMetrics,
    SoftLabel,
    SoftMetrics,
    Threshold,
    WorstRecord,
)

TABLE_METRICS = ("macro_roc_auc", "micro_roc_auc", "micro_average_precision", "micro_f1", "hamming_loss")
COMPARED = ("macro_roc_auc", "micro_roc_auc", "micro_f1", "tuned_micro_f1")
LABEL_METRICS = ("roc_auc", "average_precision", "f1", "precision", "recall")
MOST_CONFUSIONS = 12


@dataclass(frozen=True)
class WorstCase:
    record: WorstRecord
    messages: list[dict[str, str]]
    gold: list[str]  # label names
    predicted: list[str]


@dataclass(frozen=True)
class Promises:
    """Thresholds that keep a promise, for labels that have any; `missing` says which cannot be proved, and why."""

    goals: list[str]
    rows: list[tuple[str, list[Threshold]]]
    missing: list[str]


@dataclass(frozen=True)
class GuardView:
    """What the template shows of a guard. `best` is the recommended estimator; without one there are only reasons."""

    page: GuardEvaluation
    best: EstimatorEvaluation | None
    chance: str
    estimators: Figure | None
    roc: Figure | None
    differences: list[tuple[str, list[Difference | None]]]
    reference: str
    tested: str  # name of the metric that the findings are made of
    bounds: str  # what the bounds of the probabilities do to the metrics; empty where they are single numbers
    reliability: Figure | None
    label_reliability: Figure | None
    annotators: Figure | None  # the guard beside single annotators
    soft: SoftMetrics | None  # what that figure shows, or what there is of it
    soft_rows: list[tuple[str, SoftLabel]]
    thresholds: list[tuple[str, list[Threshold]]]
    borrowed: bool  # some labels have no max-F1 threshold of their own
    promises: Promises
    labels: Figure | None
    label_rows: list[tuple[str, LabelMetrics]]
    review: Figure | None
    slices: Figure | None
    confusions: str  # the finding
    worst: list[WorstCase]
    reasons: list[str]  # why numbers of the tables are missing
    notes: list[str]  # what its scores depend on, as the stage score noted it


def guard_view(material: ReportData, page: GuardEvaluation) -> GuardView:
    names, confidence = material.label_names, material.evaluation.confidence
    best = next((each for each in page.estimators if each.estimator == page.recommended), None)
    soft = (best.soft_tuned or best.soft) if best is not None else None
    reference = page.differences[0].reference if page.differences else ""
    return GuardView(
        page=page,
        best=best,
        chance=as_text.against_chance(as_text.deciding(best)[1]) if best is not None else "not known",
        estimators=estimators_figure(page) if page.estimators else None,
        roc=roc_figure(page) if best is not None else None,
        differences=_difference_rows(page),
        reference=reference,
        tested=next((as_text.NAMES[row.metric] for row in page.differences if row.tested), ""),
        bounds=finding_sentences.bounds_finding(page),
        reliability=reliability_figure(best) if best is not None else None,
        label_reliability=label_reliability_figure(best, names) if best is not None else None,
        annotators=annotators_figure(soft, best) if best is not None and soft is not None else None,
        soft=soft,
        soft_rows=[(names.get(row.label, row.label), row) for row in soft.labels] if soft is not None else [],
        thresholds=_threshold_rows(material, best) if best is not None else [],
        borrowed=best is not None and any(rows[0].reason for rows in best.thresholds.labels.values()),
        promises=_promises(_threshold_rows(material, best)[1:] if best is not None else []),
        labels=labels_figure(best, names, confidence) if best is not None else None,
        label_rows=[(names.get(row.label, row.label), row) for row in best.labels] if best is not None else [],
        review=review_figure(best) if best is not None and best.review else None,
        slices=slices_figure(page, confidence),
        confusions=finding_sentences.confusions_finding(page.confusions, names) if page.confusions else "",
        worst=_worst(material, page),
        reasons=_reasons(best, names) if best is not None else [],
        notes=_notes(material, page.guard),
    )


def _notes(material: ReportData, guard: str) -> list[str]:
    facts = next((made.facts.get(guard) for made in material.manifests if made.stage == "score"), None)
    return [str(note) for note in facts.get("notes", [])] if isinstance(facts, dict) else []


def _difference_rows(page: GuardEvaluation) -> list[tuple[str, list[Difference | None]]]:
    by_key = {(row.estimator, row.metric): row for row in page.differences}
    names = list(dict.fromkeys(row.estimator for row in page.differences))
    return [(name, [by_key.get((name, metric)) for metric in COMPARED]) for name in names]


def _threshold_rows(material: ReportData, best: EstimatorEvaluation) -> list[tuple[str, list[Threshold]]]:
    names = {**material.label_names, UNSAFE: f"verdict: {material.taxonomy.verdict}"}
    rows = [("all labels together", best.thresholds.overall)]
    return rows + [(names.get(label, label), found) for label, found in best.thresholds.labels.items()]


def _promises(labels: list[tuple[str, list[Threshold]]]) -> Promises:
    goals = [row.goal for row in labels[0][1][1:]] if labels else []
    kept = [(name, rows[1:]) for name, rows in labels if any(row.threshold is not None for row in rows[1:])]
    why: dict[tuple[str, str], list[str]] = {}
    for name, rows in labels:
        for row in rows[1:]:
            if row.threshold is None:
                why.setdefault((row.goal, (row.reason or "").partition(";")[0]), []).append(name)
    missing = [
        f"{_goal(goal)}: {reason} ({'every label' if len(names) == len(labels) else ', '.join(names)})"
        for (goal, reason), names in why.items()
    ]
    return Promises([_goal(goal) for goal in goals], kept, missing)


def _goal(goal: str) -> str:
    return goal.replace("false_positive_rate", "false-positive rate").replace(">=", "≥").replace("<=", "≤")


def _worst(material: ReportData, page: GuardEvaluation) -> list[WorstCase]:
    names = material.label_names
    wanted = [record.record_id for record in page.worst]
    found = material.gold.filter(pl.col("id").is_in(wanted)).select("id", "messages")
    messages = dict(found.iter_rows())
    return [
        WorstCase(
            record,
            messages.get(record.record_id, []),
            [names.get(label, label) for label in record.gold],
            [names.get(label, label) for label in record.predicted],
        )
        for record in page.worst
    ]


def _reasons(best: EstimatorEvaluation, names: dict[str, str]) -> list[str]:
    """Each distinct reason for a missing number of the label table, with the labels that it holds for."""
    by_reason: dict[str, list[str]] = {}
    for row in best.labels:
        for metric in LABEL_METRICS:
            reason = row.metrics[metric].reason
            name = names.get(row.label, row.label)
            if reason is not None and name not in by_reason.setdefault(reason, []):
                by_reason[reason].append(name)
    return [f"{reason} ({', '.join(labels)})" for reason, labels in by_reason.items()]

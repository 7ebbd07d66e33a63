"""What the stage evaluate warns of: equal texts, labels that nobody judged, answers outside the format, and too few
records for precise numbers."""

from __future__ import annotations

from collections.abc import Iterator

from marginalia.schemas.evaluation_json import AnswerFormat, EstimatorEvaluation, Evaluation, NotJudged
from marginalia.scoring.measures.conclusions import FEW_RECORDS
from marginalia.scoring.measures.intervals import FEWEST_OF_A_CLASS

SHOWN = {"macro_roc_auc": "macro ROC AUC", "micro_f1": "micro F1"}


def evaluation_warnings(evaluation: Evaluation) -> Iterator[str]:
    """The warnings, one string each."""
    gold = evaluation.gold
    if gold.equal_texts:
        yield from gold.equal_texts.warnings
    if gold.not_judged and gold.not_judged.cells:
        yield _not_judged(gold.not_judged, gold.final)
    for guard in evaluation.guards:
        if guard.answer_format is not None and guard.answer_format.reason is not None:
            yield _off_format(guard.guard, guard.answer_format)
        best = next((row for row in guard.estimators if row.estimator == guard.recommended), None)
        if best is not None and 0 < best.n < FEW_RECORDS:
            yield _few_records(guard.guard, best, evaluation.confidence)


def _not_judged(left_out: NotJudged, records: int) -> str:
    text = (
        f"{left_out.records:,} of {records:,} records are partly judged: {left_out.cells:,} of {left_out.of_cells:,} "
        "cells (record × label) are left out"
    )
    if left_out.verdicts:
        text += f"; for {left_out.verdicts:,} records it is not known whether any label applies"
    return text


def _off_format(guard: str, found: AnswerFormat) -> str:
    text = f"guard {guard}: {found.reason}"
    if found.withheld:
        text += "; its numbers are not headlined, and its thresholds are withheld"
    if found.off_format is not None and found.off_format > found.limit:
        text += "; marginalia guards check shows which line of its guard file to change"
    return text


def _few_records(guard: str, best: EstimatorEvaluation, confidence: float) -> str:
    rare = sum(min(row.positives, row.n - row.positives) < FEWEST_OF_A_CLASS for row in best.labels)
    numbers = "; ".join(_number(best, name, confidence) for name in SHOWN)
    return (
        f"guard {guard} was evaluated on only {best.n} records, so its numbers are imprecise: {numbers}; {rare} of "
        f"{len(best.labels)} labels have fewer than {FEWEST_OF_A_CLASS} positives or negatives, so no interval"
    )


def _number(best: EstimatorEvaluation, name: str, confidence: float) -> str:
    metric = best.metrics[name]
    if metric.value is None:
        return f"{SHOWN[name]} is not available ({metric.reason})"
    if metric.low is None or metric.high is None:
        return f"{SHOWN[name]} {metric.value:.2f} without an interval ({metric.reason})"
    return f"{SHOWN[name]} {metric.value:.2f} ({confidence:.0%} interval {metric.low:.2f} to {metric.high:.2f})"

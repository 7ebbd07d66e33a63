"""The results table of a data set card: the main numbers of each guard's recommended estimator."""

from __future__ import annotations

from dataclasses import dataclass

from marginalia.pipeline.report import as_text
from marginalia.pipeline.report.estimator_findings import chance_finding, chance_metric
from marginalia.pipeline.report.report_data import format_warning, headlined, recommended_estimator
from marginalia.schemas.evaluation_json import EstimatorEvaluation, Evaluation, GuardEvaluation


@dataclass(frozen=True)
class ResultRow:
    """One guard's row of the table, formatted as text; an em dash where there is no number."""

    guard: str
    estimator: str
    records: int
    threshold: str
    macro_roc_auc: str
    micro_f1: str  # at each label's own threshold, on the test split
    false_positive_rate: str
    ece: str
    warning: str | None
    labels: str  # which labels the numbers are over, if these are not all


def result_rows(evaluation: Evaluation) -> list[ResultRow]:
    """A row for each guard that has a recommended estimator."""
    recommended = [(guard, recommended_estimator(guard)) for guard in evaluation.guards]
    return [_result_row(guard, estimator) for guard, estimator in recommended if estimator is not None]


def _result_row(guard: GuardEvaluation, best: EstimatorEvaluation) -> ResultRow:
    if not headlined(guard):
        none = "—"
        why = f"{guard.guard} did not keep its answer format ({format_warning(guard, closing='')})"
        return ResultRow(guard.guard, best.estimator, best.n, f"{best.threshold:g}", none, none, none, none, why, "")
    report = best.calibration
    ece = as_text.with_interval(report.raw.ece) if report.raw is not None else "—"
    if report.recalibrated is not None:
        method = as_text.calibration_method(report.method)
        ece += f"; {as_text.number(report.recalibrated.ece.value)} after {method} recalibration"
    chance = chance_finding(chance_metric(best)[1])
    rate = best.verdict.get("false_positive_rate")
    return ResultRow(
        guard=guard.guard,
        estimator=best.estimator,
        records=best.n,
        threshold=f"{best.threshold:g}",
        macro_roc_auc=as_text.with_interval(best.metrics["macro_roc_auc"]),
        micro_f1=as_text.with_interval(best.tuned["micro_f1"]) if best.tuned else "—",
        false_positive_rate=as_text.with_interval(rate) if rate is not None else "—",
        ece=ece,
        labels=as_text.labels_covered(guard, best),
        warning=f"{guard.guard} is {chance.sentence}" if chance.answer in ("no", "cannot tell") else None,
    )

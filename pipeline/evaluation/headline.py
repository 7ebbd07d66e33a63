"""The few lines that a terminal shows of an evaluation."""

from __future__ import annotations

from schemas.evaluation import Evaluation, GuardEvaluation, Metric


def headline(evaluation: Evaluation) -> list[str]:
    """Short lines: what gold there is, and per guard the recommended estimator with its numbers and what they mean."""
    gold = evaluation.gold
    simulated = ", from SIMULATED annotators" if evaluation.simulated else ""
    unused = sum(gold.left_out.values())
    lines = [
        f"gold: {gold.final} final records of {gold.records}, {gold.safe} with no label, {unused} unresolved{simulated}"
    ]
    for page in evaluation.guards:
        lines += _guard(page)
    return lines


def _guard(page: GuardEvaluation) -> list[str]:
    left_out = "".join(f", {n} {reason}" for reason, n in page.left_out.items())
    lines = [f"guard {page.guard}: {page.records} records{left_out}"]
    best = next((each for each in page.estimators if each.estimator == page.recommended), None)
    if best is None:
        return [*lines, f"  no estimator to recommend: {page.recommended_because}"]
    auc = best.metrics["macro_roc_auc"]
    lines.append(
        f"  {best.estimator}: macro ROC AUC {_text(auc)}{_chance(auc)}; micro {_text(best.metrics['micro_roc_auc'])}"
    )
    lines.append(f"  micro F1 {_text(best.metrics['micro_f1'])} at threshold {best.threshold:g}")
    if best.tuned:
        lines[-1] += (
            f", {_text(best.tuned['micro_f1'])} at its own thresholds (test split, {best.tuned['micro_f1'].n} records)"
        )
    raw = best.calibration.raw
    if raw is not None:
        after = best.calibration.recalibrated
        tail = (
            f", {after.ece.value:.2f} after {best.calibration.method}" if after and after.ece.value is not None else ""
        )
        lines.append(f"  calibration error {_text(raw.ece)}{tail}")
    return lines


def _text(metric: Metric) -> str:
    if metric.value is None:
        return f"not available ({metric.reason})"
    if metric.low is None or metric.high is None:
        return f"{metric.value:.2f}"
    return f"{metric.value:.2f} [{metric.low:.2f}, {metric.high:.2f}]"


def _chance(auc: Metric) -> str:
    if auc.low is None or auc.high is None:
        return ""
    return ", no better than chance" if auc.low <= 0.5 <= auc.high else ""

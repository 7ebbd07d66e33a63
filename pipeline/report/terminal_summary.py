"""The few lines that a terminal shows of an evaluation."""

from __future__ import annotations

from marginalia.pipeline.report.as_text import UNCLEAR, against_chance
from marginalia.schemas.evaluation_json import Evaluation, GuardEvaluation, Metric
from marginalia.scoring.measures.conclusions import range_of, wide


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
    bounds = _bounds(page)
    return [*lines, f"  {bounds}"] if bounds else lines


def _bounds(page: GuardEvaluation) -> str:
    """A warning where the bounds of the probabilities matter; empty where they do not."""
    found = page.bounds
    if found is None or not found.wide:
        return ""
    advice = [f"set score.tolerance: {found.tolerance:g}"] if found.tolerance is not None else []
    advice += [f"raise score.node_budget ({found.beyond} records reached it)"] if found.beyond else []
    text = f"{len(found.wide)} metrics vary by over a third of their interval within the bounds"
    return ": ".join([text, *([" and ".join(advice)] if advice else [])])


def _text(metric: Metric) -> str:
    if metric.value is None:
        return f"not available ({metric.reason})"
    known = metric.low is not None and metric.high is not None
    text = f"{metric.value:.2f} [{metric.low:.2f}, {metric.high:.2f}]" if known else f"{metric.value:.2f}"
    low, high = range_of(metric)
    return f"{text} (bounds allow {low:.2f} to {high:.2f})" if wide(metric) else text


def _chance(auc: Metric) -> str:
    said = against_chance(auc)
    return f", {said}" if said in (UNCLEAR, "worse than chance") else ""

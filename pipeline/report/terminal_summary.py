"""The summary of an evaluation for the terminal."""

from __future__ import annotations

from marginalia.pipeline.report.as_text import NAMES, labels_covered, plural
from marginalia.pipeline.report.estimator_findings import chance_finding
from marginalia.pipeline.report.gold_findings import not_judged_finding, unknown_verdicts_finding
from marginalia.pipeline.report.report_data import format_warning, headlined, recommended_estimator
from marginalia.schemas.evaluation_json import Evaluation, GuardEvaluation, Metric, NotJudged
from marginalia.schemas.terminal import table
from marginalia.scoring.measures.conclusions import FEW_RECORDS, range_is_wide, range_of

TABLE_METRICS = ("macro_roc_auc", "micro_roc_auc", "micro_f1")


def headline(evaluation: Evaluation) -> list[str]:
    """Short lines: the size of the gold set, then the main numbers of each guard's recommended estimator."""
    gold = evaluation.gold
    simulated = ", from SIMULATED annotators" if evaluation.simulated else ""
    unused = sum(gold.left_out.values())
    lines = [
        f"gold: {gold.final} final records of {gold.records}, {gold.safe} with no label, {unused} unresolved{simulated}"
    ]
    lines += _not_judged(gold.not_judged)
    for guard in evaluation.guards:
        lines += _guard(guard)
    return lines


def metrics_table(evaluation: Evaluation) -> str:
    """A row with the main numbers of each guard's recommended estimator, where they may be headlined; empty when there
    are none."""
    rows = [
        [
            guard.guard,
            best.estimator,
            f"{best.n:,}",
            *(_with_interval(best.metrics[name]) for name in TABLE_METRICS),
            f"{best.threshold:g}",
        ]
        for guard in evaluation.guards
        if headlined(guard) and (best := recommended_estimator(guard)) is not None
    ]
    names = [NAMES[name] for name in TABLE_METRICS]
    return table(["guard", "estimator", "records", *names, "at"], rows) if rows else ""


def _guard(guard: GuardEvaluation) -> list[str]:
    left_out = "".join(f", {n} left out ({reason})" for reason, n in guard.left_out.items())
    lines = [f"guard {guard.guard}: {guard.records} records{left_out}", *_not_judged(guard.not_judged)]
    best = recommended_estimator(guard)
    if best is None:
        return [*lines, f"  no estimator to recommend: {guard.recommended_because}"]
    if not headlined(guard):
        return [
            *lines,
            f"  {format_warning(guard, closing='')}",
            "  numbers are not headlined, thresholds are withheld (to get them: evaluate.allow_off_format: true)",
        ]
    if warning := format_warning(guard):
        lines.append(f"  {warning}")
    if best.n < FEW_RECORDS:
        lines.append(f"  only {plural(best.n, 'record')}: these numbers are imprecise")
    auc = best.metrics["macro_roc_auc"]
    micro_auc = _with_interval(best.metrics["micro_roc_auc"])
    lines.append(f"  {best.estimator}: macro ROC AUC {_with_interval(auc)}{_chance(auc)}; micro {micro_auc}")
    lines.append(f"  micro F1 {_with_interval(best.metrics['micro_f1'])} at threshold {best.threshold:g}")
    if best.tuned:
        tuned = best.tuned["micro_f1"]
        lines[-1] += f", {_with_interval(tuned)} at own thresholds (test split, {plural(tuned.n, 'record')})"
    raw = best.calibration.raw
    if raw is not None:
        lines.append(f"  calibration error {_with_interval(raw.ece)}")
        after = best.calibration.recalibrated
        if after is not None and after.ece.value is not None:
            lines[-1] += f", {after.ece.value:.2f} after {best.calibration.method}"
    if labels := labels_covered(guard, best):
        lines.append(f"  {labels}")
    bounds = _bounds_warning(guard)
    return [*lines, f"  {bounds}"] if bounds else lines


def _not_judged(cells: NotJudged | None) -> list[str]:
    findings = (not_judged_finding(cells), unknown_verdicts_finding(cells))
    return [f"  {finding.sentence}" for finding in findings if finding.sentence]


def _bounds_warning(guard: GuardEvaluation) -> str:
    """A warning where the bounds of the probabilities move metrics; empty where they do not."""
    bounds = guard.bounds
    if bounds is None or not bounds.wide:
        return ""
    advice = [f"set score.tolerance: {bounds.tolerance:g}"] if bounds.tolerance is not None else []
    advice += ["raise score.passages"] if bounds.over_passages else []
    advice += [f"raise score.node_budget ({plural(bounds.beyond, 'record')} reached it)"] if bounds.beyond else []
    text = (
        f"the bounds of the probabilities move {plural(len(bounds.wide), 'metric')} by more than a third of the "
        "sampling interval"
    )
    return ": ".join([text, *([" and ".join(advice)] if advice else [])])


def _with_interval(metric: Metric) -> str:
    if metric.value is None:
        return f"not available ({metric.reason})"
    has_interval = metric.low is not None and metric.high is not None
    text = f"{metric.value:.2f} [{metric.low:.2f}, {metric.high:.2f}]" if has_interval else f"{metric.value:.2f}"
    low, high = range_of(metric)
    return f"{text} (bounds allow {low:.2f} to {high:.2f})" if range_is_wide(metric) else text


def _chance(auc: Metric) -> str:
    finding = chance_finding(auc)
    return f", {finding.sentence}" if finding.answer in ("no", "cannot tell") else ""

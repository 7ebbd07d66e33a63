"""Which estimator to use: paired differences on the same resamples, and a recommendation with its reason."""

from __future__ import annotations

import numpy as np

from pipeline.evaluation.config import EvaluateSection
from pipeline.evaluation.estimator import Evaluated
from pipeline.evaluation.pairing import Judged, Paired, finding, split_of
from schemas.evaluation import Difference, GuardDifference, Metric, Split
from scoring.intervals import bootstrap_metric
from scoring.metrics import Bootstrapped

COMPARED = (
    "micro_roc_auc",
    "macro_roc_auc",
    "micro_average_precision",
    "macro_average_precision",
    "micro_f1",
    "hamming_loss",
)
TUNED = ("micro_f1", "macro_f1", "hamming_loss")
GUARDS_COMPARED = (
    "macro_roc_auc",
    "micro_roc_auc",
    "micro_f1",
    "tuned_micro_f1",
    "tuned_macro_f1",
    "verdict_roc_auc",
    "verdict_false_positive_rate",
    "brier",
)
DECIDING = ("macro_roc_auc", "micro_roc_auc")


def differences(found: dict[str, Evaluated], reference: str, config: EvaluateSection) -> list[Difference]:
    """Each estimator minus the reference; `tuned_…` metrics use each one's own thresholds, on the test split."""
    base = found[reference]
    rows = []
    for name, other in found.items():
        if name == reference:
            continue
        judged: list[Split] = list(config.judged_on)
        rows += [
            _difference(name, reference, metric, judged, other.judged, base.judged, base.report.n, config)
            for metric in COMPARED
        ]
        if other.tuned is not None and base.tuned is not None:
            n = base.report.tuned["micro_f1"].n
            for metric in TUNED:
                row = _difference(name, reference, metric, ["test"], other.tuned, base.tuned, n, config)
                rows.append(row.model_copy(update={"metric": f"tuned_{metric}"}))
    return rows


def _difference(
    name: str,
    reference: str,
    metric: str,
    splits: list[Split],
    other: Bootstrapped,
    base: Bootstrapped,
    n: int,
    config: EvaluateSection,
) -> Difference:
    value = float(other.value.pooled[metric][0] - base.value.pooled[metric][0])
    replicates = other.replicates.pooled[metric] - base.replicates.pooled[metric]
    undefined = "not defined for one of the two"
    usable = replicates[np.isfinite(replicates)]
    if value == 0 and not usable.any():
        same = Metric(value=0.0, low=0.0, high=0.0, n=n, resamples=len(usable), reason="the same on every resample")
        return Difference(
            estimator=name,
            reference=reference,
            metric=metric,
            splits=splits,
            difference=same,
            finding="no clear difference",
        )
    interval = bootstrap_metric(value, replicates, n, confidence=config.confidence, undefined=undefined)
    return Difference(
        estimator=name,
        reference=reference,
        metric=metric,
        splits=splits,
        difference=interval,
        finding=finding(metric, interval),
    )


def _words(metric: str) -> str:
    return metric.replace("_", " ").replace("roc auc", "ROC AUC")


def recommend(found: dict[str, Evaluated], reference: str, rows: list[Difference]) -> tuple[str | None, str]:
    """(estimator, why): the reference, unless another estimator that is no baseline is clearly better at ranking."""
    usable = [name for name, evaluated in found.items() if not evaluated.report.baseline]
    if not usable:
        return None, "there are only baselines"
    start = reference if reference in usable else usable[0]
    if start != reference:
        return start, f"the reference {reference} is a baseline; this is the first estimator that is none"
    for metric in DECIDING:
        if found[reference].report.metrics[metric].value is None:
            continue
        better = [row for row in rows if row.metric == metric and row.estimator in usable and row.finding == "better"]
        if not better:
            return reference, f"no other estimator has a clearly higher {_words(metric)}"
        best = max(better, key=lambda row: row.difference.value or 0.0)
        gain = best.difference
        return (
            best.estimator,
            f"its {_words(metric)} is {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] from {reference}'s",
        )
    return reference, "ROC AUC is not defined here, so nothing speaks against the reference"


def guard_differences(judged: list[Judged], config: EvaluateSection, seed: int) -> list[GuardDifference]:
    """Each guard's recommended estimator less the first guard's, on the records that both judged."""
    if len(judged) < 2:
        return []
    first, *others = judged
    rows = []
    for other in others:
        known = other.places
        records = [record for record in first.places if record in known]
        if not records or not set(first.table.labels) & set(other.table.labels):
            continue
        paired = Paired(first, other, records, config, seed)
        rows += [
            GuardDifference(
                guard=other.table.guard,
                estimator=other.report.estimator,
                reference=first.table.guard,
                reference_estimator=first.report.estimator,
                metric=name,
                on=split_of(name),
                labels=paired.labels,
                difference=found,
                finding=finding(name, found),
            )
            for name in GUARDS_COMPARED
            if (found := paired.metric(name)) is not None
        ]
    return rows

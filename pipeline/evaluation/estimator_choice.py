"""Which estimator or guard is better: paired differences on the same resamples, and a recommendation with its reason.

Only one metric, `evaluate.primary`, is tested, once per compared estimator or guard. The intervals are simultaneous, so
the probability that any finding of a list is wrong is at most 1 - confidence. Differences in other metrics are
descriptive."""

from __future__ import annotations

from collections.abc import Sequence

from marginalia.pipeline.config.evaluation import EvaluateSection
from marginalia.pipeline.evaluation.estimator_evaluation import EvaluatedEstimator
from marginalia.pipeline.evaluation.guard_tables import LABEL_FREQUENCY
from marginalia.pipeline.evaluation.paired_differences import (
    FALLBACK,
    TUNED,
    JudgedEstimator,
    PairedDifferences,
    effective_records,
    finding,
    measured_on,
    paired_metric,
    tested_metric,
    with_simultaneous_intervals,
)
from marginalia.schemas.evaluation_json import Difference, GuardDifference, LabelMetrics, Metric, Outcome
from marginalia.scoring.measures.intervals import Array
from marginalia.scoring.measures.refitted_thresholds import METRICS as AT_OWN_THRESHOLDS

COMPARED = (
    "macro_roc_auc",
    "micro_roc_auc",
    "micro_average_precision",
    "macro_average_precision",
    "micro_f1",
    "hamming_loss",
)
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


def differences(evaluated: dict[str, EvaluatedEstimator], reference: str, config: EvaluateSection) -> list[Difference]:
    """Each estimator minus the reference. `tuned_…` metrics use each label's own threshold, on the test split."""
    reference_estimator = evaluated[reference]
    others = {name: other for name, other in evaluated.items() if name != reference}
    names = [*COMPARED, *(f"{TUNED}{name}" for name in AT_OWN_THRESHOLDS)]
    reference_metrics = {name: _metric(reference_estimator, name) for name in names}
    tested = tested_metric(config.primary, reference_metrics)
    rows = []
    for name in names:
        pairs = {
            other_name: pair
            for other_name, other in others.items()
            if (pair := _pair(reference_estimator, other, name, config)) is not None
        }
        metrics = [metric for metric, _ in pairs.values()]
        if name == tested:
            replicates = [replicates for _, replicates in pairs.values()]
            metrics = with_simultaneous_intervals(
                metrics, replicates, [_effective_records(reference_estimator, name)] * len(metrics), config.confidence
            )
        rows += [
            _difference(other_name, reference, name, metric, config, tested=name == tested)
            for other_name, metric in zip(pairs, metrics, strict=True)
        ]
    order = {name: position for position, name in enumerate(others)}
    return sorted(rows, key=lambda row: order[row.estimator])


def against_frequency(
    evaluated: dict[str, EvaluatedEstimator], best: str, config: EvaluateSection
) -> Difference | None:
    """The recommended estimator minus `label_frequency`, which knows only how common each label is.

    Compared in micro ROC AUC, as `label_frequency` gives all records of a label the same score. It is a separate
    question, so it is tested as well."""
    if LABEL_FREQUENCY not in evaluated or best == LABEL_FREQUENCY:
        return None
    pair = _pair(evaluated[LABEL_FREQUENCY], evaluated[best], FALLBACK, config)
    if pair is None:
        return None
    (metric,) = with_simultaneous_intervals(
        [pair[0]], [pair[1]], [_effective_records(evaluated[best], FALLBACK)], config.confidence
    )
    return _difference(best, LABEL_FREQUENCY, FALLBACK, metric, config, tested=True)


def _effective_records(estimator: EvaluatedEstimator, name: str) -> float:
    """`effective_records` of a metric, on the records that the estimator's metric is measured on."""
    if not name.startswith(TUNED):
        return effective_records(name, _classes(estimator.report.labels), estimator.report.n)
    rows = [estimator.report.thresholds.labels[row.label][0].judged_on for row in estimator.report.labels]
    judged_rows = [row for row in rows if row is not None]
    return effective_records(name, _classes(judged_rows), estimator.report.tuned[name.removeprefix(TUNED)].n)


def _classes(rows: Sequence[LabelMetrics] | Sequence[Outcome]) -> list[tuple[int, int]]:
    """(positives, negatives) of each row."""
    return [(row.positives, row.n - row.positives) for row in rows]


def _difference(
    name: str, reference: str, metric: str, difference: Metric, config: EvaluateSection, *, tested: bool
) -> Difference:
    return Difference(
        estimator=name,
        reference=reference,
        metric=metric,
        splits=["test"] if metric.startswith(TUNED) else list(config.judged_on),
        difference=difference,
        finding=finding(metric, difference, tested=tested),
        tested=tested,
    )


def _metric(estimator: EvaluatedEstimator, name: str) -> Metric | None:
    return (
        estimator.report.tuned.get(name.removeprefix(TUNED))
        if name.startswith(TUNED)
        else estimator.report.metrics[name]
    )


def _replicates(estimator: EvaluatedEstimator, name: str) -> Array | None:
    if not name.startswith(TUNED):
        return estimator.judged.replicates.pooled[name]
    return estimator.refitted.replicates.pooled[name.removeprefix(TUNED)] if estimator.refitted is not None else None


def _pair(
    base: EvaluatedEstimator, other: EvaluatedEstimator, name: str, config: EvaluateSection
) -> tuple[Metric, Array] | None:
    """(the difference in a metric, its value in each resample); None where one of the two lacks the metric."""
    first, second = _metric(base, name), _metric(other, name)
    replicates = [_replicates(estimator, name) for estimator in (base, other)]
    if first is None or second is None or replicates[0] is None or replicates[1] is None:
        return None
    difference = replicates[1] - replicates[0]
    return paired_metric(first, second, difference, confidence=config.confidence), difference


def _metric_name(metric: str) -> str:
    return metric.replace("_", " ").replace("roc auc", "ROC AUC")


def recommend(
    evaluated: dict[str, EvaluatedEstimator], reference: str, rows: list[Difference]
) -> tuple[str | None, str]:
    """(estimator, why): the reference, unless another estimator that is not a baseline is clearly better."""
    usable = [name for name, estimator in evaluated.items() if not estimator.report.baseline]
    if not usable:
        return None, "there are only baselines"
    start = reference if reference in usable else usable[0]
    if start != reference:
        return start, f"the reference {reference} is a baseline; this is the first estimator that is not"
    tested = [row for row in rows if row.tested and row.estimator in usable]
    if not tested or all(row.finding == "not known" for row in tested):
        return reference, "it is the reference, and no other estimator can be compared with it"
    name = _metric_name(tested[0].metric)
    better = [row for row in tested if row.finding == "better"]
    if not better:
        return reference, f"no other estimator has a clearly {'lower' if 'loss' in name else 'higher'} {name}"
    best = max(better, key=lambda row: abs(row.difference.value or 0.0))
    gain = best.difference
    return best.estimator, (
        f"its {name} is clearly better than that of {reference}, the reference: the difference is {gain.value:+.3f} "
        f"[{gain.low:+.3f}, {gain.high:+.3f}]"
    )


def guard_differences(judged: list[JudgedEstimator], config: EvaluateSection, seed: int) -> list[GuardDifference]:
    """Each guard's recommended estimator minus the first guard's, on the records that both judged."""
    if len(judged) < 2:
        return []
    first, *others = judged
    pairs = []
    for other in others:
        judged_by_other = other.rows_by_record
        records = [record for record in first.rows_by_record if record in judged_by_other]
        if records and set(first.table.labels) & set(other.table.labels):
            pairs.append((other, PairedDifferences(first, other, records, config, seed)))
    metric_names = list(dict.fromkeys([config.primary, *GUARDS_COMPARED]))
    metrics_of_pairs = [
        {name: metric for name in metric_names if (metric := paired.metric(name)) is not None} for _, paired in pairs
    ]
    tested = [tested_metric(config.primary, dict(metrics)) for metrics in metrics_of_pairs]
    tested_pairs = [index for index, name in enumerate(tested) if name is not None]
    simultaneous = with_simultaneous_intervals(
        [metrics_of_pairs[index][tested[index] or ""] for index in tested_pairs],
        [pairs[index][1].replicates(tested[index] or "") for index in tested_pairs],
        [pairs[index][1].effective_records(tested[index] or "") for index in tested_pairs],
        config.confidence,
    )
    for index, metric in zip(tested_pairs, simultaneous, strict=True):
        metrics_of_pairs[index][tested[index] or ""] = metric
    return [
        GuardDifference(
            guard=other.table.guard,
            estimator=other.estimator,
            reference=first.table.guard,
            reference_estimator=first.estimator,
            metric=name,
            on=measured_on(name),
            labels=paired.labels,
            difference=metric,
            finding=finding(name, metric, tested=name == tested[index]),
            tested=name == tested[index],
        )
        for index, (other, paired) in enumerate(pairs)
        for name, metric in metrics_of_pairs[index].items()
    ]

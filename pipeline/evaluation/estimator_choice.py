"""Which estimator or guard is better: paired differences on the same resamples, and a recommendation with its reason.

One metric, `evaluate.primary`, is tested, once for each estimator or guard that is compared, with intervals that hold
for all of them at once. So the chance that any finding of a list is wrong is at most 1 - confidence. The differences in
other metrics are descriptive."""

from __future__ import annotations

from marginalia.pipeline.config.evaluation import EvaluateSection
from marginalia.pipeline.evaluation.estimator_evaluation import EvaluatedEstimator
from marginalia.pipeline.evaluation.guard_tables import LABEL_FREQUENCY
from marginalia.pipeline.evaluation.paired_differences import (
    FALLBACK,
    TUNED,
    Judged,
    Paired,
    finding,
    hold_at_once,
    paired_metric,
    rests_on,
    split_of,
    tested_metric,
)
from marginalia.schemas.evaluation_json import Difference, GuardDifference, Metric
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


def differences(found: dict[str, EvaluatedEstimator], reference: str, config: EvaluateSection) -> list[Difference]:
    """Each estimator minus the reference; `tuned_…` metrics use each one's own thresholds, on the test split."""
    base = found[reference]
    others = {name: one for name, one in found.items() if name != reference}
    names = [*COMPARED, *(f"{TUNED}{name}" for name in AT_OWN_THRESHOLDS)]
    known = {name: _metric(base, name) for name in names}
    tested = tested_metric(config.primary, known)
    rows = []
    for name in names:
        pairs = {other: pair for other, one in others.items() if (pair := _pair(base, one, name, config)) is not None}
        metrics = [metric for metric, _ in pairs.values()]
        if name == tested:
            replicates = [replicates for _, replicates in pairs.values()]
            metrics = hold_at_once(metrics, replicates, [_size(base, name)] * len(metrics), config.confidence)
        rows += [
            _difference(other, reference, name, metric, config, tested=name == tested)
            for other, metric in zip(pairs, metrics, strict=True)
        ]
    places = {name: place for place, name in enumerate(others)}
    return sorted(rows, key=lambda row: places[row.estimator])


def against_frequency(found: dict[str, EvaluatedEstimator], best: str, config: EvaluateSection) -> Difference | None:
    """The recommended estimator less `label_frequency`, which knows nothing but how common each label is: in micro ROC
    AUC, for within a label it ranks nothing. One question of its own, so it is tested."""
    if LABEL_FREQUENCY not in found or best == LABEL_FREQUENCY:
        return None
    pair = _pair(found[LABEL_FREQUENCY], found[best], FALLBACK, config)
    if pair is None:
        return None
    (metric,) = hold_at_once([pair[0]], [pair[1]], [_size(found[best], FALLBACK)], config.confidence)
    return _difference(best, LABEL_FREQUENCY, FALLBACK, metric, config, tested=True)


def _size(one: EvaluatedEstimator, name: str) -> float:
    """How many records a metric rests on: see `rests_on`."""
    if not name.startswith(TUNED):
        return rests_on(name, [row.positives for row in one.report.labels], one.report.n)
    rows = [one.report.thresholds.labels[row.label][0].judged_on for row in one.report.labels]
    known = [row for row in rows if row is not None]
    return rests_on(name, [row.positives for row in known], known[0].n) if known else 0.0


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


def _metric(one: EvaluatedEstimator, name: str) -> Metric | None:
    return one.report.tuned.get(name.removeprefix(TUNED)) if name.startswith(TUNED) else one.report.metrics[name]


def _replicates(one: EvaluatedEstimator, name: str) -> Array | None:
    if not name.startswith(TUNED):
        return one.judged.replicates.pooled[name]
    return one.refitted.replicates.pooled[name.removeprefix(TUNED)] if one.refitted is not None else None


def _pair(
    base: EvaluatedEstimator, other: EvaluatedEstimator, name: str, config: EvaluateSection
) -> tuple[Metric, Array] | None:
    """(the difference in a metric, its resamples); None where one of the two does not have it."""
    first, second = _metric(base, name), _metric(other, name)
    replicates = [_replicates(one, name) for one in (base, other)]
    if first is None or second is None or replicates[0] is None or replicates[1] is None:
        return None
    change = replicates[1] - replicates[0]
    return paired_metric(first, second, change, confidence=config.confidence), change


def _words(metric: str) -> str:
    return metric.replace("_", " ").replace("roc auc", "ROC AUC")


def recommend(found: dict[str, EvaluatedEstimator], reference: str, rows: list[Difference]) -> tuple[str | None, str]:
    """(estimator, why): the reference, unless another estimator that is no baseline is clearly better."""
    usable = [name for name, evaluated in found.items() if not evaluated.report.baseline]
    if not usable:
        return None, "there are only baselines"
    start = reference if reference in usable else usable[0]
    if start != reference:
        return start, f"the reference {reference} is a baseline; this is the first estimator that is none"
    tested = [row for row in rows if row.tested and row.estimator in usable]
    if not tested or all(row.finding == "not known" for row in tested):
        return reference, "nothing speaks against the reference: no other estimator can be compared with it"
    name = _words(tested[0].metric)
    better = [row for row in tested if row.finding == "better"]
    if not better:
        return reference, f"no other estimator has a clearly {'lower' if 'loss' in name else 'higher'} {name}"
    best = max(better, key=lambda row: abs(row.difference.value or 0.0))
    gain = best.difference
    return best.estimator, f"its {name} is {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] from {reference}'s"


def guard_differences(judged: list[Judged], config: EvaluateSection, seed: int) -> list[GuardDifference]:
    """Each guard's recommended estimator less the first guard's, on the records that both judged."""
    if len(judged) < 2:
        return []
    first, *others = judged
    pairs = []
    for other in others:
        known = other.places
        records = [record for record in first.places if record in known]
        if records and set(first.table.labels) & set(other.table.labels):
            pairs.append((other, Paired(first, other, records, config, seed)))
    names = list(dict.fromkeys([config.primary, *GUARDS_COMPARED]))
    found = [{name: metric for name in names if (metric := paired.metric(name)) is not None} for _, paired in pairs]
    tested = [tested_metric(config.primary, dict(metrics)) for metrics in found]
    several = [place for place, name in enumerate(tested) if name is not None]
    at_once = hold_at_once(
        [found[place][tested[place] or ""] for place in several],
        [pairs[place][1].replicates(tested[place] or "") for place in several],
        [pairs[place][1].size(tested[place] or "") for place in several],
        config.confidence,
    )
    for place, metric in zip(several, at_once, strict=True):
        found[place][tested[place] or ""] = metric
    return [
        GuardDifference(
            guard=other.table.guard,
            estimator=other.estimator,
            reference=first.table.guard,
            reference_estimator=first.estimator,
            metric=name,
            on=split_of(name),
            labels=paired.labels,
            difference=metric,
            finding=finding(name, metric, tested=name == tested[place]),
            tested=name == tested[place],
        )
        for place, (other, paired) in enumerate(pairs)
        for name, metric in found[place].items()
    ]

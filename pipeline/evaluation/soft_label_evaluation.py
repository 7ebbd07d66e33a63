"""Metrics against soft labels and votes, compared with the agreement that annotators reach with each other."""

from __future__ import annotations

import numpy as np

from marginalia.pipeline.config.evaluation import EvaluateSection
from marginalia.pipeline.evaluation.guard_tables import GuardTable
from marginalia.schemas.evaluation_json import Metric, SoftLabel, SoftMetrics, Split
from marginalia.scoring.measures import soft_label_metrics
from marginalia.scoring.measures.intervals import Array, Flags, bootstrap_metric
from marginalia.scoring.measures.jackknife import variance
from marginalia.scoring.measures.metrics import Bootstrapped, bootstrap, combined

NO_VOTES = "no record has two answers"
OUTSIDE_0_TO_1 = ("log_loss", "entropy", "f1_below_annotators")


def soft_metrics(
    table: GuardTable,
    name: str,
    predicted: Flags,
    decided_at: str,
    splits: list[Split],
    config: EvaluateSection,
    seed: int,
) -> SoftMetrics | None:
    """An estimator's probabilities and decisions `predicted` (n, L) against the answers of single annotators.

    Uses the records of `splits` that have soft labels; None when there are none."""
    p = table.scores[name]
    kept = table.judged_on(splits) & np.isfinite(table.soft).any(axis=1)
    n = int(kept.sum())
    if not n:
        return None
    votes = table.yes[kept], table.answers[kept]
    guard = soft_label_metrics.against_soft(table.soft[kept], p[kept], predicted[kept])
    annotators = soft_label_metrics.among_annotators(table.truth[kept], *votes)
    bootstrapped = bootstrap(
        soft_label_metrics.gap(combined([guard, annotators])), n, resamples=config.resamples, seed=seed, left_out=True
    )
    pooled = {name: float(values[0]) for name, values in bootstrapped.value.pooled.items()}
    total = pooled["brier_against_votes"]
    values_by_metric = soft_label_metrics.by_label(table.soft[kept], p[kept], predicted[kept], *votes)
    return SoftMetrics(
        n=n,
        splits=splits,
        decided_at=decided_at,
        brier_against_votes=total,
        guard=pooled["brier"],
        disagreement=pooled["disagreement"],
        share_disagreement=pooled["disagreement"] / total if total > 0 else None,
        metrics={metric: _metric(bootstrapped, metric, n, config) for metric in pooled},
        labels=[_label(values_by_metric, label, column) for column, label in enumerate(table.labels)],
    )


def _metric(bootstrapped: Bootstrapped, name: str, n: int, config: EvaluateSection) -> Metric:
    undefined = NO_VOTES if "annotator" in name else "nothing is flagged" if "precision" in name else "no positives"
    value, replicates = float(bootstrapped.value.pooled[name][0]), bootstrapped.replicates.pooled[name]
    return bootstrap_metric(
        value,
        replicates,
        n,
        confidence=config.confidence,
        undefined=undefined,
        variance=variance(bootstrapped, name) if name not in OUTSIDE_0_TO_1 else None,
    )


def _label(values_by_metric: dict[str, Array], label: str, column: int) -> SoftLabel:
    values = {name: float(values[column]) for name, values in values_by_metric.items()}
    return SoftLabel(label=label, **{name: number if np.isfinite(number) else None for name, number in values.items()})

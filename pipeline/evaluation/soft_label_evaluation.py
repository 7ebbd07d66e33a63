"""The annotators' own disagreement: metrics against soft labels and votes, beside what annotators reach themselves."""

from __future__ import annotations

import numpy as np

from marginalia.pipeline.config.evaluation import EvaluateSection
from marginalia.pipeline.evaluation.guard_tables import GuardTable
from marginalia.schemas.evaluation_json import Metric, SoftLabel, SoftMetrics, Split
from marginalia.scoring.measures import soft_label_metrics
from marginalia.scoring.measures.intervals import Array, Flags, bootstrap_metric
from marginalia.scoring.measures.jackknife import variance
from marginalia.scoring.measures.metrics import Bootstrapped, bootstrap, together

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
    """An estimator's probabilities and decisions `predicted` (n, L) against single annotators, on the records of
    `splits` that have soft labels; None when none has."""
    p = table.scores[name]
    kept = table.on(splits) & np.isfinite(table.soft).any(axis=1)
    n = int(kept.sum())
    if not n:
        return None
    votes = table.yes[kept], table.answers[kept]
    guard = soft_label_metrics.against_soft(table.soft[kept], p[kept], predicted[kept])
    people = soft_label_metrics.among_annotators(table.truth[kept], *votes)
    found = bootstrap(
        soft_label_metrics.gap(together([guard, people])), n, resamples=config.resamples, seed=seed, left_out=True
    )
    value = {name: float(values[0]) for name, values in found.value.pooled.items()}
    total = value["brier_against_votes"]
    each = soft_label_metrics.by_label(table.soft[kept], p[kept], predicted[kept], *votes)
    return SoftMetrics(
        n=n,
        splits=splits,
        decided_at=decided_at,
        brier_against_votes=total,
        guard=value["brier"],
        disagreement=value["disagreement"],
        share_disagreement=value["disagreement"] / total if total > 0 else None,
        metrics={metric: _metric(found, metric, n, config) for metric in value},
        labels=[_label(each, label, column) for column, label in enumerate(table.labels)],
    )


def _metric(found: Bootstrapped, name: str, n: int, config: EvaluateSection) -> Metric:
    undefined = NO_VOTES if "annotator" in name else "nothing is flagged" if "precision" in name else "no positives"
    value, replicates = float(found.value.pooled[name][0]), found.replicates.pooled[name]
    return bootstrap_metric(
        value,
        replicates,
        n,
        confidence=config.confidence,
        undefined=undefined,
        variance=variance(found, name) if name not in OUTSIDE_0_TO_1 else None,
    )


def _label(each: dict[str, Array], label: str, column: int) -> SoftLabel:
    value = {name: float(values[column]) for name, values in each.items()}
    return SoftLabel(label=label, **{name: one if np.isfinite(one) else None for name, one in value.items()})

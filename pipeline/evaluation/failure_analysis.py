"""Where a guard fails: by attribute, by pair of labels, and record by record."""

from __future__ import annotations

import numpy as np
import polars as pl

from marginalia.pipeline.config.evaluation import EvaluateSection
from marginalia.pipeline.evaluation.guard_tables import GuardTable
from marginalia.schemas.evaluation_json import Confusion, Slice, Split, WorstRecord
from marginalia.scoring.measures import metrics
from marginalia.scoring.measures.calibration import log_losses
from marginalia.scoring.measures.intervals import Array, Flags, bootstrap_metric
from marginalia.scoring.measures.jackknife import pooled_variance

SLICE_METRICS = ("micro_roc_auc", "micro_f1", "hamming_loss")
MOST_VALUES, FEWEST_RECORDS = 12, 5  # of one attribute, with one value: outside these a table says nothing


def slices(
    table: GuardTable, scores: Array, attributes: pl.DataFrame | None, config: EvaluateSection, seed: int
) -> list[Slice]:
    """Metrics for each value of each attribute that at least FEWEST_RECORDS records share.

    `attributes` has the columns id, name, value; None when unknown."""
    if attributes is None or attributes.is_empty():
        return []
    here = table.on(config.judged_on)
    place = {record: row for row, record in enumerate(table.ids) if here[row]}
    known = attributes.filter(pl.col("id").is_in(list(place)))
    found = []
    for (name,), part in known.group_by("name", maintain_order=True):
        groups = (
            part.group_by("value")
            .agg("id")
            .with_columns(n=pl.col("id").list.len())
            .sort("n", "value", descending=[True, False])
        )
        groups = groups.filter(pl.col("n") >= FEWEST_RECORDS)
        if not 2 <= groups.height <= MOST_VALUES:
            continue
        for value, ids in groups.select("value", "id").iter_rows():
            rows = np.array(sorted(place[record] for record in ids))
            found.append(_slice(str(name), value, table.truth[rows], scores[rows], config, seed))
    return found


def _slice(name: str, value: str, truth: Flags, scores: Array, config: EvaluateSection, seed: int) -> Slice:
    measure = metrics.together([metrics.decisions(truth, scores >= config.threshold), metrics.ranking(truth, scores)])
    measured = metrics.bootstrap(measure, len(truth), resamples=config.resamples, seed=seed, left_out=True)
    rarest = min(int(truth.sum()), int((~truth).sum()), len(truth))
    return Slice(
        attribute=name,
        value=value,
        n=len(truth),
        metrics={
            metric: bootstrap_metric(
                float(measured.value.pooled[metric][0]),
                measured.replicates.pooled[metric],
                len(truth),
                confidence=config.confidence,
                undefined="not defined on these records",
                rarest=rarest,
                variance=pooled_variance(measured, metric, truth),
            )
            for metric in SLICE_METRICS
        },
    )


def confusions(truth: Flags, predicted: Flags, labels: list[str]) -> list[Confusion]:
    """Pairs (missed label, label wrongly given instead) over (n, L), most frequent first."""
    missed, extra = (truth & ~predicted).astype(np.int64), (~truth & predicted).astype(np.int64)
    counts = missed.T @ extra
    pairs = [
        Confusion(gold=labels[i], predicted=labels[j], records=int(counts[i, j]))
        for i, j in zip(*np.nonzero(counts), strict=True)
    ]
    return sorted(pairs, key=lambda pair: -pair.records)


def worst_records(
    table: GuardTable, scores: Array, predicted: Flags, splits: list[Split], how_many: int
) -> list[WorstRecord]:
    """The records of these splits with the highest mean log loss over the labels (nats)."""
    if not table.labels:
        return []
    losses = log_losses(table.truth, scores).mean(1)
    order = np.argsort(-losses, kind="stable")
    rows = order[table.on(splits)[order]][:how_many].tolist()

    def names(flags: Flags) -> list[str]:
        return [label for label, flag in zip(table.labels, flags, strict=True) if flag]

    return [
        WorstRecord(
            record_id=table.ids[row],
            split=str(table.splits[row]),  # type: ignore[arg-type]
            gold=names(table.truth[row]),
            predicted=names(predicted[row]),
            loss=float(losses[row]),
        )
        for row in rows
    ]

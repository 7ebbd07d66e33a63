"""Where a guard fails: by attribute, by pair of labels, and record by record."""

from __future__ import annotations

import numpy as np
import polars as pl

from marginalia.pipeline.config.evaluation import EvaluateSection
from marginalia.pipeline.evaluation.guard_tables import Bounds, GuardTable
from marginalia.pipeline.evaluation.metric_bounds import pooled_ranges, with_range
from marginalia.schemas.evaluation_json import Confusion, Slice, Split, WorstRecord
from marginalia.scoring.measures import metrics
from marginalia.scoring.measures.calibration import log_losses
from marginalia.scoring.measures.intervals import Array, Flags, bootstrap_metric
from marginalia.scoring.measures.jackknife import pooled_variance

SLICE_METRICS = ("micro_roc_auc", "micro_f1", "hamming_loss")
MOST_VALUES = 12  # an attribute with more values, such as a free text, is left out
FEWEST_RECORDS = 5  # a value with fewer records is left out


def slices(
    table: GuardTable, name: str, attributes: pl.DataFrame | None, config: EvaluateSection, seed: int
) -> list[Slice]:
    """Metrics of estimator `name` for each attribute value that at least FEWEST_RECORDS records share.

    `attributes` has the columns id, name, value; None for a run without attributes."""
    if attributes is None or attributes.is_empty():
        return []
    judged = table.judged_on(config.judged_on)
    row_of = {record: row for row, record in enumerate(table.ids) if judged[row]}
    judged_attributes = attributes.filter(pl.col("id").is_in(list(row_of)))
    result = []
    scores, bounds = table.scores[name], table.bounds.get(name)
    for (attribute,), rows_of_attribute in judged_attributes.group_by("name", maintain_order=True):
        groups = (
            rows_of_attribute.group_by("value")
            .agg("id")
            .with_columns(n=pl.col("id").list.len())
            .sort("n", "value", descending=[True, False])
        )
        groups = groups.filter(pl.col("n") >= FEWEST_RECORDS)
        if not 2 <= groups.height <= MOST_VALUES:
            continue
        for value, ids in groups.select("value", "id").iter_rows():
            rows = np.array(sorted(row_of[record] for record in ids))
            bounds_of_rows = (bounds[0][rows], bounds[1][rows]) if bounds else None
            result.append(
                _slice(
                    (str(attribute), value),
                    table.truth[rows],
                    scores[rows],
                    table.judged[rows],
                    bounds_of_rows,
                    config,
                    seed,
                )
            )
    return result


def _slice(
    attribute_and_value: tuple[str, str],
    truth: Flags,
    scores: Array,
    judged: Flags,
    bounds: Bounds | None,
    config: EvaluateSection,
    seed: int,
) -> Slice:
    ranges = pooled_ranges(truth, bounds, config.threshold, judged) if bounds else {}
    decisions = metrics.decisions(truth, scores >= config.threshold, judged)
    measure = metrics.combined([decisions, metrics.ranking(truth, scores, judged)])
    bootstrapped = metrics.bootstrap(measure, len(truth), resamples=config.resamples, seed=seed, left_out=True)
    rarest = min(int(truth[judged].sum()), int((~truth[judged]).sum()), len(truth))
    return Slice(
        attribute=attribute_and_value[0],
        value=attribute_and_value[1],
        n=len(truth),
        metrics={
            metric: with_range(
                bootstrap_metric(
                    float(bootstrapped.value.pooled[metric][0]),
                    bootstrapped.replicates.pooled[metric],
                    len(truth),
                    confidence=config.confidence,
                    undefined="not defined on these records",
                    rarest=rarest,
                    variance=pooled_variance(bootstrapped, metric, truth, judged),
                ),
                ranges.get(metric),
            )
            for metric in SLICE_METRICS
        },
    )


def confusions(truth: Flags, predicted: Flags, judged: Flags, labels: list[str]) -> list[Confusion]:
    """Pairs of a missed label and a label wrongly given instead, both judged, most frequent first. The arrays are
    (n, L)."""
    missed, extra = (part.astype(np.int64) for part in (judged & truth & ~predicted, judged & ~truth & predicted))
    counts = missed.T @ extra
    pairs = [
        Confusion(gold=labels[i], predicted=labels[j], records=int(counts[i, j]))
        for i, j in zip(*np.nonzero(counts), strict=True)
    ]
    return sorted(pairs, key=lambda pair: -pair.records)


def worst_records(
    table: GuardTable, scores: Array, predicted: Flags, splits: list[Split], how_many: int
) -> list[WorstRecord]:
    """The records of these splits with the highest mean log loss over their judged labels (nats)."""
    if not table.labels:
        return []
    cells = table.judged.sum(1)
    losses = np.where(table.judged, log_losses(table.truth, scores), 0).sum(1) / np.maximum(cells, 1)
    order = np.argsort(-losses, kind="stable")
    rows = order[table.judged_on(splits)[order]][:how_many].tolist()

    def names(flags: Flags) -> list[str]:
        return [label for label, flag in zip(table.labels, flags, strict=True) if flag]

    return [
        WorstRecord(
            record_id=table.ids[row],
            split=str(table.splits[row]),  # type: ignore[arg-type]
            gold=names(table.truth[row]),
            predicted=names(predicted[row] & table.judged[row]),
            not_judged=names(~table.judged[row]),
            loss=float(losses[row]),
        )
        for row in rows
    ]

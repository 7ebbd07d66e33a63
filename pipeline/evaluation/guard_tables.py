"""Gold and one guard's scores as aligned arrays, and the records and estimators that were left out, with reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from marginalia.schemas.equal_texts import equal_texts
from marginalia.schemas.errors import ArtifactError
from marginalia.schemas.evaluation_json import UNSAFE, GoldCounts, NotJudged, Split
from marginalia.schemas.judged_labels import judged_cells, verdict_judged
from marginalia.scoring.measures.cell_means import nothing_judged
from marginalia.scoring.measures.intervals import Array, Flags

Bounds = tuple[Array, Array]  # (lower, upper) of probabilities, of equal shape
# their bounds are 95 % intervals of single probabilities, so they give no certain range for a metric
PROBABILISTIC_BOUNDS = ("monte_carlo",)
SLACK = 1e-9  # bounds closer than this count as one exact number
NO_LABELS = "no label has a probability"  # why a metric over labels has no value
LABEL_FREQUENCY = "label_frequency"  # a baseline: each label's share of the judged records, the same for every record


@dataclass(frozen=True)
class BoundedLabels:
    """K labels without probabilities for the same n records: estimator → (lower, upper), each (n, K), NaN where a row
    has none."""

    labels: list[str]
    truth: Flags  # (n, K)
    judged: Flags
    bounds: dict[str, Bounds]


@dataclass(frozen=True)
class GuardTable:
    """n final gold records x L labels that the guard scores, in the order of gold. Every estimator covers every
    record. `only_bounds`: estimator → label → its mean (lower, upper), of labels without probabilities; these are not
    among `labels`."""

    guard: str
    ids: list[str]
    splits: np.ndarray  # (n,) str
    labels: list[str]
    truth: Flags  # (n, L)
    judged: Flags  # (n, L): cells that were not judged are neither positive nor negative; every measure leaves them out
    any_label: Flags  # (n,): the verdict's truth, also from labels that the guard does not know
    verdict_judged: Flags  # (n,): whether the verdict's truth is known
    soft: Array  # (n, L), NaN where gold has none or the label was not judged
    yes: Array  # (n, L): how many of the `answers` gave the label; NaN where gold has no votes or it was not judged
    answers: Array
    scores: dict[str, Array]  # estimator → (n, L)
    verdicts: dict[str, Array]  # estimator → (n,)
    left_out: dict[str, int]
    labels_not_scored: list[str]
    estimators_left_out: dict[str, str]
    bounds: dict[str, Bounds] = field(default_factory=dict)  # only for estimators with certain, non-zero bounds
    verdict_bounds: dict[str, Bounds] = field(default_factory=dict)  # (n,) each
    only_bounds: dict[str, dict[str, tuple[float | None, float | None]]] = field(default_factory=dict)
    bounded: BoundedLabels | None = None  # the labels of `only_bounds`; None without any

    def on(self, splits: Sequence[Split]) -> Flags:
        """(n,): whether each record belongs to one of these splits."""
        return np.asarray(np.isin(self.splits, list(splits)), dtype=bool)

    def judged_on(self, splits: Sequence[Split]) -> Flags:
        """(n,): whether each record belongs to one of these splits, with at least one judged label."""
        return self.on(splits) & ~nothing_judged(self.judged)

    def verdict_on(self, splits: Sequence[Split]) -> Flags:
        """(n,): whether each record belongs to one of these splits, with a known verdict."""
        return self.on(splits) & self.verdict_judged

    @property
    def not_judged(self) -> NotJudged:
        """Counts of the cells that were not judged."""
        return _not_judged(self.judged, self.verdict_judged)


def count_gold(gold: pl.DataFrame, labels: list[str]) -> GoldCounts:
    """Counts of a gold frame (GoldRecord) with the `labels` of the taxonomy: final records by split, safe ones,
    positives and judged records by label; others by status."""
    final = gold.filter(pl.col("status") == "final")
    others = gold.filter(pl.col("status") != "final").group_by("status").len().sort("status")
    positives = dict(final["labels"].explode().drop_nulls().value_counts().iter_rows())
    judged, verdict_known = judged_cells(final["judged"], labels), verdict_judged(final, labels)
    return GoldCounts(
        records=gold.height,
        final=final.height,
        left_out=dict(others.iter_rows()),
        safe=int(((final["labels"].list.len() == 0).to_numpy() & verdict_known).sum()),
        splits=dict(final.group_by("split").len().sort("split").iter_rows()),
        positives={label: int(positives.get(label, 0)) for label in labels},
        judged=dict(zip(labels, judged.sum(0).tolist(), strict=True)),
        not_judged=_not_judged(judged, verdict_known),
        equal_texts=equal_texts(gold),
    )


def _not_judged(judged: Flags, verdict_known: Flags) -> NotJudged:
    return NotJudged(
        records=int((~judged).any(axis=1).sum()),
        cells=int((~judged).sum()),
        of_cells=judged.size,
        verdicts=int((~verdict_known).sum()),
    )


def guard_table(
    guard: str, gold: pl.DataFrame, scores: pl.DataFrame, records: pl.DataFrame, taxonomy_labels: list[str]
) -> GuardTable:
    """Aligns `gold` (GoldRecord) with `scores` (LabelScore) and `records` (ScoredRecord) of one guard.

    Raises ArtifactError for a probability that is NaN or outside [0, 1], and for an estimator with a reserved name."""
    _check_scores(guard, scores)
    final = gold.filter((pl.col("status") == "final") & pl.col("labels").is_not_null())
    scored_labels = set(scores["label"].unique())
    without_probability = set(scores.filter(pl.col("probability").is_null())["label"].unique())
    labels = [label for label in taxonomy_labels if label in scored_labels - without_probability]
    every_label = [label for label in taxonomy_labels if label in scored_labels]
    usable, left_out, estimators, estimators_left_out = _usable(final, scores, records, every_label)
    final = final.filter(pl.col("id").is_in(usable))
    ids = final["id"].to_list()
    matrices, verdicts = _matrices(scores, ids, labels, estimators, "probability")
    bounds_differ = pl.col("label").is_in([*labels, UNSAFE])
    bounds_differ &= (pl.col("upper") - pl.col("lower") > SLACK) & ~pl.col("estimator").is_in(PROBABILISTIC_BOUNDS)
    with_bounds = [
        name for name in scores.filter(bounds_differ)["estimator"].unique(maintain_order=True) if name in estimators
    ]
    bound_matrices = [_matrices(scores, ids, labels, with_bounds, column) for column in ("lower", "upper")]
    truth, judged = _membership(final["labels"], labels), judged_cells(final["judged"], labels)
    only_bounds = [label for label in every_label if label not in labels]
    if len(ids) and labels:
        frequencies = (truth & judged).sum(0) / np.maximum(judged.sum(0), 1)  # 0 for a label that nobody judged
        matrices[LABEL_FREQUENCY] = np.tile(frequencies, (len(ids), 1))
    return GuardTable(
        guard=guard,
        ids=ids,
        splits=final["split"].to_numpy().astype(str),
        labels=labels,
        truth=truth,
        judged=judged,
        any_label=(final["labels"].list.len() > 0).to_numpy().astype(bool),
        verdict_judged=verdict_judged(final, taxonomy_labels),
        soft=np.where(judged, _cells(final, "soft_labels", "probability", labels), np.nan),
        yes=np.where(judged, _cells(final, "votes", "yes", labels), np.nan),
        answers=np.where(judged, _cells(final, "votes", "n", labels), np.nan),
        scores=matrices,
        verdicts=verdicts,
        left_out=left_out,
        labels_not_scored=[label for label in taxonomy_labels if label not in scored_labels],
        estimators_left_out=estimators_left_out,
        bounds={name: (low, bound_matrices[1][0][name]) for name, low in bound_matrices[0][0].items()},
        verdict_bounds={name: (low, bound_matrices[1][1][name]) for name, low in bound_matrices[0][1].items()},
        only_bounds=_mean_bounds(scores, ids, only_bounds, estimators),
        bounded=_bounded(scores, final, only_bounds, estimators) if only_bounds else None,
    )


def _bounded(scores: pl.DataFrame, final: pl.DataFrame, labels: list[str], estimators: list[str]) -> BoundedLabels:
    ids = final["id"].to_list()
    lower, upper = (_matrices(scores, ids, labels, estimators, column)[0] for column in ("lower", "upper"))
    return BoundedLabels(
        labels=labels,
        truth=_membership(final["labels"], labels),
        judged=judged_cells(final["judged"], labels),
        bounds={name: (lower[name], upper[name]) for name in lower},
    )


def _mean_bounds(
    scores: pl.DataFrame, ids: list[str], labels: list[str], estimators: list[str]
) -> dict[str, dict[str, tuple[float | None, float | None]]]:
    """Estimator → label → its mean (lower, upper) over the records; None without records."""
    if not labels:
        return {}
    rows = scores.filter(pl.col("label").is_in(labels) & pl.col("record_id").is_in(ids))
    means = rows.group_by("estimator", "label").agg(pl.col("lower").mean(), pl.col("upper").mean())
    ends = {(estimator, label): (lower, upper) for estimator, label, lower, upper in means.iter_rows()}
    return {name: {label: ends.get((name, label), (None, None)) for label in labels} for name in estimators}


def _check_scores(guard: str, scores: pl.DataFrame) -> None:
    if LABEL_FREQUENCY in scores["estimator"]:
        raise ArtifactError(
            f"scores/{guard}.parquet: '{LABEL_FREQUENCY}' is a baseline of evaluate, not an estimator of a guard",
            hint="score again",
        )
    wrong = scores.filter(pl.col("probability").is_nan() | ~pl.col("probability").is_between(0, 1))
    if wrong.height:
        row = wrong.row(0, named=True)
        raise ArtifactError(
            f"scores/{guard}.parquet: record '{row['record_id']}', estimator '{row['estimator']}', label "
            f"'{row['label']}': probability {row['probability']}; expected a number in [0, 1]",
            hint="score again",
        )


def _usable(
    final: pl.DataFrame, scores: pl.DataFrame, records: pl.DataFrame, labels: list[str]
) -> tuple[list[str], dict[str, int], list[str], dict[str, str]]:
    """(ids with a row of every estimator and label, reason → records left out, estimators, estimator → why not)."""
    left_out: dict[str, int] = {}
    failed = records.filter(pl.col("error").is_not_null())["record_id"]
    scored = final.filter(~pl.col("id").is_in(failed.to_list()))
    _count(left_out, "scoring failed", final.height - scored.height)
    rows = scores.filter(pl.col("label").is_in(labels) & pl.col("record_id").is_in(scored["id"].to_list()))
    complete = rows.group_by("estimator", "record_id").len().filter(pl.col("len") == len(labels))
    coverage = dict(complete.group_by("estimator").len().sort("estimator").iter_rows())
    most = max(coverage.values(), default=0)
    estimators = [name for name in scores["estimator"].unique(maintain_order=True) if 2 * coverage.get(name, 0) > most]
    estimators_left_out = {
        name: f"covers {coverage.get(name, 0)} of {most} records"
        for name in scores["estimator"].unique(maintain_order=True)
        if name not in estimators
    }
    per_record = complete.filter(pl.col("estimator").is_in(estimators)).group_by("record_id").len()
    usable = set(per_record.filter(pl.col("len") == len(estimators))["record_id"])
    unscored = scored.filter(~pl.col("id").is_in(rows["record_id"].unique().to_list())).height
    _count(left_out, "not scored", unscored)
    _count(left_out, "scores incomplete", scored.height - unscored - len(usable))
    return [record for record in scored["id"] if record in usable], left_out, estimators, estimators_left_out


def _count(left_out: dict[str, int], reason: str, records: int) -> None:
    if records:
        left_out[reason] = records


def _matrices(
    scores: pl.DataFrame, ids: list[str], labels: list[str], estimators: list[str], value: str
) -> tuple[dict[str, Array], dict[str, Array]]:
    """(estimator → (n, L), estimator → the verdict's (n,)) of one column of the scores."""
    row_of_record = pl.DataFrame(
        {"record_id": ids, "row": np.arange(len(ids))}, schema={"record_id": pl.String, "row": pl.Int64}
    )
    if not estimators:
        return {}, {}
    cells = (
        scores.filter(pl.col("estimator").is_in(estimators))
        .join(row_of_record, on="record_id")
        .join(_columns([*labels, UNSAFE]), on="label")
    )
    matrices, verdicts = {}, {}
    for (name,), cells_of_estimator in cells.group_by("estimator", maintain_order=True):
        matrix = np.full((len(ids), len(labels) + 1), np.nan)
        rows, columns = cells_of_estimator["row"].to_numpy(), cells_of_estimator["column"].to_numpy()
        matrix[rows, columns] = cells_of_estimator[value].to_numpy()
        matrices[str(name)] = matrix[:, :-1]
        if len(ids) and np.isfinite(matrix[:, -1]).all():
            verdicts[str(name)] = matrix[:, -1]
    return matrices, verdicts


def _membership(label_sets: pl.Series, labels: list[str]) -> Flags:
    flags = np.zeros((len(label_sets), len(labels)), dtype=bool)
    exploded = pl.DataFrame(
        {"label": label_sets, "row": np.arange(len(label_sets))}, schema={"label": label_sets.dtype, "row": pl.Int64}
    )
    cells = exploded.explode("label").drop_nulls().join(_columns(labels), on="label")
    flags[cells["row"].to_numpy(), cells["column"].to_numpy()] = True
    return flags


def _cells(final: pl.DataFrame, column: str, field: str, labels: list[str]) -> Array:
    """(n, L) of one field of a column of list[struct{label, …}]; NaN where a label is not in the list."""
    values = np.full((final.height, len(labels)), np.nan)
    rows = final.select(column).with_row_index("row").explode(column).drop_nulls(column).unnest(column)
    cells = rows.join(_columns(labels), on="label").drop_nulls(field)
    values[cells["row"].to_numpy(), cells["column"].to_numpy()] = cells[field].to_numpy()
    return values


def _columns(labels: list[str]) -> pl.DataFrame:
    return pl.DataFrame(
        {"label": labels, "column": np.arange(len(labels))}, schema={"label": pl.String, "column": pl.Int64}
    )

"""Severity of labels: the levels that annotators give, how much they agree, and the level of each gold label.

Agreement is Krippendorff's alpha for ordered levels (Krippendorff 2011, Computing Krippendorff's Alpha-Reliability):
the distance of levels c < k is the squared number of answers from c to k, with half of those at c and at k left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from marginalia.annotation.gold.bootstrap import bundles, estimate, resampled_weights
from marginalia.annotation.gold.votes import Floats, sum_by
from marginalia.schemas.agreement_json import LabelSeverity, Severity
from marginalia.schemas.tables import GoldSeverity


def severity_of(
    given: pl.DataFrame, labels: Sequence[str], levels: Sequence[str], resamples: int, *, seed: str
) -> Severity:
    """Counts of each level and agreement per label, from the round `annotate` in a frame of `SeverityAnswer` rows.
    `levels` are names, the mildest first; intervals come from `resamples` resamples of records."""
    rows = given.filter(pl.col("round") == "annotate")
    per_label = [
        _of_label(label, rows.filter(pl.col("label") == label), len(levels), resamples, f"{seed}:{label}")
        for label in labels
    ]
    return Severity(levels=list(levels), per_label=per_label)


def _of_label(label: str, rows: pl.DataFrame, levels: int, resamples: int, seed: str) -> LabelSeverity:
    record_index = rows.select(pl.col("record_id").rank("dense").cast(pl.Int64) - 1)["record_id"].to_numpy()
    indicators = np.eye(levels)[rows["level"].to_numpy() - 1]
    counts = sum_by(record_index, indicators, rows["record_id"].n_unique())
    pairable = counts[counts.sum(axis=1) >= 2]
    n = len(pairable)
    unit = bundles(n, seed)
    units = int(unit.max(initial=-1)) + 1
    pairs = sum_by(unit, _coincidences(pairable).reshape(n, levels * levels), units)
    drawn = [(pairs.T @ weights).T for weights in resampled_weights(units, resamples, seed)]
    spread = np.concatenate([np.empty((0, levels * levels)), *drawn])
    return LabelSeverity(
        label=label,
        counts=[int(count) for count in counts.sum(axis=0)],
        alpha=estimate(
            ordinal_alpha(pairs.sum(axis=0).reshape(1, levels, levels))[0],
            ordinal_alpha(spread.reshape(-1, levels, levels)),
            n,
            lowest=-1.0,
        ),
    )


def _coincidences(counts: Floats) -> Floats:
    """Coincidence matrices: the ordered pairs of levels given to each record, weighted 1 / (n - 1) where it has n
    answers (R x V → R x V x V)."""
    pairs = counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * np.eye(counts.shape[1])
    weighted: Floats = pairs / (counts.sum(axis=1) - 1)[:, None, None]
    return weighted


def ordinal_alpha(coincidences: Floats) -> Floats:
    """Alpha of coincidence matrices (B x V x V → B); NaN where all answers give the same level."""
    size = coincidences.sum(axis=2)  # answers of each level
    total = size.sum(axis=1)
    midpoint = np.cumsum(size, axis=1) - size / 2
    distance = (midpoint[:, :, None] - midpoint[:, None, :]) ** 2
    observed = (coincidences * distance).sum(axis=(1, 2))
    expected = (size[:, :, None] * size[:, None, :] * distance).sum(axis=(1, 2))
    ratio = np.divide(observed * (total - 1), expected, out=np.full(len(total), np.nan), where=expected > 0)
    alpha: Floats = 1 - ratio
    return alpha


def gold_severity(gold: pl.DataFrame, given: pl.DataFrame) -> pl.DataFrame:
    """`GoldSeverity` rows of the final labels of `gold` (GoldRecord) from a frame of `SeverityAnswer` rows: the median
    of the annotators' levels, or of the experts' levels where experts settled the labels and gave some."""
    final = gold.filter(pl.col("status") == "final").select("id", "adjudicated", label="labels").explode("label")
    joined = final.drop_nulls("label").join(given, left_on=["id", "label"], right_on=["record_id", "label"])
    expert = pl.col("adjudicated") & (pl.col("round") == "adjudicate")
    rows = joined.filter(pl.col("round").is_in(["annotate", "adjudicate"])).with_columns(expert=expert)
    rows = rows.filter((pl.col("round") == "annotate") | pl.col("expert"))
    rows = rows.filter(pl.col("expert") == pl.col("expert").any().over("id", "label"))
    return (
        rows.group_by("id", "label")
        .agg(level=pl.col("level").median(), n=pl.len().cast(pl.Int64), adjudicated=pl.col("expert").first())
        .sort(GoldSeverity.key)
        .select(list(GoldSeverity.polars_schema()))
    )

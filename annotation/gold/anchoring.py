"""Do suggestions anchor? Answers to records that showed one, beside answers to the random share that did not."""

from __future__ import annotations

import numpy as np
import polars as pl

from marginalia.annotation.gold.answer_arrays import Floats, sum_by
from marginalia.annotation.gold.bootstrap import bundles, estimate, resampled_weights
from marginalia.schemas.agreement_json import Anchoring, Estimate


def anchoring(answers: pl.DataFrame, suggestions: pl.DataFrame, resamples: int, *, seed: str) -> Anchoring | None:
    """`answers`: `Answer` rows of the round `annotate`. `suggestions`: SuggestedRecord, what was shown and what held
    back; a record without either counts for nothing. None when nothing was shown. Intervals come of resampling records
    within each group."""
    compared = suggestions.filter(pl.col("labels").is_not_null())
    if not compared["shown"].any():
        return None
    given = answers.filter((pl.col("status") == "submitted") & (pl.col("round") == "annotate"))
    joined = given.join(compared.rename({"labels": "suggestion"}), on="record_id")
    same = joined.select(
        "record_id", "shown", same=pl.col("labels").list.sort() == pl.col("suggestion").list.unique().list.sort()
    )
    per_record = same.group_by("record_id", "shown").agg(pl.col("same").sum(), n=pl.len()).sort("record_id")
    shown, shown_spread = _share(per_record.filter("shown"), resamples, f"{seed}:suggested")
    plain, plain_spread = _share(per_record.filter(~pl.col("shown")), resamples, f"{seed}:control")
    return Anchoring(
        sources=sorted(compared["source"].drop_nulls().unique().to_list()),
        suggested=shown,
        control=plain,
        difference=estimate(
            np.float64(np.nan if shown.value is None or plain.value is None else shown.value - plain.value),
            shown_spread - plain_spread,
            min(shown.n, plain.n),
            lowest=-1.0,
        ),
    )


def _share(per_record: pl.DataFrame, resamples: int, seed: str) -> tuple[Estimate, Floats]:
    """The share of answers that are the same, with its resamples."""
    n = per_record.height
    if n == 0:
        return estimate(np.float64(np.nan), np.empty(0), 0), np.full(resamples, np.nan)
    sums = per_record.select("same", "n").to_numpy().astype(float)
    unit = bundles(n, seed)
    units = int(unit.max()) + 1
    narrow = sum_by(unit, sums, units)
    blocks = [narrow.T @ weights for weights in resampled_weights(units, resamples, seed)]
    same, answered = np.concatenate([np.empty((2, 0)), *blocks], axis=1)
    spread = same / answered
    value = sums[:, 0].sum() / sums[:, 1].sum()
    return estimate(value, spread, n, mean_of_records=True), spread

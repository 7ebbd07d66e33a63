"""Whether suggestions anchor annotators: answers to records that showed a suggestion, against answers to the random
control share that did not."""

from __future__ import annotations

import numpy as np
import polars as pl

from marginalia.annotation.gold.bootstrap import bundles, estimate, resampled_weights
from marginalia.annotation.gold.votes import Floats, judges_a_label, sum_by
from marginalia.schemas.agreement_json import Anchoring, Estimate


def anchoring(answers: pl.DataFrame, suggestions: pl.DataFrame, resamples: int, *, seed: str) -> Anchoring | None:
    """The share of answers that equal the suggestion, where it was shown and where it was not; None when none was
    shown.

    `answers`: `Answer` rows; those of the round `annotate` count, each on the labels that it judges. `suggestions`:
    `SuggestedRecord` rows; a record without labels there is ignored. Intervals come from resampling records within each
    group."""
    compared = suggestions.filter(pl.col("labels").is_not_null())
    if not compared["shown"].any():
        return None
    submitted = answers.filter((pl.col("status") == "submitted") & (pl.col("round") == "annotate"))
    joined = submitted.filter(judges_a_label()).join(compared.rename({"labels": "suggestion"}), on="record_id")
    judged_part = pl.col("suggestion").list.set_intersection(pl.coalesce("judged", "suggestion"))
    same = joined.select("record_id", "shown", same=pl.col("labels").list.sort() == judged_part.list.sort())
    per_record = same.group_by("record_id", "shown").agg(pl.col("same").sum(), n=pl.len()).sort("record_id")
    shown, shown_spread = _share(per_record.filter("shown"), resamples, f"{seed}:suggested")
    control, control_spread = _share(per_record.filter(~pl.col("shown")), resamples, f"{seed}:control")
    return Anchoring(
        sources=sorted(compared["source"].drop_nulls().unique().to_list()),
        suggested=shown,
        control=control,
        difference=estimate(
            np.float64(np.nan if shown.value is None or control.value is None else shown.value - control.value),
            shown_spread - control_spread,
            min(shown.n, control.n),
            lowest=-1.0,
        ),
    )


def _share(per_record: pl.DataFrame, resamples: int, seed: str) -> tuple[Estimate, Floats]:
    """The share of answers that equal the suggestion, and its value in each resample."""
    n = per_record.height
    if n == 0:
        return estimate(np.float64(np.nan), np.empty(0), 0), np.full(resamples, np.nan)
    sums = per_record.select("same", "n").to_numpy().astype(float)
    unit = bundles(n, seed)
    units = int(unit.max()) + 1
    unit_sums = sum_by(unit, sums, units)
    blocks = [unit_sums.T @ weights for weights in resampled_weights(units, resamples, seed)]
    same, answered = np.concatenate([np.empty((2, 0)), *blocks], axis=1)
    spread = same / answered
    value = sums[:, 0].sum() / sums[:, 1].sum()
    return estimate(value, spread, n, mean_of_records=True), spread

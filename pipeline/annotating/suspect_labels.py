"""Gold labels to review: those with which a confident guard disagrees.

Confident learning (Northcutt, Jiang & Chuang 2021, JAIR 70), one label at a time: a guard is confident of a label where
its probability reaches its mean probability on the records that have the label in gold; likewise for the absence of a
label. So a guard that is never sure, or always too sure, gets a threshold of its own. A label that gold did not judge
is neither disputed nor compared. The experts' answers do not change gold.parquet: otherwise a guard's results could
improve because it chose which labels are corrected."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from marginalia.annotation.gold.gold_questions import wilson
from marginalia.schemas.agreement_json import Estimate
from marginalia.schemas.judged_labels import judged_cells
from marginalia.schemas.tables import AuditedRecord
from marginalia.scoring.measures.intervals import share_of_finite


@dataclass(frozen=True)
class ChangeRate:
    """Of the records selected for one reason, `why` (guard, control): how many experts have seen, and how many of these
    they labelled differently from gold."""

    why: str
    seen: int
    changed: int

    @property
    def share(self) -> Estimate:
        """The share of those seen that were changed, with Wilson's interval."""
        return wilson(self.changed, self.seen)


def suspects(gold: pl.DataFrame, scores: pl.DataFrame, labels: Sequence[str]) -> pl.DataFrame:
    """Final gold records with a label on which the guard confidently disagrees, one row per record: id, label (the one
    with the least support), probability (the guard's, of the label) and support (its probability of what gold says),
    the least support first.

    `gold`: GoldRecord; `scores`: record_id, label and probability of one guard and estimator. Labels of which only the
    bounds are known are left out."""
    final = _reviewable(gold).select("id", "judged", gold_labels="labels")
    known = scores.drop_nulls("probability").filter(pl.col("label").is_in(list(labels)))
    cells = known.join(final, left_on="record_id", right_on="id")
    cells = cells.filter(pl.col("judged").list.contains(pl.col("label")).fill_null(True))
    cells = cells.with_columns(given=pl.col("gold_labels").list.contains(pl.col("label")))
    support = pl.when("given").then(pl.col("probability")).otherwise(1 - pl.col("probability"))
    cells = cells.with_columns(support=support)
    means = cells.group_by("label", "given").agg(mean=pl.col("support").mean())
    opposite = means.select("label", given=~pl.col("given"), threshold="mean")
    disputed = cells.join(opposite, on=["label", "given"]).filter((1 - pl.col("support")) >= pl.col("threshold"))
    worst = disputed.sort("support", "record_id", "label").unique("record_id", keep="first", maintain_order=True)
    return worst.select("label", "probability", "support", id="record_id")


def select(
    gold: pl.DataFrame, scores: pl.DataFrame, labels: Sequence[str], *, top: int, control: int, seed: int
) -> pl.DataFrame:
    """`AuditedRecord` rows: the first `top` suspects and a random sample of `control` of all other final records, in a
    seeded random order, so that a record's position does not reveal its group. `weight`: how many records a row
    represents."""
    chosen = suspects(gold, scores, labels).head(top).with_columns(why=pl.lit("guard"), weight=pl.lit(1.0))
    final = _reviewable(gold)
    others = sorted(set(final["id"]) - set(chosen["id"]), key=lambda record: _rank(record, seed, "control"))
    sampled = others[:control]
    controls = pl.DataFrame({"id": sampled}, schema={"id": pl.String}).with_columns(
        why=pl.lit("control"), weight=pl.lit(len(others) / max(len(sampled), 1))
    )
    both = pl.concat([chosen, controls], how="diagonal").join(
        final.select("id", "judged", gold_labels="labels"), on="id", maintain_order="left"
    )
    order = sorted(both["id"].to_list(), key=lambda record: _rank(record, seed, "order"))
    positions = pl.DataFrame(
        {"id": order, "position": np.arange(len(order))}, schema={"id": pl.String, "position": pl.Int64}
    )
    return _rows(both.join(positions, on="id").sort("position"))


def with_answers(selected: pl.DataFrame, answers: pl.DataFrame, labels: Sequence[str]) -> pl.DataFrame:
    """The selection with the experts' answers so far: `audited_labels` where all of a record's answers agree, and
    whether they differ from gold (`changed`); both are null elsewhere. Only the labels that gold judged count, of
    answers that judge all of these."""
    submitted = answers.filter((pl.col("round") == "audit") & (pl.col("status") == "submitted"))
    by_gold = selected.select("id", by_gold="judged")
    joined = submitted.join(by_gold, left_on="record_id", right_on="id")
    missing = judged_cells(joined["by_gold"], labels) & ~judged_cells(joined["judged"], labels)
    complete = pl.Series(~missing.any(axis=1), dtype=pl.Boolean)
    ticked = pl.col("labels").list.set_intersection(pl.coalesce("by_gold", "labels")).list.sort()
    sets = joined.filter(complete).select("record_id", ticked=ticked).unique()
    agreed = sets.group_by("record_id").agg(pl.col("ticked").first(), n=pl.len()).filter(pl.col("n") == 1)
    joined = selected.drop("audited_labels", "changed").join(
        agreed, left_on="id", right_on="record_id", how="left", maintain_order="left"
    )
    changed = pl.col("ticked") != pl.col("gold_labels").list.sort()
    return _rows(joined.with_columns(audited_labels=pl.col("ticked"), changed=changed))


def change_rates(audited: pl.DataFrame) -> list[ChangeRate]:
    """The change rates of the disputed and of the sampled records, in this order, from `AuditedRecord` rows."""
    rates = []
    for why in ("guard", "control"):
        seen = audited.filter((pl.col("why") == why) & pl.col("changed").is_not_null())
        rates.append(ChangeRate(why, seen.height, int(seen["changed"].sum())))
    return rates


def gold_error_rate(audited: pl.DataFrame) -> Estimate | None:
    """The share of all final gold records that experts would change in a label that gold judged, with its 95 %
    interval. None while no disputed or no sampled record has an answer, or without weights (files of an older version).

    The disputed records represent only themselves, the sampled ones all others. For each group the interval of the
    number of changes is exact; for their sum it is combined by MOVER (Zou & Donner 2008)."""
    total, changes, below, above = 0, 0.0, 0.0, 0.0
    for why in ("guard", "control"):
        group = audited.filter(pl.col("why") == why)
        seen = group.drop_nulls("changed")
        if group["weight"].null_count() or (seen.is_empty() and (why == "control" or not group.is_empty())):
            return None
        if group.is_empty():
            continue
        size, changed = round(group["weight"].sum()), int(seen["changed"].sum())
        low, high = share_of_finite(changed, seen.height, size, confidence=0.95)
        share = changed / seen.height
        total += size
        changes += size * share
        below += (size * (share - low)) ** 2
        above += (size * (high - share)) ** 2
    return Estimate(
        value=changes / total,
        low=max(0.0, changes - below**0.5) / total,
        high=min(float(total), changes + above**0.5) / total,
        n=audited.drop_nulls("changed").height,
    )


def _reviewable(gold: pl.DataFrame) -> pl.DataFrame:
    """The final records with a judged label."""
    return gold.filter((pl.col("status") == "final") & (pl.col("judged").list.len() > 0).fill_null(True))


def _rows(frame: pl.DataFrame) -> pl.DataFrame:
    """`frame` with exactly the columns of `AuditedRecord`; missing ones are null."""
    schema = AuditedRecord.polars_schema()
    missing = [pl.lit(None).alias(name) for name in schema if name not in frame.columns]
    return frame.with_columns(missing).select(pl.col(name).cast(dtype) for name, dtype in schema.items())


def _rank(record: str, seed: int, purpose: str) -> bytes:
    return hashlib.sha256(f"{seed}:audit {purpose}:{record}".encode()).digest()

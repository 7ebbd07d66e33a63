"""Which gold labels deserve a second look: where a guard is confident and gold says otherwise.

Confident learning (Northcutt, Jiang & Chuang 2021, JAIR 70), label by label: a guard is confident of a label when its
probability reaches the mean of its probabilities on the records that gold gives the label; likewise for its absence.
So a guard that is never sure, or always too sure, is measured by its own standard. The experts' answers never enter
gold.parquet: a guard must not improve by editing its own yardstick."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from marginalia.annotation.gold.gold_questions import wilson
from marginalia.schemas.agreement_json import Estimate
from marginalia.schemas.tables import AuditedRecord
from marginalia.scoring.measures.intervals import share_of_finite


@dataclass(frozen=True)
class ChangeRate:
    """Of the records that were chosen for one reason: how many an expert has seen again and labelled otherwise."""

    why: str
    seen: int
    changed: int

    @property
    def share(self) -> Estimate:
        """Of those seen, with Wilson's interval."""
        return wilson(self.changed, self.seen)


def suspects(gold: pl.DataFrame, scores: pl.DataFrame, labels: Sequence[str]) -> pl.DataFrame:
    """Final gold records with a label on which the guard confidently disagrees: id, label, probability (the guard's,
    of the label), support (its probability for what gold says), worst first; one row a record, its worst label.

    `gold`: GoldRecord; `scores`: record_id, label, probability of one guard and estimator."""
    final = gold.filter(pl.col("status") == "final").select("id", gold_labels="labels")
    cells = scores.filter(pl.col("label").is_in(list(labels))).join(final, left_on="record_id", right_on="id")
    cells = cells.with_columns(given=pl.col("gold_labels").list.contains(pl.col("label")))
    support = pl.when("given").then(pl.col("probability")).otherwise(1 - pl.col("probability"))
    cells = cells.with_columns(support=support)
    usual = cells.group_by("label", "given").agg(usual=pl.col("support").mean())
    against = usual.select("label", given=~pl.col("given"), bar="usual")
    found = cells.join(against, on=["label", "given"]).filter((1 - pl.col("support")) >= pl.col("bar"))
    worst = found.sort("support", "record_id", "label").unique("record_id", keep="first", maintain_order=True)
    return worst.select("label", "probability", "support", id="record_id")


def select(
    gold: pl.DataFrame, scores: pl.DataFrame, labels: Sequence[str], *, top: int, control: int, seed: int
) -> pl.DataFrame:
    """`AuditedRecord` rows: the `top` suspects and a random sample of `control` of all other final records, in seeded
    order so that the place tells nothing. `weight` says how many records each stands for."""
    chosen = suspects(gold, scores, labels).head(top).with_columns(why=pl.lit("guard"), weight=pl.lit(1.0))
    final = gold.filter(pl.col("status") == "final")
    others = sorted(set(final["id"]) - set(chosen["id"]), key=lambda record: _rank(record, seed, "control"))
    sampled = others[:control]
    plain = pl.DataFrame({"id": sampled}, schema={"id": pl.String}).with_columns(
        why=pl.lit("control"), weight=pl.lit(len(others) / max(len(sampled), 1))
    )
    both = pl.concat([chosen, plain], how="diagonal").join(
        final.select("id", gold_labels="labels"), on="id", maintain_order="left"
    )
    order = sorted(both["id"].to_list(), key=lambda record: _rank(record, seed, "order"))
    places = pl.DataFrame({"id": order, "place": np.arange(len(order))}, schema={"id": pl.String, "place": pl.Int64})
    return _rows(both.join(places, on="id").sort("place"))


def with_answers(selected: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    """The selection with what experts say now: `audited_labels` where all who answered agree, `changed` beside it."""
    given = answers.filter((pl.col("round") == "audit") & (pl.col("status") == "submitted"))
    sets = given.select("record_id", ticked=pl.col("labels").list.sort()).unique()
    agreed = sets.group_by("record_id").agg(pl.col("ticked").first(), n=pl.len()).filter(pl.col("n") == 1)
    joined = selected.drop("audited_labels", "changed").join(
        agreed, left_on="id", right_on="record_id", how="left", maintain_order="left"
    )
    changed = pl.col("ticked") != pl.col("gold_labels").list.sort()
    return _rows(joined.with_columns(audited_labels=pl.col("ticked"), changed=changed))


def change_rates(audited: pl.DataFrame) -> list[ChangeRate]:
    rates = []
    for why in ("guard", "control"):
        seen = audited.filter((pl.col("why") == why) & pl.col("changed").is_not_null())
        rates.append(ChangeRate(why, seen.height, int(seen["changed"].sum())))
    return rates


def gold_error_rate(audited: pl.DataFrame) -> Estimate | None:
    """The share of all final gold records that experts would change, with its 95 % interval; None without an answer
    for the disputed or for the sampled records, or without weights (files of an older version).

    The disputed records speak for themselves, the sampled ones for all others. Of both the interval of the number
    that would be changed is exact; of their sum it is put together after Zou & Donner 2008 (MOVER)."""
    total, value, below, above = 0, 0.0, 0.0, 0.0
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
        value += size * share
        below += (size * (share - low)) ** 2
        above += (size * (high - share)) ** 2
    return Estimate(
        value=value / total,
        low=max(0.0, value - below**0.5) / total,
        high=min(float(total), value + above**0.5) / total,
        n=audited.drop_nulls("changed").height,
    )


def _rows(frame: pl.DataFrame) -> pl.DataFrame:
    schema = AuditedRecord.polars_schema()
    missing = [pl.lit(None).alias(name) for name in schema if name not in frame.columns]
    return frame.with_columns(missing).select(pl.col(name).cast(dtype) for name, dtype in schema.items())


def _rank(record: str, seed: int, purpose: str) -> bytes:
    return hashlib.sha256(f"{seed}:audit {purpose}:{record}".encode()).digest()

"""Splits: no text is in two of them, and the shares hold also per label."""

from __future__ import annotations

import random
from collections import defaultdict

import polars as pl
import pytest

from marginalia.annotation.config import Splits
from marginalia.annotation.gold.splits import assign_splits
from marginalia.schemas.tables import GoldRecord

LABELS = ["a", "b", "c"]
SCHEMA = {name: GoldRecord.polars_schema()[name] for name in ("id", "messages", "labels", "judged")}


def records(texts: int, *, copies: list[int], seed: int, settled: float = 1.0) -> pl.DataFrame:
    """Each text in one of `copies` records, written with other case and punctuation, in random order."""
    chance = random.Random(seed)
    rows = []
    for text in range(texts):
        labels = [label for label in LABELS if chance.random() < 0.25]
        for copy in range(chance.choice(copies)):
            written = chance.choice(["Where is parcel {}?", "where is parcel {}", " WHERE IS PARCEL {}!"]).format(text)
            known = labels if chance.random() < settled else None
            rows.append((f"{text}-{copy}", [{"role": "user", "content": written}], known, None))
    chance.shuffle(rows)
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def with_splits(frame: pl.DataFrame, shares: Splits, seed: int = 1) -> pl.DataFrame:
    return frame.with_columns(assign_splits(frame, LABELS, shares, seed))


@pytest.mark.parametrize("settled", [1.0, 0.6])
@pytest.mark.parametrize("shares", [Splits(), Splits(train=0.6, calibration=0.2, test=0.2)], ids=["halves", "three"])
def test_no_text_is_in_two_splits_and_the_shares_hold_for_every_label(shares: Splits, settled: float) -> None:
    for seed in range(10):
        result = with_splits(records(200, copies=[1, 1, 2, 3, 5], seed=seed, settled=settled), shares, seed)
        splits = defaultdict(set)
        for record, split in result.select("id", "split").iter_rows():
            splits[record.split("-")[0]].add(split)
        assert {len(of_text) for of_text in splits.values()} == {1}
        final = result.drop_nulls("labels")
        for part in [final, *(final.filter(pl.col("labels").list.contains(label)) for label in LABELS)]:
            for name, share in shares.model_dump().items():
                assert abs((part["split"] == name).mean() - share) < 0.05, (seed, name)  # type: ignore[operator]


def test_copies_of_a_text_are_assigned_together() -> None:
    """40 texts under three ids each; when records were assigned one by one, 32 texts were in both splits."""
    result = with_splits(records(40, copies=[3], seed=0), Splits())
    assert dict(result["split"].value_counts().iter_rows()) == {"calibration": 60, "test": 60}


def test_the_order_of_the_records_changes_nothing_and_the_seed_does() -> None:
    frame = records(60, copies=[1, 2, 4], seed=3, settled=0.8)
    first = dict(with_splits(frame, Splits()).select("id", "split").iter_rows())
    assert first == dict(with_splits(frame.reverse(), Splits()).select("id", "split").iter_rows())
    assert first != dict(with_splits(frame, Splits(), seed=2).select("id", "split").iter_rows())


def test_an_unsettled_record_follows_the_settled_one_of_its_text() -> None:
    for seed in range(20):
        frame = records(20, copies=[2], seed=seed)
        half = frame.with_columns(labels=pl.when(pl.col("id").str.ends_with("-0")).then("labels"))
        split_of = dict(with_splits(half, Splits(), seed).select("id", "split").iter_rows())
        assert all(split_of[f"{text}-0"] == split_of[f"{text}-1"] for text in range(20))
        settled = half.drop_nulls("labels")
        alone = dict(with_splits(settled, Splits(), seed).select("id", "split").iter_rows())
        settled_shares = [sum(split == "test" for split in of_record.values()) for of_record in (alone, split_of)]
        assert settled_shares == [10, 20]  # half of the settled ones, and with each of them its copy


def test_a_split_without_a_share_gets_nothing() -> None:
    result = with_splits(records(30, copies=[1, 4], seed=5, settled=0.5), Splits(train=0, calibration=0.3, test=0.7))
    assert set(result["split"]) == {"calibration", "test"}
    assert with_splits(records(0, copies=[1], seed=0), Splits()).height == 0

"""Gold from Python: a frame of GoldRecord, or the simple form with id and labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from marginalia.annotation.config import Splits
from marginalia.annotation.gold.splits import assign_splits
from marginalia.pipeline.core.checked_tables import labels_not_judged, wrongly_settled
from marginalia.schemas.data_frames import as_polars
from marginalia.schemas.errors import InputError, did_you_mean
from marginalia.schemas.label_cells import is_blank
from marginalia.schemas.messages import messages_of
from marginalia.schemas.storage.files import check_frame
from marginalia.schemas.tables import GoldRecord
from marginalia.schemas.taxonomy import RESERVED, Taxonomy

SPLITS = ("train", "calibration", "test")
FORM = "gold has the columns id and labels (a list of label ids, [] if none applies), and perhaps split, judged, text"
LISTS = ("labels", "judged")


@dataclass(frozen=True)
class GivenGold:
    """Gold as GoldRecord rows. `notes`: what was filled in; `has_texts`: whether the records came with their texts."""

    records: pl.DataFrame
    notes: list[str]
    has_texts: bool


def gold_records(gold: Any, seed: int) -> GivenGold:
    """The gold in a frame or a list of dicts.

    In the simple form, null labels mean that a record has no final labels, and records without a column `split` are
    divided into calibration and test. Raises InputError for a missing column, and for ids, labels or splits that are
    not valid."""
    frame = pl.DataFrame(gold, infer_schema_length=None) if isinstance(gold, list) else as_polars(gold, "gold")
    required = [name for name in GoldRecord.model_fields if name not in GoldRecord.added_later()]
    if set(required) <= set(frame.columns):
        known = [name for name in GoldRecord.model_fields if name in frame.columns]
        given = GivenGold(check_frame(Path("gold"), frame.select(known), GoldRecord), [], has_texts=True)
    else:
        given = _from_simple_form(frame, seed)
    _check(given.records)
    return given


def _from_simple_form(frame: pl.DataFrame, seed: int) -> GivenGold:
    for name in ("id", "labels"):
        if name not in frame.columns:
            near = did_you_mean(name, frame.columns) or f"; it has {', '.join(frame.columns)}"
            raise InputError(f"gold has no column '{name}'{near}", hint=FORM)
    frame = frame.with_columns(pl.col("id").cast(pl.String))
    if frame["id"].null_count() or frame["id"].is_duplicated().any():
        repeated = frame.filter(frame["id"].is_duplicated())["id"].drop_nulls()
        seen = f"two records have the id '{repeated[0]}'" if repeated.len() else "a record has no id"
        raise InputError(f"gold: {seen}", hint="ids must be unique")
    for name in LISTS:
        if name in frame.columns:
            frame = frame.with_columns(_label_lists(frame, name).alias(name))
        else:
            frame = frame.with_columns(pl.lit(None, dtype=pl.List(pl.String)).alias(name))
    has_texts = bool({"messages", "text"} & set(frame.columns))
    frame, notes = _with_splits(frame.with_columns(_messages(frame, has_texts)), seed)
    filled = {
        "status": pl.when(pl.col("labels").is_null()).then(pl.lit("needs_answers")).otherwise(pl.lit("final")),
        "n_annotators": pl.lit(0),
        "method": pl.lit("given"),
        "adjudicated": pl.lit(False),
        "soft_labels": pl.lit([]),
        "votes": pl.lit([]),
        "agreement": pl.lit(None),
    }
    schema = GoldRecord.polars_schema()
    frame = frame.with_columns(value.cast(schema[name]).alias(name) for name, value in filled.items())
    return GivenGold(frame.select(pl.col(name).cast(dtype) for name, dtype in schema.items()), notes, has_texts)


def _label_lists(frame: pl.DataFrame, name: str) -> pl.Series:
    dtype = frame.schema[name]
    if dtype != pl.Null() and not (isinstance(dtype, pl.List) and dtype.inner in (pl.String, pl.Null, pl.Categorical)):
        seen = "texts" if dtype == pl.String() else str(dtype)
        raise InputError(f"gold: the column '{name}' must contain lists of label ids, saw {seen}", hint=FORM)
    return frame[name].cast(pl.List(pl.String))


def _messages(frame: pl.DataFrame, has_texts: bool) -> pl.Series:
    """The records' messages. Without texts it is their ids, so that records do not count as having the same text."""
    rows = [
        messages_of(row, f"gold: record '{row['id']}'") if has_texts else [{"role": "user", "content": row["id"]}]
        for row in frame.select(pl.col("id", *({"messages", "text"} & set(frame.columns)))).iter_rows(named=True)
    ]
    return pl.Series("messages", rows, dtype=GoldRecord.polars_schema()["messages"])


def _with_splits(frame: pl.DataFrame, seed: int) -> tuple[pl.DataFrame, list[str]]:
    if "split" in frame.columns:
        wrong = frame.filter(~pl.col("split").cast(pl.String).is_in(SPLITS) | pl.col("split").is_null())
        for record, split in wrong.select("id", "split").head(1).iter_rows():
            raise InputError(f"gold: record '{record}' has the split {split!r}", hint=f"one of {', '.join(SPLITS)}")
        return frame, []
    labels = sorted(frame["labels"].explode().drop_nulls().unique())
    frame = frame.with_columns(assign_splits(frame, labels, Splits(), seed))
    final = frame.drop_nulls("labels")["split"]
    counts = ", ".join(f"{(final == name).sum()} {name}" for name in ("calibration", "test"))
    return frame, [
        f"gold has no column 'split', so its final records were divided with seed {seed}: {counts}. Thresholds are "
        "chosen on calibration and judged on test"
    ]


def _check(gold: pl.DataFrame) -> None:
    for record, status in wrongly_settled(gold).select("id", "status").head(1).iter_rows():
        raise InputError(f"gold: record '{record}' is {status}, which does not fit its labels", hint=FORM)
    for record, label in labels_not_judged(gold).select("id", "label").head(1).iter_rows():
        raise InputError(
            f"gold: record '{record}' has the label '{label}', which 'judged' leaves out", hint="add it to 'judged'"
        )
    for name in LISTS:
        wrong = gold.select("id", pl.col(name)).explode(name).filter(pl.col(name).is_in(RESERVED))
        for record, label in wrong.head(1).iter_rows():
            raise InputError(
                f"gold: record '{record}' has '{label}' in '{name}', which is not a label",
                hint="an empty list of labels means that no category applies",
            )
    if not gold.height or not (gold["status"] == "final").any():
        raise InputError("gold has no record with labels", hint=FORM)


def check_labels(gold: pl.DataFrame, taxonomy: Taxonomy) -> None:
    """Raises InputError, with the nearest label, for a label that the taxonomy does not have."""
    for name in LISTS:
        for record, label in gold.select("id", name).explode(name).drop_nulls(name).unique(name).iter_rows():
            if not is_blank(label):
                taxonomy.require(label, f"gold: record '{record}'")

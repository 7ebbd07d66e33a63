"""The tables of a release: which parts of a run's files are published, and in which files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import polars as pl
from pydantic import Field

from marginalia.schemas.errors import InputError
from marginalia.schemas.judged_labels import judged_cells
from marginalia.schemas.table_row import Row
from marginalia.schemas.tables import GoldRecord, GoldSeverity

SPLITS = ("train", "calibration", "test")
PSEUDONYM = r"^[A-Z][0-9]{2,}$"


class ReleasedAnswer(Row):
    """Config `annotations`: one annotator's answer to one record. Remarks and times are not released."""

    key: ClassVar[tuple[str, ...]] = ("record_id", "annotator", "round")
    record_id: str
    annotator: str = Field(pattern=PSEUDONYM, description="pseudonym: A01, A02 …")
    labels: list[str] | None = Field(description="null when the annotator skipped the record; empty: none applies")
    status: Literal["submitted", "discarded"]
    round: str = Field(description="annotate, adjudicate, audit or gold_question")
    judged: list[str] | None = Field(default=None, description="labels that the annotator was asked about; null: all")


class ReleasedScore(Row):
    """Config `scores`: guard x record x estimator x label. The reserved label `unsafe` is the verdict."""

    key: ClassVar[tuple[str, ...]] = ("guard", "record_id", "estimator", "label")
    guard: str = Field(description="name of the guard whose answer was scored")
    record_id: str
    estimator: str
    label: str
    probability: float | None = Field(description="null where only the bounds are known")
    lower: float
    upper: float


class ReleasedRejection(Row):
    """Config `rejected`: why an attempt to write a record was rejected, without its text."""

    key: ClassVar[tuple[str, ...]] = ("slot_id", "attempt")
    slot_id: str
    attempt: int = Field(description="from 1")
    reason: str = Field(description="refused, invalid, language, duplicate, copied, too_short, too_long, answered …")


MODELS: Mapping[str, type[Row]] = {
    "gold": GoldRecord,
    "severity": GoldSeverity,
    "annotations": ReleasedAnswer,
    "scores": ReleasedScore,
    "rejected": ReleasedRejection,
}


def release_tables(
    gold: pl.DataFrame,
    annotations: pl.DataFrame | None,
    scores: Mapping[str, pl.DataFrame],
    rejected: pl.DataFrame | None,
    severity: pl.DataFrame | None = None,
    *,
    labels: Sequence[str],
) -> dict[str, pl.DataFrame]:
    """Path inside the release → its table, sorted by key so that equal content gives equal files.

    `gold`: only final records are released, one file per split, so that no unsettled record is taken for a safe one.
    `annotations`: only submitted and skipped answers to records of `gold` are released. `scores`: by guard.
    `severity`: only labels of final records are released. Empty tables are left out. `labels`: those of the taxonomy.
    The gold and the answers have the column `judged` only where not all labels were judged in some row, and then in all
    files of the config: without it, all labels were judged in all rows.
    Raises InputError when an annotator is not a pseudonym."""
    final = _judged_if_partly(gold.filter(pl.col("status") == "final"), labels)
    tables = {f"data/gold/{split}.parquet": final.filter(pl.col("split") == split) for split in SPLITS}
    if severity is not None:
        tables["data/severity/train.parquet"] = severity.filter(pl.col("id").is_in(final["id"].to_list()))
    if annotations is not None:
        answered = annotations.filter(
            pl.col("status").is_in(["submitted", "discarded"]) & pl.col("record_id").is_in(gold["id"].to_list())
        )
        _refuse_names(answered)
        tables["data/annotations/train.parquet"] = _judged_if_partly(_columns(answered, ReleasedAnswer), labels)
    for guard, frame in sorted(scores.items()):
        named = frame.with_columns(pl.lit(guard, dtype=pl.String).alias("guard"))
        tables[f"data/scores/{guard}.parquet"] = _columns(named, ReleasedScore)
    if rejected is not None:
        tables["data/rejected/train.parquet"] = _columns(rejected, ReleasedRejection)
    return {path: table.sort(MODELS[config_of(path)].key) for path, table in tables.items() if table.height}


def config_of(path: str) -> str:
    """The config (subset, in the Hub's sense) of a data file: its path is `data/CONFIG/…`."""
    return path.split("/")[1]


def data_files(paths: list[str]) -> list[dict[str, object]]:
    """The `configs` metadata by which `datasets` finds the files; `gold` is the default config."""
    configs: list[dict[str, object]] = []
    for name in MODELS:
        paths_of_config = [path for path in paths if config_of(path) == name]
        if not paths_of_config:
            continue
        if name == "gold":
            files = [
                {"split": split, "path": path}
                for split in SPLITS
                for path in paths_of_config
                if path.endswith(f"/{split}.parquet")
            ]
            configs.append({"config_name": name, "default": True, "data_files": files})
        else:
            configs.append({"config_name": name, "data_files": [{"split": "train", "path": paths_of_config}]})
    return configs


def _judged_if_partly(frame: pl.DataFrame, labels: Sequence[str]) -> pl.DataFrame:
    """The frame without `judged` where all labels were judged in all rows; else null in the rows where all were."""
    all_judged = pl.Series("all", judged_cells(frame["judged"], labels).all(axis=1), dtype=pl.Boolean)
    if all_judged.all():
        return frame.drop("judged")
    return frame.with_columns(judged=pl.when(all_judged).then(None).otherwise("judged"))


def _refuse_names(answers: pl.DataFrame) -> None:
    named = answers.filter(~pl.col("annotator").str.contains(PSEUDONYM))
    if named.height:
        raise InputError(
            f"annotations.parquet: the annotator of record '{named['record_id'][0]}' is not a pseudonym such as A01",
            hint="a release must not contain names: delete annotations.parquet and pull again",
        )


def _columns(frame: pl.DataFrame, model: type[Row]) -> pl.DataFrame:
    return frame.select(list(model.polars_schema()))

"""Writes the release folder, as it is uploaded to the Hub, and reads an existing one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import polars as pl
from pydantic import BaseModel

from marginalia.pipeline.release.card_charts import Chart
from marginalia.pipeline.release.release_tables import MODELS, SPLITS, config_of
from marginalia.pipeline.release.release_versions import ReleaseHistory, changelog
from marginalia.schemas.json_schemas import json_schema
from marginalia.schemas.storage.files import read_frame, read_model, write_json, write_text
from marginalia.schemas.storage.folders import recover_folder, write_folder_whole
from marginalia.schemas.storage.large_tables import write_frames
from marginalia.schemas.tables import GoldRecord
from marginalia.schemas.taxonomy import Taxonomy

HISTORY = "release.json"
CROISSANT = "croissant.json"


def write_release(
    path: Path,
    readme: str,
    tables: Mapping[str, pl.DataFrame],
    history: ReleaseHistory,
    taxonomy: Taxonomy,
    *,
    documents: Mapping[str, BaseModel] = MappingProxyType({}),
    charts: Sequence[Chart] = (),
    description: Callable[[Path], Mapping[str, Any]] | None = None,
) -> None:
    """Writes the folder `path` completely or not at all: data, card, changelog, history, taxonomy, JSON Schemas.

    `tables`: path inside the release → table. `documents`: further JSON files (thresholds, calibration) by name without
    ending. `charts`: the card's SVG files. `description`: folder with the data files → content of croissant.json."""

    def build(folder: Path) -> None:
        for name, table in tables.items():
            row = MODELS[config_of(name)]
            absent = [column for column in row.added_later() if column not in table.columns]
            write_frames(folder / name, [table], row, without=absent)
        write_text(folder / "README.md", readme)
        write_text(folder / "CHANGELOG.md", changelog(history))
        write_json(folder / HISTORY, history.model_dump(mode="json"))
        write_json(folder / "taxonomy.json", taxonomy.model_dump(mode="json"))
        for name, document in documents.items():
            write_json(folder / f"{name}.json", document.model_dump(mode="json"))
        if description is not None:
            write_json(folder / CROISSANT, description(folder))
        for chart in charts:
            write_text(folder / chart.path, chart.svg)
        document_models = {name: type(document) for name, document in documents.items()}
        models: dict[str, type[BaseModel]] = {
            **MODELS,
            "taxonomy": Taxonomy,
            "release": ReleaseHistory,
            **document_models,
        }
        for name, model in models.items():
            text = json.dumps(json_schema(model), ensure_ascii=False, indent=2)
            write_text(folder / "schemas" / f"{name}.schema.json", text + "\n")

    write_folder_whole(path, build)


def read_release(path: Path, *, made_by: str) -> tuple[ReleaseHistory, pl.DataFrame] | None:
    """The history and the gold table (all splits) of the release in `path`; None when there is no release.

    `made_by`: the command that an error message suggests when a file is damaged."""
    recover_folder(path)
    if not (path / HISTORY).exists():
        return None
    history = read_model(path / HISTORY, ReleaseHistory, made_by=made_by)
    files = [path / f"data/gold/{split}.parquet" for split in SPLITS]
    tables = [read_frame(file, GoldRecord, made_by=made_by) for file in files if file.exists()]
    return history, pl.concat(tables) if tables else GoldRecord.frame([])

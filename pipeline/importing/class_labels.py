"""Names of the classes in Parquet files of `datasets`, whose columns of the feature ClassLabel hold numbers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from marginalia.pipeline.importing.column_mapping import Mapping


def with_classes(mapping: Mapping, path: Path) -> Mapping:
    """The mapping with `labels.classes` of the file, if the file names the classes of its label column and the mapping
    does not."""
    labels = mapping.labels
    if labels is None or labels.columns or labels.form == "flags" or labels.classes:
        return mapping
    columns = mapping.annotators.columns if mapping.annotators is not None else []
    column = labels.column or columns[0]
    if mapping.annotators is not None and mapping.annotators.items is not None:
        column = f"{mapping.annotators.items}.{column}"
    classes = class_names(path).get(_without_indices(column), [])
    return mapping.model_copy(update={"labels": labels.model_copy(update={"classes": classes})})


def class_names(path: Path) -> dict[str, list[str]]:
    """Column → the names of its classes 0, 1, 2 …, from the metadata of a Parquet file; the path of a column inside
    others is `answers.label`. Empty for other files, and for one that cannot be read, which `read_rows` reports."""
    if path.suffix != ".parquet" or not path.is_file():
        return {}
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_schema(path).metadata or {}
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
    except Exception:  # pyarrow raises many types for damaged files
        return {}
    found: dict[str, list[str]] = {}
    _collect(features, "", found)
    return found


def _collect(feature: Any, path: str, found: dict[str, list[str]]) -> None:
    """Adds the classes below a feature: an object of features, a list of one feature, or an object with a _type."""
    if isinstance(feature, list):
        for item in feature:
            _collect(item, path, found)
    elif isinstance(feature, dict) and feature.get("_type") == "ClassLabel":
        names = feature.get("names")
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            found[path] = names
    elif isinstance(feature, dict) and isinstance(feature.get("_type"), str):
        _collect(feature.get("feature"), path, found)
    elif isinstance(feature, dict):
        for name, inner in feature.items():
            _collect(inner, f"{path}.{name}".removeprefix("."), found)


def _without_indices(path: str) -> str:
    return re.sub(r"\[(\*|-?\d+)\]", "", path)

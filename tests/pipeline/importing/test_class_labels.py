"""Names of classes from the Parquet files that `datasets` writes."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from marginalia.pipeline.importing.class_labels import class_names, with_classes
from marginalia.pipeline.importing.column_mapping import Mapping
from marginalia.pipeline.importing.row_conversion import convert
from marginalia.schemas.source_rows import read_rows
from marginalia.schemas.taxonomy import load_taxonomy

TAXONOMY = load_taxonomy("support-tickets")
TOPICS = ClassLabel(names=["fine", "late", "money"])
VALUES = {"fine": None, "late": "late_delivery", "money": "refund"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "data.parquet"
    rows = {
        "text": ["a", "b", "c"],
        "topic": [1, 0, -1],
        "topics": [[1, 2], [0], []],
        "meta": [{"topic": 2}, {"topic": 0}, {"topic": 1}],
        "answers": [
            [{"who": "ann", "topic": 1}, {"who": "bob", "topic": 2}],
            [{"who": "ann", "topic": 0}],
            [{"who": "bob", "topic": 0}],
        ],
    }
    text = Value("string")
    features = Features(
        {
            "text": text,
            "topic": TOPICS,
            "topics": List(TOPICS),
            "meta": {"topic": TOPICS},
            "answers": List({"who": text, "topic": TOPICS}),
        }
    )
    Dataset.from_dict(rows, features=features).to_parquet(path)
    return path


def labels(path: Path, **settings: object) -> list[list[str] | None]:
    mapping = Mapping.model_validate({"text": "text", "labels": {"values": VALUES, **settings}})
    records = convert(read_rows(path), with_classes(mapping, path), TAXONOMY, "data.parquet").records
    return [record.labels for record in records]


def test_classes_are_found_in_columns_lists_and_objects(path: Path) -> None:
    names = TOPICS.names
    assert class_names(path) == {"topic": names, "topics": names, "meta.topic": names, "answers.topic": names}


def test_their_numbers_are_read_as_names(path: Path) -> None:
    assert labels(path, column="topic", form="text") == [["late_delivery"], [], None]
    assert labels(path, column="topics") == [["late_delivery", "refund"], [], []]
    assert labels(path, column="meta.topic", form="text") == [["refund"], [], ["late_delivery"]]
    assert labels(path, column="topics[0]", form="text") == [["late_delivery"], [], None]


def test_they_are_read_inside_the_answers_of_several_people(path: Path) -> None:
    mapping = Mapping.model_validate(
        {
            "text": "text",
            "labels": {"column": "topic", "form": "text", "values": VALUES},
            "annotators": {"items": "answers[*]", "column": "who"},
        }
    )
    result = convert(read_rows(path), with_classes(mapping, path), TAXONOMY, "data.parquet")
    assert [(answer.person, answer.labels) for answer in result.answers] == [
        ("ann", ["late_delivery"]),
        ("bob", ["refund"]),
        ("ann", []),
        ("bob", []),
    ]


def test_classes_of_the_mapping_take_precedence(path: Path) -> None:
    assert labels(path, column="topic", form="text", classes=["late", "money"]) == [["refund"], ["late_delivery"], None]


def test_other_files_have_no_classes(tmp_path: Path) -> None:
    plain, broken = tmp_path / "plain.parquet", tmp_path / "broken.parquet"
    pl.DataFrame({"text": ["a"]}).write_parquet(plain)
    broken.write_bytes(b"PAR1")
    assert class_names(plain) == class_names(broken) == class_names(tmp_path / "gone.parquet") == {}

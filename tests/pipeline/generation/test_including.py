"""Records of the user's own beside the written ones."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from marginalia.pipeline.generation.included_records import with_included
from marginalia.schemas.errors import InputError
from marginalia.schemas.tables import PromptRecord
from marginalia.schemas.taxonomy import load_taxonomy

TAXONOMY = load_taxonomy("support-tickets")
WRITTEN = PromptRecord.frame(
    [
        {
            "id": "0001-aaaa",
            "messages": [{"role": "user", "content": "Where is it?"}],
            "intended_labels": [TAXONOMY.ids[0]],
            "slot_id": "slot-0001",
            "generator": "model",
            "created_at": datetime(2026, 1, 1, tzinfo=UTC),
            "attributes": [{"name": "tone", "value": "polite"}],
        }
    ]
)


def included(tmp_path: Path, *rows: dict) -> Path:
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_included_records_follow_and_have_their_source(tmp_path: Path) -> None:
    path = included(tmp_path, {"id": "own-1", "text": "Thanks!", "labels": []})
    frame = pl.concat(with_included([WRITTEN], path, TAXONOMY))
    assert frame["id"].to_list() == ["0001-aaaa", "own-1"]
    assert frame["intended_labels"].to_list() == [[TAXONOMY.ids[0]], []]
    assert frame["slot_id"].to_list() == ["slot-0001", None]
    assert frame["attributes"].to_list() == [
        [{"name": "tone", "value": "polite"}, {"name": "source", "value": "generated"}],
        [{"name": "source", "value": "included"}],
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "a", "text": "x"}, "record 'a' has no labels (add the labels that you think apply, [] for none)"),
        (
            {"id": "a", "text": "x", "labels": ["refunds"]},
            "record 'a': unknown label 'refunds'; did you mean 'refund'?",
        ),
        ({"id": "0001-aaaa", "text": "x", "labels": []}, "record '0001-aaaa': a generated record has the same id"),
    ],
)
def test_flaws_are_refused_with_the_record(tmp_path: Path, row: dict, message: str) -> None:
    path = included(tmp_path, row)
    with pytest.raises(InputError) as caught:
        list(with_included([WRITTEN], path, TAXONOMY))
    assert str(caught.value).startswith(f"{path}: {message}")

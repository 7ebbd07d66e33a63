"""Whatever is written is read back unchanged, and a journal that was cut anywhere gives complete entries."""

from __future__ import annotations

import json
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from marginalia.schemas import tables
from marginalia.schemas.source_rows import read_rows
from marginalia.schemas.storage.files import read_frame, read_json, write_frame, write_json, write_jsonl
from marginalia.schemas.storage.journal import Journal, read_journal
from marginalia.schemas.storage.large_tables import write_frames
from marginalia.schemas.table_row import Row
from marginalia.schemas.tables import PlannedSlot

MODELS = [model for model in vars(tables).values() if isinstance(model, type) and issubclass(model, Row) and model.key]
# every character of UTF-8, among them Unicode line separators, NUL and reordering characters
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["", "a\u2028b", "\x85", "\r\n", "\0", "\u202e", "𝔘𝔫𝔦", "= 1 + 1", '"', "\\ud800"]
)
MOMENTS = st.integers(0, 4 * 10**9).map(lambda second: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=second))
SCALARS = {
    str: TEXTS,
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    datetime: MOMENTS,
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
ENTRIES = st.lists(st.dictionaries(TEXTS.filter(lambda key: key != "crc"), JSON, max_size=3), max_size=5)


def values(annotation: Any) -> st.SearchStrategy[Any]:
    """Values for a column with this annotation."""
    if annotation in SCALARS:
        return SCALARS[annotation]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return st.fixed_dictionaries(
            {name: values(field.annotation) for name, field in annotation.model_fields.items()}
        )
    inner = [part for part in get_args(annotation) if part is not type(None)]
    if isinstance(inner[0], str):
        return st.sampled_from(inner)
    if type(None) in get_args(annotation):
        return st.none() | values(inner[0])
    return st.lists(values(inner[0]), max_size=3)


@st.composite
def frames(draw: st.DrawFn, model: type[Row]) -> pl.DataFrame:
    row = st.fixed_dictionaries({name: values(field.annotation) for name, field in model.model_fields.items()})
    rows = draw(st.lists(row, max_size=4, unique_by=lambda row: tuple(row[name] for name in model.key)))
    return model.frame(rows)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
@settings(max_examples=max(1, settings().max_examples // 5))  # per model, of which there are many
@given(draw=st.data())
def test_every_table(model: type[Row], draw: st.DataObject) -> None:
    frame = draw.draw(frames(model))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.parquet"
        write_frame(path, frame, model)
        assert read_frame(path, model, made_by="x").equals(frame)
        parts = [frame[:1], frame[1:1], frame[1:]]
        assert write_frames(path, parts, model) == frame.height
        assert read_frame(path, model, made_by="x").equals(frame)


@given(
    attributes=st.dictionaries(st.sampled_from(["form", "tone", "höhe"]), TEXTS, max_size=3), frame=frames(PlannedSlot)
)
def test_a_plan_with_attributes_of_its_own(attributes: dict[str, str], frame: pl.DataFrame) -> None:
    wider = frame.with_columns(pl.lit(value).alias(name) for name, value in attributes.items())
    with tempfile.TemporaryDirectory() as folder:
        write_frame(Path(folder) / "x.parquet", wider, PlannedSlot)
        assert read_frame(Path(folder) / "x.parquet", PlannedSlot, made_by="x").equals(wider)


@given(value=JSON, entries=ENTRIES)
def test_json_and_jsonl(value: Any, entries: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / "x.json", value)
        assert read_json(Path(folder) / "x.json") == value
        write_jsonl(Path(folder) / "x.jsonl", entries)
        assert [row for _, row in read_rows(Path(folder) / "x.jsonl")] == entries


@given(
    entries=ENTRIES,
    share=st.floats(0, 1),
    more=st.dictionaries(TEXTS.filter(lambda key: key != "crc"), JSON, max_size=2),
)
@example(entries=[{}, {"a": "\u2028"}], share=1.0, more={})
@example(entries=[{}], share=0.5, more={})
def test_a_journal_cut_anywhere(entries: list[dict[str, Any]], share: float, more: dict[str, Any]) -> None:
    """Exactly the complete lines before the cut are read, and an appended entry follows them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "j.jsonl"
        with Journal(path) as journal:
            journal.extend(entries)
        data = path.read_bytes()
        cut = round(share * len(data))
        path.write_bytes(data[:cut])
        complete = data[:cut].count(b"\n")
        assert list(read_journal(path)) == entries[:complete]
        with Journal(path) as journal:
            assert journal.torn_bytes == cut - (data.rfind(b"\n", 0, cut) + 1)
            journal.append(more)
        assert list(read_journal(path)) == [*entries[:complete], more]


@given(entries=ENTRIES.filter(bool), position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_in_a_journal_never_changes_an_entry(
    entries: list[dict[str, Any]], position: float, bit: int
) -> None:
    """The journal is refused, or (if a newline was hit) entries are missing at the end; an entry never changes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "j.jsonl"
        with Journal(path) as journal:
            journal.extend(entries)
        data = bytearray(path.read_bytes())
        data[int(position * len(data))] ^= 1 << bit
        path.write_bytes(data)
        read = []
        try:
            for entry in read_journal(path):
                read.append(entry)
        except ValueError as error:
            raise AssertionError from error
        except Exception as error:
            assert "damaged: " in str(error)
        assert json.dumps(read) == json.dumps(entries[: len(read)])

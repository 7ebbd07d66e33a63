"""Every Arrow type of text and lists is read as the same plain values; duplicate keys in JSON are refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from marginalia.schemas.errors import InputError
from marginalia.schemas.source_rows import read_rows

MESSAGES = [{"role": "user", "content": "where is it"}, {"role": "assistant", "content": "on its way"}]
DICTIONARY = pa.dictionary(pa.int8(), pa.string())


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [row for _, row in read_rows(path)]


def written(path: Path, **columns: pa.Array) -> list[dict[str, Any]]:
    pq.write_table(pa.table(columns), path)
    return rows_of(path)


@pytest.mark.parametrize(
    "dtype", [pa.string(), pa.large_string(), pa.string_view(), DICTIONARY], ids=lambda dtype: str(dtype)
)
def test_every_type_of_text(tmp_path: Path, dtype: pa.DataType) -> None:
    assert written(tmp_path / "r.parquet", text=pa.array(["a", None, "b"]).cast(dtype)) == [
        {"text": "a"},
        {"text": None},
        {"text": "b"},
    ]


@pytest.mark.parametrize("element", [pa.string(), pa.large_string(), pa.string_view(), DICTIONARY], ids=str)
@pytest.mark.parametrize(
    "list_type", [pa.list_, pa.large_list, pa.list_view, pa.large_list_view], ids=lambda list_type: list_type.__name__
)
def test_every_type_of_list(tmp_path: Path, list_type: Any, element: pa.DataType) -> None:
    labels = [["a", "b"], [], None]
    assert written(tmp_path / "r.parquet", labels=pa.array(labels, list_type(element))) == [
        {"labels": value} for value in labels
    ]


def test_fixed_size_lists_and_maps(tmp_path: Path) -> None:
    rows = written(
        tmp_path / "r.parquet",
        labels=pa.array([["a", "b"]], pa.list_(pa.string(), 2)),
        flags=pa.array([[("a", True), ("b", None)]], pa.map_(pa.string(), pa.bool_())),
    )
    assert rows == [{"labels": ["a", "b"], "flags": {"a": True, "b": None}}]


@pytest.mark.parametrize("role", [pl.Categorical(), pl.Enum(["user", "assistant"])], ids=str)
def test_categories_of_polars_inside_messages(tmp_path: Path, role: pl.DataType) -> None:
    dtype = pl.List(pl.Struct({"role": role, "content": pl.String}))
    pl.DataFrame({"messages": [MESSAGES]}, schema={"messages": dtype}).write_parquet(tmp_path / "r.parquet")
    assert rows_of(tmp_path / "r.parquet") == [{"messages": MESSAGES}]


def test_json_that_datasets_stores_in_parquet_is_parsed(tmp_path: Path) -> None:
    """`datasets` gives a column of mixed values the type Json: as text, "hi" would be four characters."""
    import datasets

    rows = [
        {"messages": [{"role": "user", "content": "hi"}, {"role": "user", "content": [{"type": "text", "text": "ho"}]}]}
    ]
    source = tmp_path / "r.jsonl"
    source.write_text(json.dumps(rows[0]) + "\n", encoding="utf-8")
    data = datasets.load_dataset("json", data_files=str(source), split="train", cache_dir=str(tmp_path / "cache"))
    data.to_parquet(tmp_path / "r.parquet")
    content = pq.read_schema(tmp_path / "r.parquet").field("messages").type.value_type.field("content").type
    assert isinstance(content, pa.JsonType)
    assert rows_of(tmp_path / "r.parquet") == rows


def test_nan_is_null_at_any_depth(tmp_path: Path) -> None:
    nan = math.nan
    rows = written(
        tmp_path / "r.parquet",
        a=pa.array([1.5, nan]),
        b=pa.array([[1.5, nan], None]),
        c=pa.array([{"x": nan, "y": "z"}, None]),
        d=pa.array([[("k", nan)], None], pa.map_(pa.string(), pa.float32())),
    )
    assert rows == [
        {"a": 1.5, "b": [1.5, None], "c": {"x": None, "y": "z"}, "d": {"k": None}},
        {"a": None, "b": None, "c": None, "d": None},
    ]
    (tmp_path / "r.jsonl").write_text('{"a": NaN, "b": [NaN, {"c": NaN}]}\n', encoding="utf-8")
    assert rows_of(tmp_path / "r.jsonl") == [{"a": None, "b": [None, {"c": None}]}]


@pytest.mark.parametrize(
    ("line", "key"), [('{"id": 1, "text": "a", "id": 2}', "id"), ('{"messages": [{"role": "a", "role": "b"}]}', "role")]
)
def test_a_duplicate_key_is_refused(tmp_path: Path, line: str, key: str) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"id": 0}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=f"line 2: duplicate key '{key}'"):
        rows_of(path)


def test_a_file_is_read_batch_by_batch_with_the_number_of_each_row(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": list(range(2500))}), tmp_path / "r.parquet", row_group_size=700)
    assert [(position, row["n"]) for position, row in read_rows(tmp_path / "r.parquet")] == [
        (f"row {number}", number) for number in range(2500)
    ]

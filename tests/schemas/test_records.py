"""Records that users provide: everything wrong is an error with file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import polars as pl
import pytest

from marginalia.schemas.errors import InputError
from marginalia.schemas.input_records import RECORD_SCHEMA, read_records, read_records_to_score


def write(tmp_path: Path, *rows: Any, name: str = "r.jsonl") -> Path:
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def error_of(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_records(path)
    assert caught.value.exit_code == 2
    assert caught.value.hint or path.is_dir()  # the whole message: tests/bad_input
    return caught.value.message.removeprefix(f"{path}: ")


def row(**changes: Any) -> dict[str, Any]:
    return {"id": "a", "text": "hello", **changes}


def test_text_is_one_user_message_and_labels_may_be_absent_null_or_empty(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    path = write(
        tmp_path,
        row(),
        row(id="b", labels=[]),
        {"id": 3, "messages": messages, "labels": ["x"]},
        row(id="d", labels=None),
    )
    records = read_records(path)
    assert records.schema == RECORD_SCHEMA
    assert records.drop("judged").rows() == [
        ("a", [{"role": "user", "content": "hello"}], None),
        ("b", [{"role": "user", "content": "hello"}], []),
        ("3", messages, ["x"]),
        ("d", [{"role": "user", "content": "hello"}], None),
    ]


def test_lines_end_at_newlines_only(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    text = "a\u2028b\u2029c\x85d"
    path.write_text(json.dumps(row(text=text), ensure_ascii=False) + "\r\n\n", encoding="utf-8")
    assert read_records(path)["messages"].to_list() == [[{"role": "user", "content": text}]]


@pytest.mark.parametrize("name", ["r.jsonl", "r.json", "r.csv"])
def test_a_byte_order_mark_is_accepted(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    text = "id,text\na,hello\n" if name == "r.csv" else json.dumps(row()) + "\n"
    path.write_text(text, encoding="utf-8-sig")
    assert read_records(path)["id"].to_list() == ["a"]


def test_blank_labels_are_null_and_a_list_written_as_text_is_a_list(tmp_path: Path) -> None:
    cells = [None, "", " ", [""], [None], [], '["x", "y"]', "[]"]
    path = write(tmp_path, *(row(id=str(number), labels=cell) for number, cell in enumerate(cells)))
    assert read_records(path)["labels"].to_list() == [None] * 5 + [[], ["x", "y"], []]
    path.write_text('{"id": "a", "text": "x", "labels": NaN}\n', encoding="utf-8")
    assert read_records(path)["labels"].to_list() == [None]


def test_judged_labels_are_read_and_scoring_does_not_need_them(tmp_path: Path) -> None:
    path = write(tmp_path, row(labels=["x"], judged=["x", "y"]), row(id="b", labels=[], judged=None), row(id="c"))
    assert read_records(path)["judged"].to_list() == [["x", "y"], None, None]
    write(tmp_path, row(labels=["x"], judged=["y"]))
    with pytest.raises(InputError, match="record 'a' has the label 'x', which 'judged' leaves out"):
        read_records(path)
    write(tmp_path, row(labels=["x"], judged=True))
    with pytest.raises(InputError, match="'judged' must be a list of strings, saw 'True'"):
        read_records(path)
    assert list(read_records_to_score(path).usable) == [("a", [{"role": "user", "content": row()["text"]}])]


def test_nulls_that_datasets_writes_into_parquet_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    nulls = {"name": None, "tool_calls": None}
    question, answer = {"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}
    datasets.Dataset.from_list(
        [
            {"id": "a", "messages": [{**question, **nulls}], "labels": ["x"]},
            {"id": "b", "messages": [{**question, **nulls}, {**answer, **nulls}], "labels": None},
        ]
    ).to_parquet(path)
    assert read_records(path).rows() == [("a", [question], ["x"], None), ("b", [question, answer], None, None)]


def test_parquet_is_read(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    pl.DataFrame({"id": ["a", "b"], "text": ["one", "two"], "labels": [["x"], []]}).write_parquet(path)
    assert read_records(path)["labels"].to_list() == [["x"], []]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "contains no records"),
        ([row(), row(text="again")], "line 2: duplicate id 'a', first in line 1"),
        ([{"text": "x"}], "line 1: no column 'id'; it has text"),
        ([row(id="")], "line 1: 'id' must be a non-empty string, saw ''"),
        ([row(id=True)], "line 1: 'id' must be a non-empty string, saw True"),
        ([{"id": "a", "txt": "x"}], "line 1: record 'a': neither 'messages' nor 'text'; it has id, txt"),
        ([row(text=" \n")], "line 1: record 'a': the user message has no text"),
        ([row(text=None)], "line 1: record 'a': the user message has no text"),
        ([row(text=5)], "line 1: record 'a': the user message has no text"),
        ([row(messages=[])], "line 1: record 'a': 'messages' must be a non-empty list of {role, content}"),
        ([row(messages="x")], "line 1: record 'a': 'messages' must be a non-empty list of {role, content}"),
        ([row(messages=[{"role": "user"}])],
         "line 1: record 'a': a message must be {role, content}, saw \"{'role': 'user'}\""),
        ([row(messages=[{"role": "tool", "content": "x"}])],
         "line 1: record 'a': role 'tool'; expected one of system, user, assistant"),
        ([row(labels="x")], "line 1: record 'a': 'labels' must be a list of strings, saw 'x'"),
        ([row(labels=["a", None])], "line 1: record 'a': 'labels' must be a list of strings, saw \"['a', None]\""),
        ([row(labels=[1])], "line 1: record 'a': 'labels' must be a list of strings, saw '[1]'"),
        ([row(), row(id="b", text="a\0b")], "line 2: record 'b': a NUL character at position 1"),
        ([row(text="a\ud800b")], "line 1: record 'a': a lone surrogate U+D800 at position 1"),
        ([row(text="ab\u202ec")], "line 1: record 'a': the reordering character U+202E at position 2"),
        ([row(text="x" * 10_000_000)], "line 1: record 'a': text of 10,000,000 characters; the limit is 1,000,000"),
        ([row(id="a\udfff")], "line 1: id: a lone surrogate U+DFFF at position 1"),
        ([row(labels=["a\0"])], "line 1: record 'a': labels: a NUL character at position 1"),
        ([[1, 2]], "line 1: expected a JSON object, saw list"),
    ],
)  # fmt: skip
def test_every_invalid_row_is_reported(tmp_path: Path, rows: list[Any], message: str) -> None:
    assert error_of(write(tmp_path, *rows)) == message


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "contains no records"),
        (b"\n\n", "contains no records"),
        (b'{"id": "a", "text": "x"}\n{"id": "b", "text": "\xff"}\n', "line 2: byte 21 is not UTF-8"),
        (
            b'{"id": "a", "text": "x"}\n{"id": \n',
            "line 2: not a JSON object: Expecting value: line 2 column 1 (char 8)",
        ),
        (b'{"id": "a"', "line 1: not a JSON object: Expecting ',' delimiter: line 1 column 11 (char 10)"),
        (b"id,text\na,hello\n", "line 1: not a JSON object: Expecting value: line 1 column 1 (char 0)"),
        (b"[" * 100_000, "line 1: not a JSON object: "),
    ],
)
def test_every_invalid_line_is_reported(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(data)
    assert error_of(path).startswith(message)


def test_a_path_that_is_not_a_file_of_records_is_reported(tmp_path: Path) -> None:
    assert error_of(tmp_path / "no.jsonl") == "no such file"
    assert error_of(tmp_path) == "is a folder"
    assert error_of(write(tmp_path, row(), name="r.txt")) == "unknown format '.txt'"
    assert error_of(write(tmp_path, row(), name="r.parquet")).startswith("not a readable Parquet file: ")


def test_an_error_in_parquet_names_the_row(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    pl.DataFrame({"id": ["a", "b"], "text": ["one", None]}).write_parquet(path)
    assert error_of(path) == "row 1: record 'b': the user message has no text"

"""JSON lists, compressed files, several files, and what is refused with file and line."""

from __future__ import annotations

import bz2
import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from marginalia.schemas.errors import InputError
from marginalia.schemas.input_records import read_records
from marginalia.schemas.source_rows import SourceFiles, files_of, read_rows
from marginalia.schemas.sources import csv_rows, json_lists, text_lines
from marginalia.schemas.sources.file_format import FileFormat

ROWS = [{"id": "1", "text": "a, ä"}, {"id": "2", "text": "b\nc"}]
CSV = 'id,text\n1,"a, ä"\n2,"b\nc"\n'
PACKED = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
}


def rows_of(path: Path, how: FileFormat | None = None) -> list[dict[str, Any]]:
    return [row for _, row in read_rows(path, how)]


def written(path: Path, data: str | bytes) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def error_of(path: Path, how: FileFormat | None = None) -> str:
    with pytest.raises(InputError) as caught:
        rows_of(path, how)
    return str(caught.value).removeprefix(f"{path}: ")


def jsonl(rows: list[dict[str, str]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("packing", ["", *PACKED])
@pytest.mark.parametrize("format_name", ["csv", "tsv", "json", "jsonl", "parquet"])
def test_every_format_also_compressed(tmp_path: Path, format_name: str, packing: str) -> None:
    plain = tmp_path / f"r.{format_name}"
    if format_name == "parquet":
        pl.DataFrame(ROWS).write_parquet(plain)
    else:
        text = {"csv": CSV, "tsv": CSV.replace("d,t", "d\tt").replace('1,"', '1\t"').replace('2,"', '2\t"')}
        plain.write_text(text.get(format_name) or (json.dumps(ROWS) if format_name == "json" else jsonl(ROWS)))
    path = plain
    if packing:
        path = written(tmp_path / f"r.{format_name}.{packing}", PACKED[packing](plain.read_bytes()))
    assert rows_of(path) == ROWS
    files = SourceFiles([path])
    assert len(list(files)) == 2
    assert (files.facts[0].rows, files.facts[0].columns) == (2, ["id", "text"])


@pytest.mark.parametrize("packing", PACKED)
def test_a_damaged_compressed_file_is_refused(tmp_path: Path, packing: str) -> None:
    data = PACKED[packing](CSV.encode() * 20_000)
    assert "not a readable " in error_of(written(tmp_path / f"r.csv.{packing}", data[: len(data) // 2]))
    assert "not a readable " in error_of(written(tmp_path / f"s.csv.{packing}", CSV))
    assert "is compressed with " in error_of(written(tmp_path / "r.csv", data))


LISTS: dict[str, tuple[str, str | None]] = {
    "a list": (json.dumps(ROWS), ""),
    "an indented list": ("\n \n" + json.dumps(ROWS, indent=2) + "\n\n", ""),
    "a list after a byte order mark": ("\ufeff" + json.dumps(ROWS), ""),
    "a list in an object": (json.dumps({"version": 1.25, "data": ROWS, "tags": ["a"], "note": {"x": [1, 2]}}), "data"),
    "a list deep in objects": (json.dumps({"a": {"n": 12, "b": {"items": ROWS}}, "z": None}, indent=1), "a.b.items"),
    "lines": (jsonl(ROWS), None),
    "one object": (json.dumps(ROWS[0]) + "\n", None),
}


@pytest.mark.parametrize("shape", LISTS)
def test_where_the_rows_of_json_are(tmp_path: Path, shape: str) -> None:
    data, records = LISTS[shape]
    path = written(tmp_path / "r.json", data)
    files = SourceFiles([path])
    assert [row for _, row in files] == (ROWS[:1] if shape == "one object" else ROWS)
    assert files.facts[0].records == records


def test_one_conversation_is_one_row_and_not_a_list_of_rows(tmp_path: Path) -> None:
    row = {"id": "a", "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}
    assert rows_of(written(tmp_path / "r.json", json.dumps(row))) == [row]


def test_a_choice_of_lists_is_left_to_the_user(tmp_path: Path) -> None:
    path = written(tmp_path / "r.json", json.dumps({"schema": {"fields": [{"name": "id"}]}, "data": ROWS}))
    assert error_of(path) == (
        "has several lists of objects: schema.fields, data (state one in the mapping: files: {records: schema.fields})"
    )
    assert rows_of(path, FileFormat(records="data")) == ROWS
    assert "has no list 'rows'" in error_of(path, FileFormat(records="rows"))


def test_the_values_of_an_object_can_be_the_rows(tmp_path: Path) -> None:
    posts = {f"p{at}": {"text": f"t{at}", "answers": [{"label": "a"}]} for at in range(10)}
    path = written(tmp_path / "r.json", json.dumps(posts, indent=1))
    expected = [{"(key)": key, **row} for key, row in posts.items()]
    files = SourceFiles([path])
    assert [row for _, row in files] == expected
    assert "JSON, each value is a row, 10 rows, columns (key), text, answers" in str(files.facts[0])
    assert [position for position, _ in read_rows(path)][:2] == ["'p0' (line 2)", "'p1' (line 10)"]
    inside = written(tmp_path / "i.json", json.dumps({"version": 1, "posts": posts}))
    assert rows_of(inside, FileFormat(records="posts.*")) == expected


def test_a_file_of_pandas_that_is_stored_by_column_is_refused(tmp_path: Path) -> None:
    columns = {name: {str(at): f"{name} {at}" for at in range(3)} for name in ("text", "label")}
    assert error_of(written(tmp_path / "r.json", json.dumps(columns))) == (
        "is stored by column, with 3 rows in each (write one object per row; in pandas: to_json(orient='records'))"
    )


def test_few_values_could_be_the_parts_of_a_data_set(tmp_path: Path) -> None:
    parts = {f"part{at}": {"name": "x", "rows": ROWS} for at in range(9)}
    path = written(tmp_path / "r.json", json.dumps(parts))
    assert error_of(path) == (
        "has several lists of objects: part0.rows, part1.rows, part2.rows, part3.rows, part4.rows and 4 more "
        "(state one in the mapping: files: {records: part0.rows}; "
        'if the rows are the values of the object: files: {records: "*"})'
    )
    assert rows_of(path, FileFormat(records="*")) == [{"(key)": key, **row} for key, row in parts.items()]
    wrong = written(tmp_path / "w.json", '{"a": {"text": "x"},\n"b": [1]}')
    assert error_of(wrong, FileFormat(records="*")).startswith("line 2: 'b': expected a JSON object, saw list")


def test_a_json_list_is_read_in_pieces_with_item_and_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lists, "_CHUNK", 7)
    rows = [{"id": number, "text": 'ä\\"' * (number % 50), "n": -1.5e3} for number in range(200)]
    path = written(tmp_path / "r.json", json.dumps({"n": 12345, "rows": rows}, ensure_ascii=False, indent=1))
    found = list(read_rows(path))
    assert [row for _, row in found] == rows
    assert [position for position, _ in found[:2]] == ["item 0 (line 4)", "item 1 (line 9)"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ('[{"a": 1},\n{"a": 2]', "line 2: not JSON: Expecting ',' delimiter"),
        ('[{"a": 1},\n{"a": "2', "line 2: not JSON: Unterminated string"),
        ('[{"a": 1},\n', "line 2: not JSON: Expecting value"),
        ('[{"a": 1}\n{"a": 2}]', "line 2: expected ',', saw '{'"),
        ('[{"a": 1},\n 5]', "line 2: item 1: expected a JSON object, saw int"),
        ('[{"a": 1, "a": 2}]', "line 1: duplicate key 'a'"),
        ('{"a": 1,\n "a": [{"b": 1}]}', "line 2: duplicate key 'a'"),
        ('{"a": [1, 2],\n "b": 3}', "has no list of objects"),
        ('[{"a": 1}]\n[]', "line 2: more than one JSON value"),
        ("[" * 100_000, "line 1: not JSON: maximum recursion depth exceeded"),
        (b'[{"a": "\xff"}]', "line 1: byte 0xFF is not UTF-8, in or after this line"),
        ("", "has no list of objects"),
    ],
)
def test_what_is_wrong_with_a_json_list(tmp_path: Path, data: str | bytes, message: str) -> None:
    assert error_of(written(tmp_path / "r.json", data)).startswith(message)


RAGGED = "(quote cells that contain the delimiter; or state delimiter and quote under files in the mapping)"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("id,text\n1,a\n2,b,c\n", f"line 3: has 3 cells; the header has 2 {RAGGED}"),
        ('id,text\n1,"a\nb"\n2\n', f"line 4: has 1 cell; the header has 2 {RAGGED}"),
        ('id,text\n1,a\n2,"b\n3,c\n', "line 3: not valid CSV: a quote that opens here is never closed"),
        ("id,text,text,id\n1,a,b,2\n", "line 1: several columns are named 'id', 'text'"),
        ("id,text\n1,a\0b\n", "line 2: a NUL character at position 3"),
        (b"id,text\n1,a\n2,Gr\xfc\xdfe\n", "line 3: byte 0xFC is not UTF-8; in Windows-1252 it is 'ü'"),
        ("id,text\n1,ä\n".encode("utf-16-le"), "line 1: a NUL character at position 1 (if the file is UTF-16"),
        (b"\xff\xfei\x00d\x00,\x00t\x00\n\x00\x00\xd8\n\x00", "line 1: is not valid utf-16"),
        (",".join(f"c{at}" for at in range(10_001)) + "\n", "line 1: has 10,001 columns; the limit is 10,000"),
        (b"PK\x03\x04rest", "is a ZIP archive or a spreadsheet"),
        (b"PAR1rest", "is a Parquet file: its name should end in .parquet"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_csv(tmp_path: Path, data: str | bytes, message: str) -> None:
    assert error_of(written(tmp_path / "r.csv", data)).startswith(message)


def test_an_encoding_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "r.csv", b"id,text\n1,\x81\n")
    assert error_of(path, FileFormat(encoding="cp1252")).startswith("line 2: byte 0x81 is not CP1252")


def test_a_row_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_lines, "MOST_ROW_CHARACTERS", 1000)
    monkeypatch.setattr(csv_rows, "SAMPLE_CHARACTERS", 100)
    rows = "".join(f'{number},"{"ab" * 200}\n{"cd" * 200}"\n' for number in range(20))
    assert len(rows_of(written(tmp_path / "r.csv", "id,text\n" + rows))) == 20
    message = "the row that begins here has more than 1,000 characters (is a quote never closed?)"
    assert error_of(written(tmp_path / "s.csv", "id,text\n1,a\n2," + "x" * 1200)) == f"line 3: {message}"
    assert error_of(written(tmp_path / "t.csv", "id,text\n1,a\n" + '2,"b\n' + "x\n" * 900)) == f"line 3: {message}"


def test_names_that_are_no_format(tmp_path: Path) -> None:
    assert error_of(written(tmp_path / "r.xlsx", b"PK\x03\x04")) == (
        "is a spreadsheet (save its sheet as CSV UTF-8, and import that)"
    )
    assert error_of(written(tmp_path / "r.txt", CSV)).startswith("unknown format '.txt' (expected .csv, .tsv, .json")
    assert rows_of(tmp_path / "r.txt", FileFormat(format="csv")) == ROWS


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"columns": ["a"]}, "columns needs header: false"),
        ({"columns": ["a", "a"], "header": False}, "columns has a name twice"),
        ({"delimiter": '"', "quote": '"'}, "must be different characters"),
        ({"format": "jsonl", "delimiter": ";"}, "delimiter needs the format csv or tsv"),
        ({"format": "csv", "records": "a"}, "records needs the format json"),
        ({"encoding": "rot13"}, "Input should be 'utf-8'"),
    ],
)
def test_what_cannot_be_stated(stated: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FileFormat.model_validate(stated)


def test_what_is_stated_for_another_format_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "r.jsonl", jsonl(ROWS))
    problem = "encoding needs the format csv or tsv; the format is jsonl (correct files in the mapping)"
    assert error_of(path, FileFormat(encoding="cp1252")) == problem
    assert "records needs the format json" in error_of(written(tmp_path / "r.csv", CSV), FileFormat(records="a"))


def test_several_files_name_the_file_in_each_position(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    one = written(tmp_path / "a.csv", CSV)
    two = written(tmp_path / "b" / "c.jsonl", jsonl(ROWS))
    files = SourceFiles([one, two])
    positions = [position for position, _ in files]
    assert positions == ["a.csv: line 2", "a.csv: line 3", "b/c.jsonl: line 1", "b/c.jsonl: line 2"]
    assert files.name == str(tmp_path)
    assert [(facts.format, facts.rows) for facts in files.facts] == [("csv", 2), ("jsonl", 2)]
    two.write_text("{")
    with pytest.raises(InputError, match=r"b/c\.jsonl: line 1: not a JSON object"):
        list(files)


def test_a_pattern_names_its_files_in_order(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "c.txt", "odd[1].csv"):
        written(tmp_path / name, CSV)
    assert files_of("*.csv", tmp_path) == [tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "odd[1].csv"]
    assert files_of(str(tmp_path / "[ab].csv"), Path()) == [tmp_path / "a.csv", tmp_path / "b.csv"]
    assert files_of("odd[1].csv", tmp_path) == [tmp_path / "odd[1].csv"]
    assert files_of("gone.csv", tmp_path) == [tmp_path / "gone.csv"]
    assert files_of("*.json", tmp_path) == [tmp_path / "*.json"]


def test_csv_is_scored_and_included_like_jsonl(tmp_path: Path) -> None:
    path = written(tmp_path / "r.csv", 'id,text,labels\n1,"a, ä","[""late""]"\n2,b,\n3,c,[]\n')
    frame = read_records(path)
    assert frame["id"].to_list() == ["1", "2", "3"]
    assert frame["labels"].to_list() == [["late"], None, []]
    assert frame["messages"].to_list()[0] == [{"role": "user", "content": "a, ä"}]

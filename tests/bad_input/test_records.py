"""Records that no command may take, in JSONL and Parquet: whole messages."""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.bad_input.table import GOOD, Row, check, jsonl, names

LONG = "x" * 10_000_000
OTHER = {**GOOD, "id": "b"}


def parquet(**changes: object) -> pl.DataFrame:
    return pl.DataFrame([{**GOOD, **changes}])


def parquet_bytes(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


FORMATS = "expected .csv, .tsv, .json, .jsonl or .parquet, also with .gz, .zst or .bz2"
ROWS: list[Row] = [
    ("missing", {}, "scoring r.jsonl", 2, f"r.jsonl: no such file ({FORMATS})"),
    (
        "missing, import",
        {},
        "import r.jsonl --run runs/r",
        2,
        f"r.jsonl: no such file ({FORMATS}; or hub:owner/name)",
    ),
    (
        "missing, paper",
        {},
        "paper r.jsonl --taxonomy support-tickets --guard instruct --model bundled",
        2,
        f"r.jsonl: no such file ({FORMATS})",
    ),
    ("a folder", {}, "scoring runs", 2, f"runs: is a folder ({FORMATS})"),
    (
        "another format",
        {"r.txt": "id,text\n"},
        "scoring r.txt",
        2,
        f"r.txt: unknown format '.txt' ({FORMATS})",
    ),
    (
        "empty",
        {"r.jsonl": ""},
        "scoring r.jsonl",
        2,
        "r.jsonl: contains no records (each record needs id, and text or messages; marginalia import reads other "
        "columns with a mapping)",
    ),
    (
        "empty, import",
        {"r.jsonl": ""},
        "import r.jsonl --run runs/r",
        2,
        "{folder}/r.jsonl: no records to import (the file is empty)",
    ),
    (
        "wrong columns",
        {"r.jsonl": jsonl({"key": 1, "body": "x"})},
        "scoring r.jsonl",
        2,
        "r.jsonl: line 1: no column 'id'; it has body, key (each record needs id, and text or messages; marginalia "
        "import reads other columns with a mapping)",
    ),
    (
        "wrong columns, import",
        {"r.jsonl": jsonl({"id": 1, "body": "x"})},
        "import r.jsonl --run runs/r",
        2,
        "{folder}/r.jsonl: line 1: no column 'text'; it has body, id (--mapping takes a YAML file; its key text names "
        "the column)",
    ),
    (
        "no text",
        {"r.jsonl": jsonl({"id": "a", "txt": "x"})},
        "scoring r.jsonl",
        2,
        "r.jsonl: line 1: record 'a': neither 'messages' nor 'text'; it has id, txt (each record needs id, and "
        "text or messages; marginalia import reads other columns with a mapping)",
    ),
    (
        "an id that is none",
        {"r.jsonl": jsonl({**GOOD, "id": None})},
        "scoring r.jsonl",
        2,
        "r.jsonl: line 1: 'id' must be a non-empty string, saw None (each record needs id, and text or messages; "
        "marginalia import reads other columns with a mapping)",
    ),
    (
        "an id that is none, import",
        {"r.jsonl": jsonl({**GOOD, "id": 1.5})},
        "import r.jsonl --run runs/r",
        2,
        "{folder}/r.jsonl: line 1: 'id' must be a non-empty string, saw 1.5 (fix the row, or remo"
        "ve id from the mapping: then ids are made from the texts)",
    ),
    (
        "an empty text",
        {"r.jsonl": jsonl({**GOOD, "text": " "})},
        "scoring r.jsonl",
        2,
        "r.jsonl: line 1: record 'a': the user message has no text (fix the row; marginalia import leaves such "
        "rows out with unusable: skip in its mapping)",
    ),
    (
        "a list",
        {"r.jsonl": "[1]\n"},
        "scoring r.jsonl",
        2,
        "r.jsonl: line 1: expected a JSON object, saw list (one JSON object per line)",
    ),
    (
        "no JSON",
        {"r.jsonl": jsonl(GOOD) + "id,text\n"},
        "scoring r.jsonl",
        2,
        "r.jsonl: line 2: not a JSON object: Expecting value: line 1 column 1 (char 0) (expected one JSON object "
        "per line)",
    ),
    (
        "duplicate ids",
        {"r.jsonl": jsonl(GOOD, GOOD)},
        "scoring r.jsonl",
        2,
        "r.jsonl: line 2: duplicate id 'a', first in line 1 (ids must be unique; marginalia import keeps the first "
        "record with duplicates: first in its mapping)",
    ),
    (
        "duplicate ids, import",
        {"r.jsonl": jsonl(GOOD, OTHER, GOOD)},
        "import r.jsonl --run runs/r",
        2,
        "{folder}/r.jsonl: line 3: duplicate id 'a', first in line 1 (set duplicates: first in the mapping; if several "
        "people labelled each record, set annotators)",
    ),
    (
        "unknown label",
        {"r.jsonl": jsonl(GOOD, {**OTHER, "labels": ["late_delivry"]})},
        "import r.jsonl --run runs/r",
        2,
        "{folder}/r.jsonl: line 2: 'labels': unknown label 'late_delivry'; did you mean 'late_del"
        "ivery'? (map values that are not ids of the taxonomy with labels.values of a mapping)",
    ),
    (
        "a label like none",
        {"r.jsonl": jsonl({**GOOD, "labels": ["zzz"]})},
        "import r.jsonl --run runs/r",
        2,
        "{folder}/r.jsonl: line 1: 'labels': unknown label 'zzz'; the taxonomy support-tickets ha"
        "s late_delivery, damaged_or_faulty, wrong_or_missing_item, return, refund, payment_probl"
        "em, order_change, account_access, invoice, discount, product_question, service_complaint"
        " (map values that are not ids of the taxonomy with labels.values of a mapping)",
    ),
    (
        "unknown label, paper",
        {"r.jsonl": jsonl({**GOOD, "labels": ["late_delivry"]})},
        "paper r.jsonl --taxonomy support-tickets --guard instruct --model bundled",
        2,
        "r.jsonl: record 'a': unknown label 'late_delivry'; did you mean 'late_delivery'? (labels"
        " are ids of the taxonomy support-tickets; other values need --mapping)",
    ),
    (
        "none alone",
        {"r.jsonl": jsonl({**GOOD, "labels": ["none"]})},
        "import r.jsonl --run runs/r",
        2,
        "{folder}/r.jsonl: line 1: 'labels': unknown label 'none'; the taxonomy support-tickets has late_delivery, "
        "damaged_or_faulty, wrong_or_missing_item, return, refund, payment_problem, order_change, account_access, "
        "invoice, discount, product_question, service_complaint (an empty list of labels means that no category "
        "applies)",
    ),
    (
        "none with a category",
        {"r.jsonl": jsonl(GOOD, {**OTHER, "labels": ["none", "late_delivery"]})},
        "import r.jsonl --run runs/r",
        2,
        "{folder}/r.jsonl: line 2: 'labels' says that no category applies, but also names one: none, la"
        "te_delivery (fix the row: either no category applies, or these do)",
    ),
    (
        "labels of another form",
        {"r.jsonl": jsonl({**GOOD, "labels": "late_delivery"})},
        "scoring r.jsonl",
        2,
        "r.jsonl: line 1: record 'a': 'labels' must be a list of strings, saw 'late_delivery' (labels are a list "
        "of label ids, [] if no category applies)",
    ),
    (
        "labels of another form, import",
        {"r.jsonl": jsonl({**GOOD, "labels": "late_delivery"})},
        "import r.jsonl --run runs/r",
        2,
        "{folder}/r.jsonl: line 1: 'labels' is 'late_delivery', expected the form list of the mapping (label"
        "s.form of the mapping: list, text with a separator, or flags)",
    ),
    (
        "10 MB",
        {"r.jsonl": jsonl({**OTHER, "text": LONG})},
        "scoring r.jsonl",
        2,
        "r.jsonl: line 1: record 'b': text of 10,000,000 characters; the limit is 1,000,000 (fix the row; "
        "marginalia import leaves such rows out with unusable: skip in its mapping)",
    ),
    (
        "10 MB, import",
        {"r.jsonl": jsonl(GOOD, {**OTHER, "text": LONG})},
        "import r.jsonl --run runs/r",
        2,
        "{folder}/r.jsonl: line 2: text of 10,000,000 characters; the limit is 1,000,000 (fix th"
        "e row, or set unusable: skip in the mapping)",
    ),
    (
        "NUL",
        {"r.jsonl": jsonl({**GOOD, "text": "a\0b"})},
        "scoring r.jsonl",
        2,
        "r.jsonl: line 1: record 'a': a NUL character at position 1 (fix the row; marginalia import leaves such "
        "rows out with unusable: skip in its mapping)",
    ),
    (
        "NUL, import",
        {"r.jsonl": jsonl({**GOOD, "text": "a\0b"})},
        "import r.jsonl --run runs/r",
        2,
        "{folder}/r.jsonl: line 1: a NUL character at position 1 (fix the row, or set unusable: skip in the mapping)",
    ),
    (
        "a lone surrogate",
        {"r.jsonl": jsonl({**GOOD, "text": "a\ud800"})},
        "scoring r.jsonl",
        2,
        "r.jsonl: line 1: record 'a': a lone surrogate U+D800 at position 1 (fix the row; marginalia import leaves "
        "such rows out with unusable: skip in its mapping)",
    ),
    (
        "a lone surrogate, import",
        {"r.jsonl": jsonl({**GOOD, "text": "a\ud800"})},
        "import r.jsonl --run runs/r",
        2,
        "{folder}/r.jsonl: line 1: a lone surrogate U+D800 at position 1 (fix the row, or set un"
        "usable: skip in the mapping)",
    ),
    (
        "U+202E",
        {"r.jsonl": jsonl({**GOOD, "text": "abc\u202e"})},
        "scoring r.jsonl",
        2,
        "r.jsonl: line 1: record 'a': the reordering character U+202E at position 3 (fix the row; marginalia "
        "import leaves such rows out with unusable: skip in its mapping)",
    ),
    (
        "U+202E, import",
        {"r.jsonl": jsonl({**GOOD, "text": "abc\u202e"})},
        "import r.jsonl --run runs/r",
        2,
        "{folder}/r.jsonl: line 1: the reordering character U+202E at position 3 (fix the row, o"
        "r set unusable: skip in the mapping)",
    ),
    (
        "U+202E in an id",
        {"r.jsonl": jsonl({**GOOD, "id": "\u202e"})},
        "import r.jsonl --run runs/r",
        2,
        "{folder}/r.jsonl: line 1: id: the reordering character U+202E at position 0 (fix the row)",
    ),
    (
        "invalid UTF-8",
        {"r.jsonl": jsonl(GOOD).encode() + b'{"id": "\xff"}\n'},
        "scoring r.jsonl",
        2,
        "r.jsonl: line 2: byte 8 is not UTF-8 (save it as UTF-8)",
    ),
    (
        "a spreadsheet",
        {"r.xlsx": "PK"},
        "scoring r.xlsx",
        2,
        "r.xlsx: is a spreadsheet (save its sheet as CSV UTF-8, and import that)",
    ),
    (
        "CSV in another encoding",
        {"r.csv": b"id,text\n1,a\n2,\xfc\n"},
        "scoring r.csv",
        2,
        "r.csv: line 3: byte 0xFC is not UTF-8; in Windows-1252 it is 'ü' (save it as UTF-8, or state files: "
        "{encoding: cp1252} in the mapping of marginalia import)",
    ),
    (
        "CSV with a delimiter that is not quoted",
        {"r.csv": "id,text\n1,a\n2,b, c\n"},
        "scoring r.csv",
        2,
        "r.csv: line 3: has 3 cells; the header has 2 (quote cells that contain the delimiter; or state delimiter and "
        "quote under files in the mapping)",
    ),
    (
        "no Parquet",
        {"r.parquet": "PAR1"},
        "scoring r.parquet",
        2,
        "r.parquet: not a readable Parquet file: Parquet file size is 4 bytes, smaller than the mi"
        "nimum file footer (8 bytes) (write it again, or give the records as JSONL)",
    ),
    (
        "empty Parquet",
        {"r.parquet": parquet().clear()},
        "import r.parquet --run runs/r",
        2,
        "{folder}/r.parquet: no records to import (the file is empty)",
    ),
    (
        "wrong columns, Parquet",
        {"r.parquet": pl.DataFrame({"key": ["a"]})},
        "scoring r.parquet",
        2,
        "r.parquet: row 0: no column 'id'; it has key (each record needs id, and text or messages; marginalia "
        "import reads other columns with a mapping)",
    ),
    (
        "duplicate ids, Parquet",
        {"r.parquet": pl.concat([parquet(), parquet()])},
        "scoring r.parquet",
        2,
        "r.parquet: row 1: duplicate id 'a', first in row 0 (ids must be unique; marginalia import keeps the first "
        "record with duplicates: first in its mapping)",
    ),
    (
        "unknown label, Parquet",
        {"r.parquet": parquet(labels=["refnd"])},
        "import r.parquet --run runs/r",
        2,
        "{folder}/r.parquet: row 0: 'labels': unknown label 'refnd'; did you mean 'refund'? (map "
        "values that are not ids of the taxonomy with labels.values of a mapping)",
    ),
    (
        "none with a category, Parquet",
        {"r.parquet": parquet(labels=["refund", "none"])},
        "import r.parquet --run runs/r",
        2,
        "{folder}/r.parquet: row 0: 'labels' says that no category applies, but also names one: refund,"
        " none (fix the row: either no category applies, or these do)",
    ),
    (
        "10 MB, Parquet",
        {"r.parquet": parquet(text=LONG)},
        "scoring r.parquet",
        2,
        "r.parquet: row 0: record 'a': text of 10,000,000 characters; the limit is 1,000,000 (fix the row; "
        "marginalia import leaves such rows out with unusable: skip in its mapping)",
    ),
    (
        "NUL, Parquet",
        {"r.parquet": parquet(text="\0")},
        "scoring r.parquet",
        2,
        "r.parquet: row 0: record 'a': a NUL character at position 0 (fix the row; marginalia import leaves such "
        "rows out with unusable: skip in its mapping)",
    ),
    (
        "U+202E, Parquet",
        {"r.parquet": parquet(text="\u202e")},
        "scoring r.parquet",
        2,
        "r.parquet: row 0: record 'a': the reordering character U+202E at position 0 (fix the row; marginalia "
        "import leaves such rows out with unusable: skip in its mapping)",
    ),
    (
        "an id that is none, Parquet",
        {"r.parquet": parquet(id=1.5)},
        "scoring r.parquet",
        2,
        "r.parquet: row 0: 'id' must be a non-empty string, saw 1.5 (each record needs id, and text or messages; "
        "marginalia import reads other columns with a mapping)",
    ),
    (
        "a key twice",
        {"r.jsonl": jsonl(GOOD) + '{"id": "b", "text": "x", "labels": [], "labels": ["refund"]}\n'},
        "import r.jsonl --run runs/r",
        2,
        "{folder}/r.jsonl: line 2: duplicate key 'labels' (give each key once)",
    ),
    (
        "a column twice, Parquet",
        {"r.parquet": parquet_bytes(pa.Table.from_arrays([pa.array(["a"])] * 3, ["id", "text", "text"]))},
        "scoring r.parquet",
        2,
        "r.parquet: two columns are named 'text' (column names must be unique)",
    ),
    (
        "a tool call",
        {
            "r.jsonl": jsonl(
                {"id": "a", "messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": "0"}]}]}
            )
        },
        "scoring r.jsonl",
        2,
        "r.jsonl: line 1: record 'a': the assistant message has 'tool_calls'; only role and content are read (fix "
        "the row; marginalia import leaves such rows out with unusable: skip in its mapping)",
    ),
    (
        "an image",
        {
            "r.jsonl": jsonl(
                {"id": "a", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "u"}]}]}
            )
        },
        "scoring r.jsonl",
        2,
        "r.jsonl: line 1: record 'a': the user message has a part of type 'image_url'; only text parts are read "
        "(fix the row; marginalia import leaves such rows out with unusable: skip in its mapping)",
    ),
    (
        "a binary text",
        {"r.parquet": parquet(text=b"x")},
        "scoring r.parquet",
        2,
        "r.parquet: row 0: record 'a': the user message is binary, expected text (store it as UTF-8 text, in Arrow the "
        "type string)",
    ),
    (
        "a binary text, import",
        {"r.parquet": parquet(text=b"x")},
        "import r.parquet --run runs/r",
        2,
        "{folder}/r.parquet: row 0: column 'text' is binary, expected text (store it as UTF-8 text, in Arrow the type "
        "string)",
    ),
    (
        "binary labels",
        {"r.parquet": parquet(labels=[b"refund"])},
        "import r.parquet --run runs/r",
        2,
        "{folder}/r.parquet: row 0: 'labels': a label is binary, expected text (store it as UTF-8 text, in Arrow the "
        "type string)",
    ),
    (
        "a binary id",
        {"r.parquet": parquet(id=b"a")},
        "scoring r.parquet",
        2,
        "r.parquet: row 0: 'id' is binary, expected text (store it as UTF-8 text, in Arrow the type string)",
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=names(ROWS))
def test_the_whole_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: Row) -> None:
    monkeypatch.chdir(tmp_path)
    check(tmp_path, row)

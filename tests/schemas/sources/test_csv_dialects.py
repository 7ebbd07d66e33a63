"""The dialect of CSV files of many shapes is found, also when the texts are full of commas and quotes."""

from __future__ import annotations

import csv
import io
import random
from pathlib import Path

import pytest

from marginalia.schemas.errors import InputError
from marginalia.schemas.source_rows import SourceFiles
from marginalia.schemas.sources.file_format import FileFormat

Rows = list[dict[str, str]]
TEXTS = [
    "Hello, where is my parcel; it was due on 1,5 | 2\tdays?",
    'She said "no, thanks", then left',
    '"Quoted from the start" and on',
    "It's 5 o'clock, isn't it",
    "two\nlines, with; all|kinds\tof marks",
    'ends with a quote "',
    "",
    "'single' quotes, and a back\\slash",
    "= + - @",
    "ümläut, ñ, 漢字",
]
NAMES = ["id", "text", "label"]
TABLE = [[str(number), text, "late" if number % 2 else "lost"] for number, text in enumerate(TEXTS)]


def read(path: Path, how: FileFormat | None = None) -> tuple[Rows, str]:
    """The rows of the file and what was found in it."""
    files = SourceFiles([path], how)
    rows = [row for _, row in files]
    return rows, str(files.facts[0])


def written(path: Path, data: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(data.encode(encoding))
    return path


def as_rows(cells: list[list[str]], names: list[str]) -> Rows:
    return [dict(zip(names, row, strict=True)) for row in cells]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"], ids=["comma", "semicolon", "tab", "pipe"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"], ids=["unix", "windows", "mac"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL], ids=["minimal", "all"])
@pytest.mark.parametrize("quote", ['"', "'"], ids=["double", "single"])
def test_every_delimiter_quote_and_line_end(
    tmp_path: Path, delimiter: str, line_end: str, quoting: int, quote: str
) -> None:
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter, lineterminator=line_end, quoting=quoting, quotechar=quote)
    writer.writerows([NAMES, *TABLE])
    rows, _ = read(written(tmp_path / "r.csv", file.getvalue()))
    assert rows == as_rows(TABLE, NAMES)


PLAIN = [["1", "late, but friendly", "late"], ["2", "where is it", "lost"]]
SHAPES: dict[str, tuple[str, Rows, str]] = {
    "semicolons and decimal commas": (
        "id;score;text\n1;0,5;a, b\n2;1,5;c\n",
        [{"id": "1", "score": "0,5", "text": "a, b"}, {"id": "2", "score": "1,5", "text": "c"}],
        "CSV, ';' between columns, UTF-8, 2 rows, columns id, score, text",
    ),
    "the same number of commas in every row": (
        "id;text\n1;a, b\n2;c, d\n3;e, f\n",
        [{"id": "1", "text": "a, b"}, {"id": "2", "text": "c, d"}, {"id": "3", "text": "e, f"}],
        "';' between columns",
    ),
    "one column of quoted texts": ('text\n"a, b"\n"c; d"\n', [{"text": "a, b"}, {"text": "c; d"}], "column text"),
    "one column of texts that are not quoted": (
        "text\nhello, world\nyes\nno, no, no\n",
        [{"text": "hello, world"}, {"text": "yes"}, {"text": "no, no, no"}],
        "column text",
    ),
    "tabs and quotes that are not closed": (
        'id\ttext\n1\t"Hello" she said\n2\t5" of rain\n3\tsay "hi\n',
        [{"id": "1", "text": '"Hello" she said'}, {"id": "2", "text": '5" of rain'}, {"id": "3", "text": 'say "hi'}],
        "tab between columns, cells not quoted",
    ),
    "escaped quotes": (
        'id,text\n1,"he said \\"hi, you\\" and left"\n2,"a, b"\n',
        [{"id": "1", "text": 'he said "hi, you" and left'}, {"id": "2", "text": "a, b"}],
        "quotes in cells escaped with \\",
    ),
    "spaces after commas": (
        'id, text, label\n1, "a, b", late\n2, c, lost\n',
        [{"id": "1", "text": "a, b", "label": "late"}, {"id": "2", "text": "c", "label": "lost"}],
        "',' and spaces between columns",
    ),
    "the separator line of Excel": (
        "sep=;\r\nid;text\r\n1;a, b\r\n",
        [{"id": "1", "text": "a, b"}],
        "';' between columns",
    ),
    "the index of pandas": (
        ",text,label\n0,a,late\n1,b,lost\n",
        [{"column_1": "0", "text": "a", "label": "late"}, {"column_1": "1", "text": "b", "label": "lost"}],
        "columns column_1, text, label",
    ),
    "blank lines": ("\nid,text\n\n1,a\n\n\n2,b\n\n", [{"id": "1", "text": "a"}, {"id": "2", "text": "b"}], "2 rows"),
    "no line end at the end": ("id,text\n1,a\n2,b", [{"id": "1", "text": "a"}, {"id": "2", "text": "b"}], "2 rows"),
    "one row": ("id|text\n1|a, b; c\n", [{"id": "1", "text": "a, b; c"}], "'|' between columns, UTF-8, 1 row"),
    "a header only": ("id,text\n", [], "0 rows, columns id, text"),
    "an empty file": ("", [], "0 rows"),
    "blank cells": ("id,text,a,b\n1,x,,1\n2,y,0,\n", [
        {"id": "1", "text": "x", "a": "", "b": "1"}, {"id": "2", "text": "y", "a": "0", "b": ""}], "2 rows"),
    "Windows line ends inside cells": (
        'id,text\r\n1,"a\r\nb"\r\n2,c\r\n', [{"id": "1", "text": "a\r\nb"}, {"id": "2", "text": "c"}], "2 rows"),
    "Unicode line ends inside cells": ("id,text\n1,a\u2028b\x85c\n", [{"id": "1", "text": "a\u2028b\x85c"}], "1 row"),
    "leading spaces that belong to the text": (
        'id,"text, raw"\n1, a\n',
        [{"id": "1", "text, raw": " a"}],
        "',' between columns",
    ),
    "a header in quotes": ('"id","the text, raw"\n"1","a"\n', [{"id": "1", "the text, raw": "a"}], "1 row"),
    "pipes with commas and semicolons": (
        "id|text|label\n1|a, b; c|x;y\n2|d, e; f|z;w\n",
        [{"id": "1", "text": "a, b; c", "label": "x;y"}, {"id": "2", "text": "d, e; f", "label": "z;w"}],
        "'|' between columns",
    ),
    "JSON in cells": (
        'id,labels\n1,"[""late"", ""lost""]"\n2,[]\n',
        [{"id": "1", "labels": '["late", "lost"]'}, {"id": "2", "labels": "[]"}],
        "columns id, labels",
    ),
    "lists of Python in cells": (
        "id;labels\n1;['late', 'lost']\n2;[]\n",
        [{"id": "1", "labels": "['late', 'lost']"}, {"id": "2", "labels": "[]"}],
        "';' between columns",
    ),
    "flags": ("comment_text,a,b,c\n\"x, y\",0,0,1\nz,1,0,0\n", [
        {"comment_text": "x, y", "a": "0", "b": "0", "c": "1"}, {"comment_text": "z", "a": "1", "b": "0", "c": "0"}],
        "',' between columns"),
    "apostrophes": ("id,text\n1,it's\n2,'tis\n3,don't 'do' it\n", [
        {"id": "1", "text": "it's"}, {"id": "2", "text": "'tis"}, {"id": "3", "text": "don't 'do' it"}], "3 rows"),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_is_read_and_described(tmp_path: Path, shape: str) -> None:
    data, expected, description = SHAPES[shape]
    rows, found = read(written(tmp_path / "r.csv", data))
    assert rows == expected
    assert description in found


def test_no_header(tmp_path: Path) -> None:
    path = written(tmp_path / "r.tsv", "ham\tGo, until\nspam\tWin, now\n")
    how = FileFormat(header=False, columns=["label", "text"])
    assert read(path, how)[0] == [{"label": "ham", "text": "Go, until"}, {"label": "spam", "text": "Win, now"}]
    rows, found = read(path, FileFormat(header=False))
    assert rows[0] == {"column_1": "ham", "column_2": "Go, until"}
    assert "no header" in found


@pytest.mark.parametrize(
    ("encoding", "stated", "found"),
    [
        ("utf-8", None, "UTF-8,"),
        ("utf-8-sig", None, "UTF-8,"),
        ("utf-16", None, "UTF-16,"),
        ("utf-16-le", "utf-16-le", "UTF-16-LE,"),
        ("cp1252", "cp1252", "CP1252,"),
    ],
)
def test_encodings(tmp_path: Path, encoding: str, stated: str | None, found: str) -> None:
    path = written(tmp_path / "r.csv", "id;text\n1;Grüße, à bientôt …\n", encoding)
    how = FileFormat.model_validate({"encoding": stated})
    rows, facts = read(path, how)
    assert rows == [{"id": "1", "text": "Grüße, à bientôt …"}]
    assert found in facts


def test_utf16_with_big_endian_and_its_mark(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_bytes(b"\xfe\xff" + "id,text\n1,ä\n".encode("utf-16-be"))
    assert read(path)[0] == [{"id": "1", "text": "ä"}]


def test_what_is_stated_is_not_detected(tmp_path: Path) -> None:
    path = written(tmp_path / "r.csv", 'a,b;c,d\n1,"2;3,4"\n')
    assert list(read(path, FileFormat(delimiter=",", quote=""))[0][0]) == ["a", "b;c", "d"]
    assert list(read(path, FileFormat(delimiter=";", quote=""))[0][0]) == ["a,b", "c,d"]
    with pytest.raises(InputError, match="line 2: has 2 cells; the header has 3"):
        read(path, FileFormat(delimiter=","))


def test_random_tables_in_random_dialects(tmp_path: Path) -> None:
    """A table is never read with shifted columns: it comes back as it was written, or as an error."""
    random_of = random.Random(5)
    alphabet = "ab ,;|\t\"'\n\\"
    for trial in range(300):
        width = random_of.randint(2, 5)
        names = [f"name {at}" for at in range(width)]
        cells = [
            ["".join(random_of.choices(alphabet, k=random_of.randint(0, 12))) for _ in names]
            for _ in range(random_of.randint(1, 8))
        ]
        file = io.StringIO()
        delimiter = random_of.choice(",;\t|")
        writer = csv.writer(file, delimiter=delimiter, quoting=random_of.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
        writer.writerows([names, *cells])
        rows, found = read(written(tmp_path / "r.csv", file.getvalue()))
        assert rows == as_rows(cells, names), (trial, file.getvalue(), found)


def test_a_long_file_is_read_by_its_beginning(tmp_path: Path) -> None:
    """The sample ends inside a row of many lines."""
    text = 'a, "b"\n' * 9_000
    file = io.StringIO()
    writer = csv.writer(file, delimiter=";")
    writer.writerow(["id", "text"])
    writer.writerows([[number, text] for number in range(40)])
    assert len(file.getvalue()) > 2_000_000
    rows, _ = read(written(tmp_path / "r.csv", file.getvalue()))
    assert len(rows) == 40
    assert {row["text"] for row in rows} == {text}

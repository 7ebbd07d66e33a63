"""Paths of cells in a row: exact names first, lists, JSON in text, and what is missing."""

from __future__ import annotations

from typing import Any

import pytest

from marginalia.pipeline.importing.row_paths import cells_of, value_at
from marginalia.schemas.errors import InputError

ROW: dict[str, Any] = {
    "text": "a",
    "meta.topic": "exact",
    "meta": {"topic": "nested", "tags": ["x", "y"], "none": None, "a.b": {"c[0]": 7}},
    "answers": [{"who": "ann", "tags": ["x"]}, {"who": "bob", "tags": []}, None],
    "json": '{"labels": ["x", {"name": "y"}]}',
    "empty": "[]",
    "blank": " ",
    "null": None,
}


@pytest.mark.parametrize(
    ("path", "cell"),
    [
        ("text", "a"),
        ("meta.topic", "exact"),
        ("meta.tags", ["x", "y"]),
        ("meta.tags[1]", "y"),
        ("meta.tags[-1]", "y"),
        ("meta.tags[2]", None),
        ("meta.none.further", None),
        ("meta.a.b.c[0]", 7),
        ("answers[0].who", "ann"),
        ("answers[*].who", ["ann", "bob", None]),
        ("answers[*].tags[*]", ["x"]),
        ("json.labels[1].name", "y"),
        ("empty[*].name", []),
        ("empty[0].name", None),
        ("blank.any[*].thing", None),
        ("null[0]", None),
    ],
)
def test_a_path(path: str, cell: Any) -> None:
    assert value_at(ROW, path) == cell


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        (
            "txet",
            "no column 'txet'; did you mean 'text'?; it has answers, blank, empty, json, meta, meta.topic, null, text",
        ),
        ("meta.tag", "no key 'tag' in 'meta'; did you mean 'tags'?; it has a.b, none, tags, topic"),
        (
            "answers[0].whom[0]",
            "no key 'whom' in 'answers[0]'; did you mean 'who'?; it has tags, who",
        ),
        ("text.inside", "'text' is 'a', expected an object for the path 'text.inside'"),
        ("text[0]", "'text' is 'a', expected a list for the path 'text[0]'"),
        ("answers[one]", "'answers[one]' is not a path: expected a number or * in brackets"),
    ],
)
def test_a_path_that_the_row_does_not_have(path: str, problem: str) -> None:
    with pytest.raises(LookupError) as caught:
        value_at(ROW, path)
    assert caught.value.args == (problem,)


def test_the_key_of_the_mapping_is_named() -> None:
    with pytest.raises(InputError) as caught:
        cells_of([("text", "text"), ("labels.column", "labls")], {"text": "a", "labels": []}, "x.jsonl: line 1")
    assert str(caught.value) == (
        "x.jsonl: line 1: no column 'labls'; did you mean 'labels'?; it has labels, text "
        "(--mapping takes a YAML file; its key labels.column names the column)"
    )
    with pytest.raises(InputError, match="its key id names the column, and without it ids are made from the texts"):
        cells_of([("text", "text"), ("id", "id")], {"text": "a"}, "x")


def test_a_mapping_that_fits_nothing_lists_its_keys() -> None:
    with pytest.raises(InputError) as caught:
        cells_of([("id", "id"), ("text", "text"), ("labels.column", "labels")], {"q": "a", "y": 1}, "x.csv: line 2")
    assert str(caught.value) == (
        "x.csv: line 2: the mapping fits no column: it names id 'id', text 'text', labels.column 'labels'; the row has "
        "q, y (--mapping takes a YAML file that names its columns)"
    )

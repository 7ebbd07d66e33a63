"""Answers of several people: one row per answer, several in a row, one column or one file per person."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError

from marginalia.pipeline.importing.column_mapping import Mapping
from marginalia.pipeline.importing.row_conversion import Conversion, convert
from marginalia.pipeline.importing.row_paths import FILE
from marginalia.schemas.errors import InputError
from marginalia.schemas.taxonomy import load_taxonomy

TAXONOMY = load_taxonomy("support-tickets")
LISTS = {"column": "topics"}
PER_ROW = {"column": "who"}
NESTED = {"items": "answers[*]", "column": "by.name"}


def run(rows: list[dict[str, Any]], annotators: dict[str, Any], labels: dict[str, Any], **more: Any) -> Conversion:
    mapping = Mapping.model_validate({"text": "text", "labels": labels, "annotators": annotators, **more})
    return convert([(f"line {at}", row) for at, row in enumerate(rows, start=1)], mapping, TAXONOMY, "d.jsonl")


def answers(result: Conversion) -> list[tuple[str, str, list[str], list[str] | None]]:
    texts = {record.id: record.messages[0]["content"] for record in result.records}
    return [(texts[answer.record_id], answer.person, answer.labels, answer.judged) for answer in result.answers]


def error_of(rows: list[dict[str, Any]], annotators: dict[str, Any], labels: dict[str, Any], **more: Any) -> str:
    with pytest.raises(InputError) as caught:
        run(rows, annotators, labels, **more)
    return str(caught.value)


def test_answers_in_a_struct_of_lists_which_datasets_writes() -> None:
    rows = [{"text": "a", "answers": {"who": ["ann", "bob"], "topics": [["refund"], None]}}]
    result = run(rows, {"items": "answers", "column": "who"}, LISTS)
    assert answers(result) == [("a", "ann", ["refund"], None)]
    assert result.counts["unlabelled"] == 1
    rows[0]["answers"] = {"who": ["ann"], "topics": [["refund"], []]}
    message = error_of(rows, {"items": "answers", "column": "who"}, LISTS)
    assert message.startswith("d.jsonl: line 1: 'answers' has lists of different lengths: 1 of who, 2 of topics")


EXPECTED = [
    ("a", "ann", ["refund"], None),
    ("a", "7", [], None),
    ("b", "7", ["refund", "invoice"], None),
]


def test_one_column_per_person() -> None:
    rows = [
        {"text": "a", "ann": "refund", "7": "none"},
        {"text": "b", "ann": "", "7": "refund; invoice"},
    ]
    labels = {"form": "text", "separator": ";", "values": {"refund": "refund", "invoice": "invoice", "none": None}}
    result = run(rows, {"columns": ["ann", "7"]}, labels)
    judged = ["refund", "invoice"]
    assert answers(result) == [(text, person, given, judged) for text, person, given, _ in EXPECTED]
    assert result.counts["unlabelled"] == 1
    message = error_of([{"text": "a", "ann": "lamp", "7": ""}], {"columns": ["ann", "7"]}, labels)
    assert message.startswith("d.jsonl: line 1: 'ann': unknown label value 'lamp'")
    assert "no column '8'" in error_of(rows, {"columns": ["ann", "8"]}, labels)


@pytest.mark.parametrize(
    ("annotators", "labels", "message"),
    [
        ({"columns": ["ann"]}, {"column": "topics"}, "annotators.columns names the columns of the labels"),
        ({"columns": ["ann"], "column": "who"}, {}, "give either column (with or without items), columns, or files"),
        ({"columns": ["ann"], "items": "a[*]"}, {}, "items needs column"),
        ({"column": "who"}, {}, "give either column or columns"),
    ],
)
def test_columns_of_people_replace_the_column_of_labels(
    annotators: dict[str, Any], labels: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        run([], annotators, labels)


def test_one_row_per_answer() -> None:
    rows = [
        {"text": "a", "who": "ann", "topics": ["refund"]},
        {"text": "a", "who": 7, "topics": []},
        {"text": "b", "who": 7, "topics": ["invoice", "refund"]},
    ]
    result = run(rows, PER_ROW, LISTS)
    assert answers(result) == EXPECTED
    assert [record.labels for record in result.records] == [None, None]
    assert (result.counts["rows"], result.counts["records"], result.counts["answers"]) == (3, 2, 3)


@pytest.mark.parametrize("items", ["answers[*]", "answers"])
def test_several_answers_in_a_row(items: str) -> None:
    rows = [
        {"text": "a", "answers": [{"by": {"name": "ann"}, "topics": ["refund"]}, {"by": {"name": 7}, "topics": []}]},
        {"text": "b", "answers": '[{"by": {"name": "7"}, "topics": ["invoice", "refund"]}]'},
        {"text": "c", "answers": None},
    ]
    result = run(rows, {**NESTED, "items": items}, LISTS)
    assert answers(result) == EXPECTED
    assert [record.messages[0]["content"] for record in result.records] == ["a", "b", "c"]


def test_one_file_per_person() -> None:
    rows = [
        {FILE: "ann", "text": "a", "topics": ["refund"]},
        {FILE: "7", "text": "a", "topics": []},
        {FILE: "7", "text": "b", "topics": ["invoice", "refund"]},
    ]
    assert answers(run(rows, {"files": True}, LISTS)) == EXPECTED
    assert "no column 'topics'; it has text (" in error_of([{FILE: "ann", "text": "a"}], {"files": True}, LISTS)


def test_answers_have_masks_and_blank_ones_are_left_out() -> None:
    columns = {"columns": {"late": "late_delivery", "money": "refund"}}
    rows = [
        {"text": "a", "who": "ann", "late": 1, "money": ""},
        {"text": "a", "who": "bob", "late": 0, "money": 0},
        {"text": "b", "who": "ann", "late": "", "money": ""},
    ]
    result = run(rows, PER_ROW, columns)
    both = [label for label in TAXONOMY.ids if label in ("late_delivery", "refund")]
    assert answers(result) == [("a", "ann", ["late_delivery"], ["late_delivery"]), ("a", "bob", [], both)]
    assert (result.counts["records"], result.counts["unlabelled"], result.counts["partly_labelled"]) == (2, 1, 1)


def test_answers_with_only_ignored_values_are_left_out_and_counted() -> None:
    rows = [{"text": "a", "who": "ann", "topics": ["rude"]}, {"text": "a", "who": "bob", "topics": ["rude", "refund"]}]
    result = run(rows, PER_ROW, {**LISTS, "values": {"refund": "refund"}, "ignore": ["rude"]})
    assert answers(result) == [("a", "bob", ["refund"], ["refund"])]
    assert result.counts["only_ignored_values"] == 1
    assert result.ignored == {"rude": 2}


def test_a_second_answer_of_a_person_is_refused_or_counted() -> None:
    rows = [{"id": 1, "text": "a", "who": "ann", "topics": topics} for topics in (["refund"], [], ["refund"])]
    assert error_of(rows, PER_ROW, LISTS, id="id") == (
        "d.jsonl: line 2: a second answer of 'ann' to record '1', first in d.jsonl: line 1 (set duplicates: first in "
        "the mapping)"
    )
    result = run(rows, PER_ROW, LISTS, id="id", duplicates="first")
    assert [answer.labels for answer in result.answers] == [["refund"]]
    assert (result.counts["duplicates"], result.counts["conflicting_duplicates"]) == (2, 1)


def test_one_id_for_two_texts_is_refused() -> None:
    rows = [{"id": 1, "text": text, "who": "ann", "topics": []} for text in ("a", "b")]
    assert error_of(rows, PER_ROW, LISTS, id="id", duplicates="first") == (
        "d.jsonl: line 2: id '1' has another text in line 1 (give each text its own id)"
    )


@pytest.mark.parametrize(
    ("row", "annotators", "problem"),
    [
        (
            {"text": "a", "who": " ", "topics": []},
            PER_ROW,
            "'who' must name the person, saw ' ' (fix the row: each answer needs the name or number of who gave it)",
        ),
        (
            {"text": "a", "answers": "x"},
            NESTED,
            "'answers' is 'x', expected a list for the path 'answers[*]' (--mapping takes a YAML file; its key "
            "annotators.items names the column)",
        ),
        (
            {"text": "a", "answers": ["x"]},
            NESTED,
            "answers[0] is 'x', expected an object with the person and the labels (correct annotators.items in the "
            "mapping, such as answers[*])",
        ),
        (
            {"text": "a", "answers": [{"by": {"nam": "ann"}, "topics": []}]},
            NESTED,
            "answers[0]: no key 'name' in 'by'; did you mean 'nam'?; it has nam (--mapping takes a YAML file; its key "
            "annotators.column names the column)",
        ),
        (
            {"text": "a", "answers": [{"by": {"name": "ann"}, "topics": ["refnd"]}]},
            NESTED,
            "answers[0]: 'topics': unknown label 'refnd'; did you mean 'refund'? (map values that are not ids of the "
            "taxonomy with labels.values of a mapping)",
        ),
    ],
)
def test_an_answer_that_the_mapping_does_not_fit(row: dict[str, Any], annotators: dict[str, Any], problem: str) -> None:
    assert error_of([row], annotators, LISTS) == f"d.jsonl: line 1: {problem}"


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"annotators": {}, "labels": LISTS}, r"give either column \(with or without items\), columns, or files: true"),
        ({"annotators": {"items": "a[*]"}, "labels": LISTS}, r"give either column \(with or without items\)"),
        ({"annotators": {"column": "a", "files": True}, "labels": LISTS}, r"give either column"),
        ({"annotators": {"items": "a[*]", "files": True}, "labels": LISTS}, "items needs column"),
        ({"annotators": PER_ROW}, "annotators needs labels"),
        ({"annotators": PER_ROW, "labels": {**LISTS, "kind": "intended"}}, "annotators needs labels.kind: gold"),
    ],
)
def test_settings_that_contradict_each_other(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Mapping.model_validate({"text": "text", **settings})


def test_an_answer_without_the_key_of_a_label_did_not_judge_it() -> None:
    rows = [
        {
            "text": "a",
            "answers": [{"by": {"name": "ann"}, "is": {"r": True}}, {"by": {"name": "bob"}, "is": {"i": False}}],
        },
    ]
    columns = {"is.r": "refund", "is.i": "invoice"}
    assert answers(run(rows, NESTED, {"columns": columns})) == [
        ("a", "ann", ["refund"], ["refund"]),
        ("a", "bob", [], ["invoice"]),
    ]
    problem = error_of(rows, NESTED, {"columns": {**columns, "is.x": "return"}})
    assert problem.startswith("d.jsonl: line 1: answers[0]: no key 'x' in 'is'; it has r (")

"""The labels of one row: a blank cell is never safe, and every form in which data sets have labels."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from marginalia.pipeline.importing.column_mapping import LabelColumn, Mapping
from marginalia.pipeline.importing.row_conversion import Conversion, convert
from marginalia.pipeline.importing.row_labels import RowLabels, labels_of
from marginalia.schemas.errors import InputError
from marginalia.schemas.taxonomy import load_taxonomy

TAXONOMY = load_taxonomy("support-tickets")
TEXT = {"column": "topics", "form": "text", "separator": ","}
COLUMNS = {"columns": {"late": "late_delivery", "money": ["refund", "invoice"], "fine": None}, "ignore": ["spam"]}
NAMES = {"Money, back": "refund", "Bill": "invoice", "ok": None}


def read(row: dict[str, Any], **settings: Any) -> RowLabels:
    return labels_of(LabelColumn.model_validate(settings), row, "data.jsonl: line 1", TAXONOMY)


def labels(cell: Any, **settings: Any) -> list[str] | None:
    return read({"topics": cell}, **{"column": "topics", **settings}).labels


def error_of(row: dict[str, Any], **settings: Any) -> str:
    with pytest.raises(InputError) as caught:
        read(row, **settings)
    assert caught.value.hint
    return caught.value.message.removeprefix("data.jsonl: line 1: ")


def imported(rows: list[dict[str, Any]], **settings: Any) -> Conversion:
    mapping = Mapping.model_validate({"text": "text", "labels": settings})
    numbered = [(f"line {at}", {"text": f"text {at}", **row}) for at, row in enumerate(rows, start=1)]
    return convert(numbered, mapping, TAXONOMY, "data.jsonl")


BLANK = [
    *((cell, {"form": "list"}) for cell in (None, "", " \t", [""], [None], [" ", None])),
    *((cell, TEXT) for cell in (None, "", "  ", " , ", ",,", [None])),
    *((cell, {"form": "text"}) for cell in (None, "", " ")),
    *((cell, {"form": "flags"}) for cell in (None, {"refund": None, "invoice": None}, {})),
]


@pytest.mark.parametrize(("cell", "settings"), BLANK, ids=repr)
def test_blank_means_not_labelled_unless_the_mapping_says_none(cell: Any, settings: dict[str, Any]) -> None:
    assert labels(cell, **settings) is None
    assert labels(cell, **settings, blank="none") == []


@pytest.mark.parametrize(
    ("cell", "settings"),
    [([], {"form": "list"}), ("[]", {"form": "list"}), ("[]", TEXT), ({"refund": False}, {"form": "flags"})],
    ids=repr,
)
def test_a_list_of_nothing_says_that_no_category_applies(cell: Any, settings: dict[str, Any]) -> None:
    assert labels(cell, **settings) == []


def test_blank_values_among_others_are_ignored() -> None:
    assert labels("refund, ,invoice,", **TEXT) == labels(["refund", None, " invoice ", ""]) == ["refund", "invoice"]


@pytest.mark.parametrize("form", ["list", "text"])
@pytest.mark.parametrize("cell", ['["refund", "invoice"]', "['refund', 'invoice']", ' ["invoice","refund"] '])
def test_a_list_that_is_written_as_text_is_a_list(cell: str, form: str) -> None:
    assert labels(cell, form=form) == ["refund", "invoice"]


def test_brackets_that_are_not_a_list_are_part_of_a_name() -> None:
    assert labels("[spam]", form="text", values={"[spam]": "refund"}) == ["refund"]
    assert labels('["x"]', form="text", values={'["x"]': "refund"}) == ["refund"]
    assert (
        error_of({"topics": "[spam]"}, column="topics", form="list")
        == "'topics' is '[spam]', expected the form list of the mapping"
    )


def test_a_separator_inside_a_name_does_not_end_it() -> None:
    settings = {**TEXT, "values": NAMES}
    assert labels("Money, back", **settings) == ["refund"]
    assert labels("Bill,Money, back", **settings) == labels("Money, back, Bill", **settings) == ["refund", "invoice"]
    assert labels("ok", **settings) == []
    assert error_of({"topics": "Money, back, Bil"}, **settings) == (
        "'topics': unknown label value 'Bil'; did you mean 'Bill'?"
    )
    assert error_of({"topics": "back"}, **settings) == "'topics': unknown label value 'back'"


def test_a_text_that_can_be_read_in_two_ways_is_refused() -> None:
    settings = {**TEXT, "values": {"a": "refund", "b": "invoice", "a,b": "discount"}}
    assert labels("b,a", **settings) == ["refund", "invoice"]
    assert error_of({"topics": "a,b"}, **settings) == "'topics': 'a,b' can be read in more than one way"


@pytest.mark.parametrize("yes", [1, True, 1.0, "1", "true", " True "])
@pytest.mark.parametrize("no", [0, False, 0.0, "0", "FALSE"])
def test_a_column_of_0_and_1_per_label(yes: Any, no: Any) -> None:
    assert read({"late": yes, "money": no, "fine": no, "spam": no}, **COLUMNS).labels == ["late_delivery"]
    assert read({"late": yes, "money": yes, "fine": no, "spam": no}, **COLUMNS).labels == [
        "late_delivery",
        "refund",
        "invoice",
    ]
    assert read({"late": no, "money": no, "fine": yes, "spam": no}, **COLUMNS).labels == []
    assert read({"late": no, "money": no, "fine": no, "spam": yes}, **COLUMNS).only_ignored


def test_columns_that_contradict_each_other() -> None:
    assert error_of({"late": 1, "money": 0, "fine": 1, "spam": 0}, **COLUMNS) == (
        "the row says that no category applies, but also names one: late, fine"
    )
    # some category applies, but none of those in the mapping
    assert read({"late": 0, "money": 0, "fine": 0, "spam": 0}, **COLUMNS).labels is None
    assert labels({"ok": False, "Bill": False}, form="flags", values=NAMES) is None


def test_without_a_column_for_no_category_all_0_says_that_none_applies() -> None:
    assert read({"late": 0, "money": 0}, columns={"late": "refund", "money": "invoice"}).labels == []


def test_what_is_neither_0_nor_1_is_refused() -> None:
    row = {"late": 0.33, "money": 0, "fine": 0, "spam": 0}
    assert error_of(row, **COLUMNS) == "'late' is '0.33', expected 0 or 1, or false or true"
    assert error_of({**row, "late": "maybe"}, **COLUMNS) == "'late' is 'maybe', expected 0 or 1, or false or true"


def test_a_blank_column_means_that_its_label_was_not_judged() -> None:
    rows = [
        {"late": 1, "money": 0},
        {"late": 0, "money": 0},
        {"late": 1, "money": None},
        {"late": 0, "money": ""},
        {"late": None, "money": None},
    ]
    columns = {"late": "refund", "money": "invoice"}
    result = imported(rows, columns=columns)
    assert [(record.labels, record.judged) for record in result.records] == [
        (["refund"], ["refund", "invoice"]),
        ([], ["refund", "invoice"]),
        (["refund"], ["refund"]),
        ([], ["refund"]),
        (None, None),
    ]
    assert (result.counts["unlabelled"], result.counts["partly_labelled"]) == (1, 2)
    filled = imported(rows, columns=columns, blank="none")
    assert [record.labels for record in filled.records] == [["refund"], [], ["refund"], [], []]
    assert {tuple(record.judged or ()) for record in filled.records} == {("refund", "invoice")}
    assert (filled.counts["unlabelled"], filled.counts["partly_labelled"]) == (0, 0)


def test_every_column_must_be_there() -> None:
    with pytest.raises(InputError, match=r"line 1: no column 'money'; it has late, text"):
        imported([{"late": 1}], columns={"late": "refund", "money": "invoice"})


def test_binary_cells_are_refused() -> None:
    with pytest.raises(InputError, match=r"line 1: column 'topics' is binary, expected text"):
        imported([{"topics": b"refund"}], column="topics", form="text")
    assert error_of({"topics": [b"refund"]}, column="topics") == "'topics': a label is binary, expected text"


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"column": "a", "columns": {"b": "refund"}}, "give either column or columns"),
        ({"columns": {"b": "refund"}, "separator": ","}, "separator needs column; this mapping has columns"),
        ({"columns": {"b": "refund"}, "ignore": ["b"]}, "'b' is in both columns and ignore"),
    ],
)
def test_settings_that_contradict_each_other(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        LabelColumn.model_validate(settings)

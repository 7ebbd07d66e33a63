"""Cells that say whether a label applies: words, numbers with a threshold, classes; and the settings for them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from marginalia.pipeline.importing.column_mapping import LabelColumn
from marginalia.pipeline.importing.flag_cells import flag_of
from marginalia.pipeline.importing.row_labels import labels_of
from marginalia.schemas.errors import InputError
from marginalia.schemas.taxonomy import load_taxonomy

TAXONOMY = load_taxonomy("support-tickets")


def flag(cell: Any, **settings: Any) -> bool | None:
    column = LabelColumn.model_validate({"columns": {"late": "late_delivery"}, **settings})
    return flag_of(column, "late", cell, "d.csv: line 2")


@pytest.mark.parametrize("cell", [1, True, 1.0, "1", "1.0", "true", " TRUE ", "t", "yes", "Y", Decimal(1)])
def test_true(cell: Any) -> None:
    assert flag(cell) is True


@pytest.mark.parametrize("cell", [0, False, 0.0, "0", "0.0", "false", "F", "no", " n", Decimal(0)])
def test_false(cell: Any) -> None:
    assert flag(cell) is False


@pytest.mark.parametrize("blank", ["unlabelled", "none"])
@pytest.mark.parametrize("cell", [None, "", "  ", float("nan")])
def test_a_blank_cell_is_neither(cell: Any, blank: str) -> None:
    assert flag(cell, blank=blank) is None


@pytest.mark.parametrize(
    ("cell", "threshold", "applies"),
    [
        (0.5, 0.5, True),
        (0.49, 0.5, False),
        ("0.83", 0.5, True),
        (Decimal("0.2"), 0.5, False),
        (1, 3, False),
        ("3", 3, True),
        (-2, -1, False),
        (True, 3, True),
        ("yes", 3, True),
    ],
)
def test_a_label_applies_from_the_threshold_on(cell: Any, threshold: float, applies: bool) -> None:
    assert flag(cell, threshold=threshold) is applies


@pytest.mark.parametrize(
    ("cell", "hint"),
    [
        (0.33, "set labels.threshold in the mapping: the label applies from this number on"),
        ("0.33", "set labels.threshold in the mapping: the label applies from this number on"),
        (2, "set labels.threshold in the mapping: the label applies from this number on"),
        ("0,83", "write numbers with a decimal point"),
        ("maybe", "add the word to labels.true or labels.false in the mapping"),
        ("inf", "add the word to labels.true or labels.false in the mapping"),
        ([1], "add the word to labels.true or labels.false in the mapping"),
    ],
)
def test_another_cell_names_its_place_and_the_setting_that_reads_it(cell: Any, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        flag(cell)
    assert str(caught.value) == f"d.csv: line 2: 'late' is '{cell}', expected 0 or 1, or false or true ({hint})"


def test_words_of_the_mapping_take_precedence() -> None:
    words = {"true": ["Toxic", "0"], "false": ["fine", "1"]}
    assert [flag(cell, **words) for cell in (" toxic", "fine", 0, "1", 1.0, "no")] == [
        True,
        False,
        True,
        False,
        False,
        False,
    ]


def test_yaml_reads_true_false_and_yes_as_words() -> None:
    text = "{columns: {late: late_delivery}, true: [ja, yes, 3], false: [nein, off]}"
    column = LabelColumn.model_validate(yaml.safe_load(text))
    assert (column.true, column.false) == (["ja", "true", "3"], ["nein", "false"])


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"column": "a", "threshold": 0.5}, "threshold needs columns or form: flags; the form is list"),
        ({"column": "a", "true": ["ja"]}, "true needs columns or form: flags; the form is list"),
        ({"columns": {"a": "refund"}, "true": ["Ja"], "false": ["ja "]}, "'ja' is in both true and false"),
        ({"columns": {"a": "refund"}, "classes": ["x"]}, "classes needs column; this mapping has columns"),
        ({"column": "a", "form": "flags", "classes": ["x"]}, "classes needs form: list or text; the form is flags"),
        ({"columns": {"a": "refund"}, "judged": ["invoice"]}, "judged leaves out 'refund', which columns names"),
        ({"columns": {"a": "refund"}, "threshold": float("nan")}, "finite number"),
    ],
)
def test_settings_that_contradict_each_other(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        LabelColumn.model_validate(settings)


CLASSES = {"column": "topic", "form": "text", "classes": ["safe", "late", "money"]}
MEANT = {**CLASSES, "values": {"safe": None, "late": "late_delivery", "money": ["refund", "invoice"]}}


@pytest.mark.parametrize(
    ("cell", "labels"),
    [
        (1, ["late_delivery"]),
        ("2", ["refund", "invoice"]),
        (2.0, ["refund", "invoice"]),
        (0, []),
        (-1, None),
        (None, None),
        ("late", ["late_delivery"]),
    ],
)
def test_numbers_of_classes(cell: Any, labels: list[str] | None) -> None:
    assert labels_of(LabelColumn.model_validate(MEANT), {"topic": cell}, "x", TAXONOMY).labels == labels


def test_lists_of_classes() -> None:
    column = LabelColumn.model_validate({**MEANT, "form": "list"})
    assert labels_of(column, {"topic": 1}, "x", TAXONOMY).labels == ["late_delivery"]
    assert labels_of(column, {"topic": [1, 2, -1]}, "x", TAXONOMY).labels == ["late_delivery", "refund", "invoice"]


@pytest.mark.parametrize("cell", [3, -2, 0.5])
def test_a_number_without_a_class_is_refused(cell: Any) -> None:
    with pytest.raises(InputError) as caught:
        labels_of(LabelColumn.model_validate(MEANT), {"topic": cell}, "d.jsonl: line 3", TAXONOMY)
    assert str(caught.value) == (
        f"d.jsonl: line 3: 'topic' is {cell}, expected a class from 0 to 2 (labels.classes of the mapping names the "
        "classes)"
    )


def test_numbers_and_truth_values_are_values_too() -> None:
    column = LabelColumn.model_validate({"column": "y", "form": "text", "values": {"1": "refund", "true": "invoice"}})
    assert [labels_of(column, {"y": cell}, "x", TAXONOMY).labels for cell in (1, 1.0, True)] == [
        ["refund"],
        ["refund"],
        ["invoice"],
    ]


def test_numbers_in_values_need_no_quotes() -> None:
    column = LabelColumn.model_validate(yaml.safe_load("{column: y, form: text, values: {0: null, 1: refund}}"))
    assert [labels_of(column, {"y": cell}, "x", TAXONOMY).labels for cell in ("0", 1)] == [[], ["refund"]]


@pytest.mark.parametrize("judged", ["none", 3, ["refund", 3], {}, {"columns": "x"}, {"column": 1}])
def test_judged_is_all_or_a_list_or_a_column(judged: Any) -> None:
    with pytest.raises(ValidationError, match=r"expected all, a list of label ids, or \{column: …\}, saw "):
        LabelColumn.model_validate({"column": "y", "judged": judged})


def test_objects_in_a_list_ask_for_a_path() -> None:
    with pytest.raises(InputError) as caught:
        labels_of(LabelColumn(column="y"), {"y": [{"name": "refund", "by": 1}]}, "d.jsonl: line 1", TAXONOMY)
    assert str(caught.value) == (
        "d.jsonl: line 1: 'y': an item is an object with the keys name, by (name one of them in labels.column of the "
        "mapping: y[*].KEY)"
    )


def test_flags_may_be_json_in_a_cell() -> None:
    column = LabelColumn(column="y", form="flags")
    assert labels_of(column, {"y": '{"refund": true, "invoice": 0}'}, "x", TAXONOMY).labels == ["refund"]

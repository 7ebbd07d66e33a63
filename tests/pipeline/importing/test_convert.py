"""Conversion of rows to records by a mapping: the whole message of each error, and counts of everything left out."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from pydantic import ValidationError

from marginalia.pipeline.importing.column_mapping import SHIPPED, Mapping, load_mapping
from marginalia.pipeline.importing.row_conversion import Conversion, convert
from marginalia.schemas.errors import InputError
from marginalia.schemas.taxonomy import Taxonomy, load_taxonomy

TAXONOMY = load_taxonomy("support-tickets")
SETTINGS: dict[str, Any] = {
    "text": "query",
    "labels": {
        "column": "topics",
        "values": {"T1": "refund", "T2": "invoice", "T12": ["refund", "invoice"], "ok": None},
    },
}


def run(rows: list[dict[str, Any]], *, taxonomy: Taxonomy = TAXONOMY, **changes: Any) -> Conversion:
    labels = {**SETTINGS["labels"], **changes.pop("labels", {})}
    mapping = Mapping.model_validate({**SETTINGS, **changes, "labels": labels})
    return convert(((f"line {at}", row) for at, row in enumerate(rows, start=1)), mapping, taxonomy, "data.jsonl")


def labels_of(rows: list[dict[str, Any]], **changes: Any) -> list[list[str] | None]:
    return [record.labels for record in run(rows, **changes).records]


def error_of(rows: list[dict[str, Any]], **changes: Any) -> str:
    with pytest.raises(InputError) as caught:
        run(rows, **changes)
    assert caught.value.hint  # the whole message: tests/bad_input
    return caught.value.message


def test_values_become_ids_in_taxonomy_order_each_once() -> None:
    rows = [
        {"query": "a", "topics": ["T2", "T1", "T1"]},
        {"query": "b", "topics": ["T12", "T2"]},
        {"query": "c", "topics": ["ok"]},
        {"query": "d", "topics": []},
        {"query": "e", "topics": None},
    ]
    assert labels_of(rows) == [["refund", "invoice"], ["refund", "invoice"], [], [], None]


def test_without_values_the_labels_are_the_taxonomys_ids() -> None:
    assert labels_of([{"query": "a", "topics": ["invoice"]}], labels={"values": {}}) == [["invoice"]]
    assert error_of([{"query": "a", "topics": ["invoices"]}], labels={"values": {}}) == (
        "data.jsonl: line 1: 'topics': unknown label 'invoices'; did you mean 'invoice'?"
    )


def test_a_string_of_labels_is_split_at_the_separator() -> None:
    rows = [{"query": "a", "topics": "T1; T2 ;"}, {"query": "b", "topics": "ok"}]
    assert labels_of(rows, labels={"form": "text", "separator": ";"}) == [["refund", "invoice"], []]


def test_a_string_without_separator_is_one_value_with_its_commas() -> None:
    values = {"money,back": "refund"}
    assert labels_of([{"query": "a", "topics": "money,back"}], labels={"form": "text", "values": values}) == [
        ["refund"]
    ]


def test_flags_are_the_values_that_are_true() -> None:
    off = {"T1": False, "T2": False, "T12": False}
    rows = [{"query": "a", "topics": {**off, "T2": True}}, {"query": "b", "topics": off}]
    assert labels_of(rows, labels={"form": "flags"}) == [["invoice"], []]
    assert error_of([{"query": "a", "topics": {"T1": 2}}], labels={"form": "flags"}) == (
        "data.jsonl: line 1: 'topics': 'T1' is '2', expected 0 or 1, or false or true"
    )


def test_an_unknown_value_is_named_with_its_line_and_the_nearest() -> None:
    rows = [{"query": "a", "topics": ["T1"]}, {"query": "b", "topics": ["T22"]}]
    assert error_of(rows) == ("data.jsonl: line 2: 'topics': unknown label value 'T22'; did you mean 'T2'?")


def test_no_category_together_with_one_is_refused() -> None:
    assert error_of([{"query": "a", "topics": ["ok", "T1"]}]) == (
        "data.jsonl: line 1: 'topics' says that no category applies, but also names one: ok, T1"
    )


def test_a_record_with_nothing_but_ignored_values_is_left_out_and_never_safe() -> None:
    rows = [
        {"query": "a", "topics": ["rude"]},
        {"query": "b", "topics": ["rude", "T1"]},
        {"query": "c", "topics": []},
    ]
    result = run(rows, labels={"ignore": ["rude"]})
    assert [(record.messages[0]["content"], record.labels) for record in result.records] == [
        ("b", ["refund"]),
        ("c", []),
    ]
    assert result.counts["only_ignored_values"] == 1
    assert result.ignored == {"rude": 2}


def test_the_wrong_form_shows_what_was_seen() -> None:
    assert error_of([{"query": "a", "topics": "T1"}]) == (
        "data.jsonl: line 1: 'topics' is 'T1', expected the form list of the mapping"
    )


def test_a_missing_column_is_named_with_the_nearest() -> None:
    assert error_of([{"querry": "a", "topics": []}]) == (
        "data.jsonl: line 1: no column 'query'; did you mean 'querry'?; it has querry, topics"
    )


def test_equal_texts_have_equal_ids_and_ids_survive_any_order() -> None:
    rows = [{"query": "a", "topics": []}, {"query": "b", "topics": []}]
    ids = {record.messages[0]["content"]: record.id for record in run(rows).records}
    assert ids == {record.messages[0]["content"]: record.id for record in run(rows[::-1]).records}
    assert ids["a"] != ids["b"]


def test_a_duplicate_text_is_refused_or_counted() -> None:
    rows = [{"query": "a", "topics": ["T1"]}, {"query": "a", "topics": ["T2"]}, {"query": "a", "topics": ["T1"]}]
    assert error_of(rows) == "data.jsonl: line 2: duplicate text, first in line 1"
    result = run(rows, duplicates="first")
    assert [record.labels for record in result.records] == [["refund"]]
    assert (result.counts["duplicates"], result.counts["conflicting_duplicates"]) == (2, 1)


def test_one_id_for_two_texts_is_refused_even_when_duplicates_are_counted() -> None:
    rows = [{"n": 7, "query": "a", "topics": []}, {"n": 7, "query": "b", "topics": []}]
    assert error_of(rows, id="n", duplicates="first") == "data.jsonl: line 2: id '7' has another text in line 1"


def test_a_missing_id_is_refused() -> None:
    assert error_of([{"n": None, "query": "a", "topics": []}], id="n") == (
        "data.jsonl: line 1: 'n' must be a non-empty string, saw None"
    )


def test_white_space_is_kept_or_stripped_and_counted() -> None:
    rows = [{"query": "\na\n", "topics": []}, {"query": "b", "topics": []}]
    assert [record.messages[0]["content"] for record in run(rows).records] == ["\na\n", "b"]
    result = run(rows, strip=True)
    assert [record.messages[0]["content"] for record in result.records] == ["a", "b"]
    assert result.counts["stripped"] == 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (" ", "the user message has no text"),
        (None, "the user message has no text"),
        ("a\0b", "a NUL character at position 1"),
        ("a\ud800", "a lone surrogate U+D800 at position 1"),
        ("a\u202eb", "the reordering character U+202E at position 1"),
        ("x" * 1_000_001, "text of 1,000,001 characters; the limit is 1,000,000"),
    ],
)
def test_an_unusable_text_is_refused_or_counted(text: str | None, problem: str) -> None:
    rows = [{"query": text, "topics": []}, {"query": "fine", "topics": []}]
    assert error_of(rows) == (f"data.jsonl: line 1: {problem}")
    result = run(rows, unusable="skip")
    assert [record.messages[0]["content"] for record in result.records] == ["fine"]
    assert result.counts["unusable"] == 1


def test_messages_from_columns_leave_an_optional_one_out() -> None:
    columns = [
        {"role": "user", "column": "prompt"},
        {"role": "assistant", "column": "response", "optional": True},
    ]
    rows = [{"prompt": "a", "response": "b", "topics": []}, {"prompt": "c", "response": None, "topics": []}]
    messages = [record.messages for record in run(rows, text=None, messages=columns).records]
    assert messages == [
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
        [{"role": "user", "content": "c"}],
    ]


def test_rows_to_skip_are_counted() -> None:
    rows = [{"query": "REDACTED", "topics": ["T1"]}, {"query": "b", "topics": []}]
    result = run(rows, skip={"query": ["REDACTED"]})
    assert (len(result.records), result.counts["skipped"], result.counts["rows"]) == (1, 1, 2)


def test_attributes_are_kept_as_text_and_other_values_as_json() -> None:
    values = {
        "year": (2025, "2025"),
        "city": ("Zürich", "Zürich"),
        "checked": (True, "true"),
        "tags": (["a", "é"], '["a", "é"]'),
        "source": ({"page": 1, "url": None}, '{"page": 1, "url": null}'),
        "day": (date(2026, 1, 2), "2026-01-02"),
    }
    row = {
        "query": "a",
        "topics": [],
        **{name: value for name, (value, _) in values.items()},
        "no": None,
    }
    attributes = run([row], attributes=[*values, "no"]).records[0].attributes
    assert {attribute["name"]: attribute["value"] for attribute in attributes} == {
        name: text for name, (_, text) in values.items()
    }


def test_rows_to_skip_are_named_as_python_or_json_writes_them() -> None:
    rows = [{"query": "a", "topics": [], "bad": True}, {"query": "b", "topics": [], "bad": False}]
    for written in ("True", "true"):
        assert run(rows, skip={"bad": [written]}).counts["skipped"] == 1


def test_every_row_is_either_a_record_or_counted() -> None:
    rows = [
        {"query": "a", "topics": ["T1"]},
        {"query": "a", "topics": ["T1"]},
        {"query": " ", "topics": ["T1"]},
        {"query": "skip me", "topics": ["T1"]},
        {"query": "b", "topics": ["rude"]},
        {"query": "c", "topics": None},
    ]
    counts = run(
        rows, duplicates="first", unusable="skip", skip={"query": ["skip me"]}, labels={"ignore": ["rude"]}
    ).counts
    left_out = ("duplicates", "unusable", "skipped", "only_ignored_values")
    assert counts["rows"] == counts["records"] + sum(counts[name] for name in left_out) == 6


def flags_mapping(**changes: Any) -> Mapping:
    labels = {"columns": {"late": "late_delivery", "back": "refund"}}
    return Mapping.model_validate({"text": "query", "labels": labels, **changes})


def test_a_key_that_some_rows_leave_out_is_a_blank_cell() -> None:
    rows: list[dict[str, Any]] = [
        {"query": "a", "late": 1},
        {"query": "b", "late": 0, "back": 0, "city": "Bonn"},
        {"query": "c"},
    ]
    mapping = flags_mapping(attributes=["city"])
    found = convert([("line", row) for row in rows], mapping, TAXONOMY, "x").records
    assert [(record.labels, record.judged) for record in found] == [
        (["late_delivery"], ["late_delivery"]),
        ([], ["late_delivery", "refund"]),
        (None, None),
    ]
    assert [record.attributes for record in found] == [[], [{"name": "city", "value": "Bonn"}], []]


def test_a_key_that_no_row_has_is_a_mistake_in_the_mapping() -> None:
    rows = [("line 1", {"query": "a", "late": 1}), ("line 2", {"query": "b", "late": 0, "bakc": 1})]
    with pytest.raises(InputError) as caught:
        convert(rows, flags_mapping(), TAXONOMY, "x")
    assert caught.value.message == "x: line 1: no column 'back'; it has late, query"


def test_optional_messages_may_be_left_out_but_not_the_text() -> None:
    roles = [{"role": "user", "column": "query"}, {"role": "assistant", "column": "answer", "optional": True}]
    mapping = flags_mapping(text=None, messages=roles)
    rows = [{"query": "a", "answer": "b", "late": 1, "back": 0}, {"query": "c", "late": 0, "back": 0}]
    found = convert([("line", row) for row in rows], mapping, TAXONOMY, "x").records
    assert [len(record.messages) for record in found] == [2, 1]
    with pytest.raises(InputError, match="no column 'query'"):
        convert([("line", {"answer": "b", "late": 1})], mapping, TAXONOMY, "x")


def test_the_words_of_a_text_are_joined_only_when_the_mapping_says_so() -> None:
    rows = [{"query": ["is", "it", "late"], "topics": ["ok"]}, {"query": '["ja", "nein"]', "topics": ["ok"]}]
    joined = run(rows, join=" ").records
    assert [record.messages[0]["content"] for record in joined] == ["is it late", "ja nein"]
    assert "the user message has no text" in error_of(rows[:1])
    with pytest.raises(ValidationError, match="join needs text"):
        flags_mapping(text=None, messages="chat", join=" ")


@pytest.mark.parametrize("name", ["llama-guard-2", "llama-guard-3"])
def test_the_papers_codes_are_those_of_the_guard(name: str) -> None:
    taxonomy = load_taxonomy(name)
    mapping = load_mapping(SHIPPED / f"paper-{name}.yaml", taxonomy)
    assert mapping.labels is not None
    assert list(mapping.labels.values.values()) == taxonomy.ids
    assert list(mapping.labels.values) == [f"S{at}" for at in range(1, len(taxonomy.ids) + 1)]

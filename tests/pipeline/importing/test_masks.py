"""Which labels of a record were judged: every form, and an oracle that reads random rows label by label."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from marginalia.pipeline.importing.column_mapping import LabelColumn, Mapping
from marginalia.pipeline.importing.label_warnings import label_warnings
from marginalia.pipeline.importing.row_conversion import Conversion, convert
from marginalia.pipeline.importing.row_labels import RowLabels, labels_of
from marginalia.schemas.errors import InputError
from marginalia.schemas.taxonomy import Label, Taxonomy

TAXONOMY = Taxonomy(
    id="six",
    version="1",
    title="Six",
    subject="texts",
    labels=[Label(id=name, name=name.upper(), definition=name) for name in "abcdef"],
)
ALL = list("abcdef")


def read(cells: dict[str, Any], **settings: Any) -> RowLabels:
    return labels_of(LabelColumn.model_validate(settings), cells, "x", TAXONOMY)


def judged(cells: dict[str, Any], **settings: Any) -> tuple[list[str] | None, list[str] | None]:
    result = read(cells, **settings)
    return result.labels, result.judged


EACH = {name: name for name in ALL}
ONE_EACH = {"A": "a", "B": "b"}
UNION = {"A1": "a", "A2": "a", "B": "b"}
ONE_TO_MANY = {"AB": ["a", "b"], "B": "b", "C": "c"}
SAFE = {"A": "a", "B": "b", "safe": None}


@pytest.mark.parametrize(
    ("cells", "settings", "expected"),
    [
        # all columns filled: everything was judged
        ({"a": 1, "b": 0, "c": 0, "d": 0, "e": 0, "f": 0}, {"columns": EACH}, (["a"], None)),
        ({"a": 1, "b": 0, "c": "", "d": 0, "e": None, "f": 0}, {"columns": EACH}, (["a"], ["a", "b", "d", "f"])),
        ({"a": "", "b": "", "c": "", "d": 0, "e": "", "f": ""}, {"columns": EACH}, ([], ["d"])),
        (dict.fromkeys(ALL, ""), {"columns": EACH}, (None, None)),
        (dict.fromkeys(ALL, ""), {"columns": EACH, "blank": "none"}, ([], None)),
        ({**dict.fromkeys(ALL, ""), "b": 1}, {"columns": EACH, "blank": "none"}, (["b"], None)),
        # several columns of one label
        ({"A1": 1, "A2": "", "B": 0}, {"columns": UNION}, (["a"], ["a", "b"])),
        ({"A1": 0, "A2": "", "B": 0}, {"columns": UNION}, ([], ["b"])),
        ({"A1": 0, "A2": 0, "B": ""}, {"columns": UNION}, ([], ["a"])),
        ({"A1": 0, "A2": "", "B": ""}, {"columns": UNION}, (None, None)),
        # one column of several labels
        ({"AB": 1, "B": "", "C": 0}, {"columns": ONE_TO_MANY}, (["a", "b"], ["a", "b", "c"])),
        ({"AB": "", "B": 1, "C": 0}, {"columns": ONE_TO_MANY}, (["b"], ["b", "c"])),
        ({"AB": 0, "B": "", "C": 0}, {"columns": ONE_TO_MANY}, ([], ["a", "c"])),
        # a column with each row's judged labels
        ({"x": ["a"], "by": ["b", "a"]}, {"column": "x", "judged": {"column": "by"}}, (["a"], ["a", "b"])),
        ({"x": [], "by": '["f"]'}, {"column": "x", "judged": {"column": "by"}}, ([], ["f"])),
        ({"x": [], "by": None}, {"column": "x", "judged": {"column": "by"}}, ([], None)),
        ({"x": [], "by": ALL}, {"column": "x", "judged": {"column": "by"}}, ([], None)),
        ({"x": [], "by": []}, {"column": "x", "judged": {"column": "by"}}, (None, None)),
        ({"A": 1, "B": "", "by": ["a", "b"]}, {"columns": ONE_EACH, "judged": {"column": "by"}}, (["a"],) * 2),
        # "no category applies" judges all labels of the mapping, and no others
        ({"A": "", "B": 0, "safe": 1}, {"columns": SAFE}, ([], ["a", "b"])),
        ({"A": 0, "B": 0, "safe": 0}, {"columns": SAFE}, (None, None)),
        ({"A": 1, "B": "", "safe": 0}, {"columns": SAFE}, (["a"], ["a"])),
        ({"A": "", "B": "", "safe": ""}, {"columns": SAFE, "blank": "none"}, ([], ["a", "b"])),
        # columns that the taxonomy has no label for
        ({"A": 0, "B": 0, "spam": ""}, {"columns": {"A": "a", "B": "b"}, "ignore": ["spam"]}, ([], ["a", "b"])),
        ({"A": 1, "B": "", "spam": 1}, {"columns": {"A": "a", "B": "b"}, "ignore": ["spam"]}, (["a"], ["a"])),
        ({"A": "", "B": "", "spam": 0}, {"columns": {"A": "a", "B": "b"}, "ignore": ["spam"]}, (None, None)),
        # judged says more or other labels
        ({"A": 1, "B": 0}, {"columns": {"A": "a", "B": "b"}, "judged": "all"}, (["a"], None)),
        ({"A": 1, "B": ""}, {"columns": {"A": "a", "B": "b"}, "judged": "all"}, (["a"], ["a", "c", "d", "e", "f"])),
        ({"A": 0, "B": 0}, {"columns": {"A": "a", "B": "b"}, "judged": ["e", "b", "a"]}, ([], ["a", "b", "e"])),
        # flags in one cell: a missing flag is a blank one
        ({"y": {"a": True, "b": False}}, {"column": "y", "form": "flags"}, (["a"], ["a", "b"])),
        ({"y": dict.fromkeys(ALL, 0)}, {"column": "y", "form": "flags"}, ([], None)),
        ({"y": {"a": 0}}, {"column": "y", "form": "flags", "blank": "none"}, ([], None)),
        ({"y": {"A": 0}}, {"column": "y", "form": "flags", "values": {"A": "a", "B": "b"}}, ([], ["a"])),
        # lists and texts
        ({"y": ["a"]}, {"column": "y"}, (["a"], None)),
        ({"y": []}, {"column": "y"}, ([], None)),
        ({"y": None}, {"column": "y"}, (None, None)),
        ({"y": ["A"]}, {"column": "y", "values": {"A": "a", "B": ["b", "c"]}}, (["a"], ["a", "b", "c"])),
        ({"y": []}, {"column": "y", "values": {"A": "a", "B": ["b", "c"]}}, ([], ["a", "b", "c"])),
        ({"y": []}, {"column": "y", "values": {"A": "a"}, "judged": "all"}, ([], None)),
        ({"y": "A"}, {"column": "y", "form": "text", "values": {"A": "a"}, "judged": ["a", "f"]}, (["a"], ["a", "f"])),
        ({"y": ""}, {"column": "y", "form": "text", "values": {"A": "a"}}, (None, None)),
        ({"y": ""}, {"column": "y", "form": "text", "values": {"A": "a"}, "blank": "none"}, ([], ["a"])),
        ({"y": "rude, A"}, {"column": "y", "form": "text", "separator": ",", "values": {"A": "a"}, "ignore": ["rude"]},
         (["a"], ["a"])),
    ],
)  # fmt: skip
def test_labels_and_judged_labels(cells: dict[str, Any], settings: dict[str, Any], expected: Any) -> None:
    assert judged(cells, **settings) == expected


def test_a_record_with_only_ignored_columns_is_left_out() -> None:
    assert read({"A": 0, "B": "", "spam": 1}, columns={"A": "a", "B": "b"}, ignore=["spam"]).only_ignored


LEFT_OUT, REFUSED = "left out", "refused"


def expected_of(
    row: dict[str, str], mapping: dict[str, Any], ignore: list[str], judged_setting: Any, blank: str
) -> Any:
    """The labels and judged labels by the rules of the documentation, one label at a time."""
    cells = {name: {"1": 1, "0": 0, "": None}[cell] for name, cell in row.items()}
    says_none = [name for name, ids in mapping.items() if ids is None]
    columns_of = {label: [name for name, ids in mapping.items() if ids is not None and label in ids] for label in ALL}
    positive = {label for label in ALL if any(cells[name] == 1 for name in columns_of[label])}
    ignored = any(cells[name] == 1 for name in ignore)
    none = any(cells[name] == 1 for name in says_none)
    if none and (positive or ignored):
        return REFUSED
    if all(cell is None for cell in cells.values()) and blank == "unlabelled":
        return None, None
    if ignored and not positive:
        return LEFT_OUT
    if not positive and not none and any(cells[name] == 0 for name in says_none):
        return None, None
    known = set()
    for label in ALL:
        if judged_setting == "all":
            asked = True
        elif judged_setting is None:
            asked = bool(columns_of[label])
        else:
            asked = label in judged_setting
        filled = blank == "none" or all(cells[name] is not None for name in columns_of[label])
        if asked and (label in positive or none or filled):
            known.add(label)
    if not known:
        return None, None
    return sorted(positive), None if len(known) == len(ALL) else sorted(known)


def test_random_rows_are_read_as_the_rules_say() -> None:
    rng = random.Random(20260705)
    seen: dict[str, int] = {}
    for _ in range(4000):
        mapping: dict[str, Any] = {}
        for at in range(rng.randint(1, 5)):
            mapping[f"column {at}"] = rng.sample(ALL, rng.choice((1, 1, 2, 3)))
        if rng.random() < 0.4:
            mapping["none of them"] = None
        ignore = ["other"] if rng.random() < 0.3 else []
        named = {label for ids in mapping.values() for label in ids or []}
        judged_setting = rng.choice((None, None, "all", sorted(named | set(rng.sample(ALL, 2)))))
        blank = rng.choice(("unlabelled", "unlabelled", "none"))
        weights = rng.choice(((1, 1, 1), (1, 6, 1), (1, 3, 6)))
        row = {name: rng.choices(("1", "0", ""), weights)[0] for name in [*mapping, *ignore]}
        expected = expected_of(row, mapping, ignore, judged_setting, blank)
        try:
            result = read(row, columns=mapping, ignore=ignore, judged=judged_setting, blank=blank)
        except InputError:
            outcome: Any = REFUSED
        else:
            outcome = LEFT_OUT if result.only_ignored else (result.labels, result.judged)
        assert outcome == expected, (row, mapping, ignore, judged_setting, blank)
        kind = expected if isinstance(expected, str) else "none" if expected[0] is None else str(expected[1] is None)
        seen[kind] = seen.get(kind, 0) + 1
    assert min(seen.get(kind, 0) for kind in (LEFT_OUT, REFUSED, "none", "True", "False")) > 100


def imported(rows: list[dict[str, Any]], **labels: Any) -> Conversion:
    mapping = Mapping.model_validate({"text": "text", "labels": labels})
    numbered = [(f"line {at}", {"text": f"text {at}", **row}) for at, row in enumerate(rows, start=1)]
    return convert(numbered, mapping, TAXONOMY, "d.csv")


def test_records_have_masks_and_partly_judged_ones_are_counted() -> None:
    rows = [{"A": 1, "B": 0}, {"A": "", "B": 0}, {"A": "", "B": ""}]
    result = imported(rows, columns={"A": "a", "B": "b"})
    assert [(record.labels, record.judged) for record in result.records] == [
        (["a"], ["a", "b"]),
        ([], ["b"]),
        (None, None),
    ]
    assert (result.counts["partly_labelled"], result.counts["unlabelled"]) == (1, 1)


def test_intended_labels_with_a_blank_column_are_unknown() -> None:
    """An empty list would say that the writer was asked for none: suggestions would show it."""
    rows = [{"A": 1, "B": 0}, {"A": 0, "B": ""}, {"A": 1, "B": ""}]
    result = imported(rows, columns={"A": "a", "B": "b"}, kind="intended")
    assert [record.labels for record in result.records] == [["a"], None, None]
    assert (result.counts["unlabelled"], result.counts["partly_labelled"]) == (2, 2)


def test_duplicates_with_other_masks_are_in_conflict() -> None:
    mapping = Mapping.model_validate(
        {"text": "text", "labels": {"columns": {"A": "a", "B": "b"}}, "duplicates": "first"}
    )
    rows = [{"text": "x", "A": 0, "B": 0}, {"text": "x", "A": 0, "B": ""}]
    result = convert([(str(at), row) for at, row in enumerate(rows)], mapping, TAXONOMY, "d.csv")
    assert (result.counts["duplicates"], result.counts["conflicting_duplicates"]) == (1, 1)


def test_a_key_that_some_rows_lack_was_not_judged_there() -> None:
    rows: list[dict[str, Any]] = [{"tags": {"A": True, "C": False}}, {"tags": {"B": False}}, {"tags": {}}]
    columns = {"tags.A": "a", "tags.B": "b", "tags.C": "c"}
    result = imported(rows, columns=columns)
    assert [(record.labels, record.judged) for record in result.records] == [
        (["a"], ["a", "c"]),
        ([], ["b"]),
        (None, None),
    ]
    assert result.absent == {"tags.A": 2, "tags.B": 2, "tags.C": 2}
    mapping = Mapping.model_validate({"text": "text", "labels": {"columns": columns}})
    warning = "3 label columns are absent from some rows or answers (6 cells, counted as blank): tags.B, tags.A, tags.C"
    assert warning in label_warnings(result, mapping, ALL)


def test_a_key_that_no_row_has_is_an_error() -> None:
    with pytest.raises(InputError) as caught:
        imported([{"A": 1}, {"A": 0}], columns={"A": "a", "BB": "b"})
    assert str(caught.value).startswith("d.csv: line 1: no column 'BB'; it has A, text (")


def test_the_text_may_not_be_absent() -> None:
    mapping = Mapping.model_validate({"text": "text", "labels": {"columns": {"A": "a"}}})
    with pytest.raises(InputError, match="line 2: no column 'text'"):
        convert([("line 1", {"text": "1", "A": 1}), ("line 2", {"A": 0})], mapping, TAXONOMY, "d.csv")


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"x": ["a"], "by": ["b"]}, "x: has the label 'a', which its judged labels leave out"),
        ({"x": [], "by": "b"}, "x: 'by' is 'b', expected a list of label ids, or null"),
        ({"x": [], "by": ["g"]}, "x: 'by': unknown label 'g'"),
    ],
)
def test_a_wrong_list_of_judged_labels_is_refused(cells: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        read(cells, column="x", judged={"column": "by"})


@pytest.mark.parametrize("optional", [True, False])
def test_a_row_without_the_column_of_judged_labels(optional: bool) -> None:
    mapping = Mapping.model_validate(
        {"text": "t", "labels": {"column": "x", "judged": {"column": "by", "optional": optional}}}
    )
    rows = [("line 1", {"t": "hello", "x": ["a"]})]
    if optional:
        (record,) = convert(rows, mapping, TAXONOMY, "file").records
        assert (record.labels, record.judged) == (["a"], None)
    else:
        with pytest.raises(InputError, match="no column 'by'"):
            convert(rows, mapping, TAXONOMY, "file")

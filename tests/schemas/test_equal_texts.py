"""Which texts count as equal, and what is reported about records that share one."""

from __future__ import annotations

import pytest

from marginalia.schemas.equal_texts import EqualTexts, equal_texts
from marginalia.schemas.tables import GoldRecord
from marginalia.schemas.text_equality import same_text


def key(text: str, role: str = "user") -> str:
    return same_text([{"role": role, "content": text}])


def equal_texts_of(
    *rows: tuple[str, str, list[str] | None, str], judged: dict[str, list[str]] | None = None
) -> EqualTexts:
    """The result for rows (id, text, labels, split). `judged`: id → judged labels; without an entry all were."""
    return equal_texts(
        GoldRecord.frame(
            [
                {
                    "id": name,
                    "messages": [{"role": "user", "content": text}],
                    "status": "final" if labels is not None else "needs_answers",
                    "labels": labels,
                    "soft_labels": [],
                    "votes": [],
                    "n_annotators": 0,
                    "agreement": None,
                    "method": "imported",
                    "adjudicated": False,
                    "split": split,
                    "judged": (judged or {}).get(name),
                }
                for name, text, labels, split in rows
            ]
        )
    )


@pytest.mark.parametrize(
    "other", ["Where is my parcel?", "  where   is\nMY parcel", "ＷＨＥＲＥ is my parcel!", "«where is my parcel»"]
)
def test_case_punctuation_white_space_and_width_do_not_matter(other: str) -> None:
    assert key("where is my parcel") == key(other)


@pytest.mark.parametrize(("first", "second"), [("a b", "ab"), ("🎉", "😡"), ("?", "!"), ("कि", "की"), ("1", "2")])
def test_other_words_make_another_text_and_so_do_other_signs_if_there_are_no_words(first: str, second: str) -> None:
    assert key(first) != key(second)


def test_roles_and_all_messages_count() -> None:
    question = {"role": "user", "content": "Hi"}
    assert same_text([question]) != same_text([question, {"role": "assistant", "content": "Ho"}])
    assert key("hi", "user") != key("hi", "assistant")
    assert same_text([question, {"role": "assistant", "content": "a"}]) != key("hi assistant a")


def test_conflicts_are_counted_among_records_with_labels_and_list_the_records() -> None:
    equal = equal_texts_of(
        ("a", "x", ["refund", "invoice"], "test"),
        ("b", "X!", ["invoice", "refund"], "test"),  # the same set
        ("c", "y", ["refund"], "test"),
        ("d", "y ", [], "test"),
        ("e", "Y", None, "test"),
        ("f", "z", None, "test"),
        ("g", "z", ["refund"], "calibration"),
        ("h", "alone", [], "test"),
    )
    assert (equal.texts, equal.records, equal.conflicting, equal.across_splits) == (3, 7, 1, 1)
    assert [(conflict.ids, conflict.labels) for conflict in equal.conflicts] == [(["c", "d"], [["refund"], []])]
    assert equal.warnings == [
        "1 text has different labels in different records, first c: refund, d: none",
        "1 text is in more than one split, so fitted maps and thresholds are judged on seen texts",
    ]
    assert equal.counts == {"records_with_equal_texts": 7, "texts_labelled_differently": 1}


def test_distinct_texts_give_no_counts_and_no_warnings() -> None:
    equal = equal_texts_of(("a", "x", ["refund"], "test"), ("b", "y", [], "calibration"))
    assert (equal.texts, equal.counts, equal.warnings) == (0, {}, [])
    assert equal_texts_of().texts == 0


def test_labels_conflict_only_where_both_records_were_judged() -> None:
    """b was not judged on x, so it does not contradict a; d was, and the text of e and f has no label in common."""
    equal = equal_texts_of(
        ("a", "late", ["x"], "test"),
        ("b", "late", [], "test"),
        ("c", "lost", ["x"], "test"),
        ("d", "lost", [], "test"),
        ("e", "gone", ["y"], "test"),
        ("f", "gone", ["x"], "test"),
        ("g", "lost", [], "test"),
        judged={"b": ["y"], "d": ["x"], "e": ["y"], "f": ["x"], "g": ["y"]},
    )
    assert (equal.texts, equal.conflicting) == (3, 1)
    assert [(conflict.ids, conflict.labels) for conflict in equal.conflicts] == [(["c", "d"], [["x"], []])]
    assert equal.warnings == ["1 text has different labels in different records, first c: x, d: none"]

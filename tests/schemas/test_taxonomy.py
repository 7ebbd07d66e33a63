"""Taxonomies: errors with line and nearest id, and what the project relies on in the shipped ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from marginalia.schemas.errors import InputError
from marginalia.schemas.taxonomy import SHIPPED, Taxonomy, load_taxonomy

HEAD = 'id: mine\nversion: "1"\ntitle: Mine\nsubject: texts\n'


def label(label_id: str, name: str | None = None, more: str = "") -> str:
    return f"  - {{id: {label_id}, name: {name or label_id.upper()}, definition: About it.{more}}}\n"


def taxonomy(tmp_path: Path, labels: str, more: str = "") -> Taxonomy:
    path = tmp_path / "t.yaml"
    path.write_text(f"{HEAD}labels:\n{labels}{more}", encoding="utf-8")
    return load_taxonomy("t.yaml", relative_to=tmp_path)


def error_of(tmp_path: Path, labels: str, more: str = "") -> str:
    with pytest.raises(InputError) as caught:
        taxonomy(tmp_path, labels, more)
    assert caught.value.hint  # the whole message: tests/bad_input
    return caught.value.message.removeprefix(f"{tmp_path / 't.yaml'}: ")


@pytest.mark.parametrize(
    ("labels", "more", "message"),
    [
        (label("a") + label("b") + label("a", "Other"), "", "line 8: duplicate label id 'a'"),
        (label("a", "Same") + label("b", "same"), "", "line 7: two answers are named 'same'"),
        (label("a", "None of these"), "", "line 6: two answers are named 'none of these'"),
        (label("unsafe"), "", "line 6: label id 'unsafe' is reserved; rename it"),
        (label("safe"), "", "line 6: label id 'safe' is reserved; rename it"),
        (label("none"), "", "line 6: label id 'none' is reserved; rename it"),
        (label("abc", more=", parent: abd") + label("abe"), "",
         "line 6: label 'abc' has the unknown parent 'abd'; did you mean 'abe'?"),
        (label("a", more=", parent: b") + label("b", more=", parent: c") + label("c", more=", parent: a"), "",
         "line 6: parents form a cycle: a → b → c → a"),
        (label("a", more=", parent: a"), "", "line 6: parents form a cycle: a → a"),
        (label("abc") + label("xyz"), "forbidden_pairs: [[abd, xyz]]\n",
         "line 8: forbidden_pairs: unknown label 'abd'; did you mean 'abc'?"),
        (label("a"), "forbidden_pairs: [[a, a]]\n", "line 7: forbidden_pairs: 'a' is paired with itself"),
        ("  []\n", "", "line 5: labels: List should have at least 1 item after validation, not 0"),
        (label("A"), "", "line 6: labels.0.id: String should match pattern '^[a-z0-9][a-z0-9_-]{0,63}$'"),
        (label("a/b"), "", "line 6: labels.0.id: String should match pattern '^[a-z0-9][a-z0-9_-]{0,63}$'"),
        (label("a", more=", defnition: x"), "", "line 6: unknown key 'defnition'; did you mean 'definition'?"),
        (label("a", more=", generation: never"), "",
         "line 6: labels.0.generation: Input should be 'allowed' or 'withheld', saw 'never'"),
    ],
)  # fmt: skip
def test_every_error_is_reported(tmp_path: Path, labels: str, more: str, message: str) -> None:
    assert error_of(tmp_path, labels, more) == message


def test_a_chain_of_parents_is_no_cycle(tmp_path: Path) -> None:
    loaded = taxonomy(tmp_path, label("a") + label("b", more=", parent: a") + label("c", more=", parent: b"))
    assert [item.parent for item in loaded.labels] == [None, "a", "b"]


def test_labels_are_listed_after_their_parents(tmp_path: Path) -> None:
    labels = (("c", ", parent: b"), ("x", ""), ("a", ""), ("b", ", parent: a"), ("d", ", parent: a"), ("y", ""))
    loaded = taxonomy(tmp_path, "".join(label(name, more=more) for name, more in labels))
    assert [(item.id, depth) for item, depth in loaded.listed] == [
        ("x", 0), ("a", 0), ("b", 1), ("c", 2), ("d", 1), ("y", 0)
    ]  # fmt: skip
    assert {name: [item.id for item in group] for name, group in loaded.groups.items()} == {
        loaded.label("a").name: ["a", "b", "c", "d"]
    }
    assert loaded.ids == ["c", "x", "a", "b", "d", "y"]  # the order of files


def test_without_parents_labels_are_listed_as_they_are(tmp_path: Path) -> None:
    loaded = taxonomy(tmp_path, label("b") + label("a"))
    assert ([(item.id, depth) for item, depth in loaded.listed], loaded.groups) == ([("b", 0), ("a", 0)], {})


def test_allowed_pairs_are_those_of_writable_labels_that_are_not_forbidden(tmp_path: Path) -> None:
    labels = label("a") + label("b") + label("c") + label("d", more=", generation: withheld")
    loaded = taxonomy(tmp_path, labels, "forbidden_pairs: [[c, a]]\n")
    assert loaded.writable == ["a", "b", "c"]
    assert loaded.allowed_pairs() == [("a", "b"), ("b", "c")]


def test_the_error_for_an_unknown_label_names_the_nearest(tmp_path: Path) -> None:
    loaded = taxonomy(tmp_path, label("refund") + label("invoice"))
    assert loaded.require("refund", "x") == "refund"
    with pytest.raises(InputError) as caught:
        loaded.require("refnud", "data.jsonl: line 3")
    assert str(caught.value) == "data.jsonl: line 3: unknown label 'refnud'; did you mean 'refund'?"


def test_an_unknown_taxonomy_lists_the_shipped_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_taxonomy("lama-guard-3", relative_to=tmp_path)
    assert str(caught.value) == (
        "no taxonomy 'lama-guard-3'; did you mean 'llama-guard-3'? (shipped: llama-guard-2, llama-guard-3, "
        "support-tickets; or give the path of a .yaml file)"
    )


@pytest.mark.parametrize("name", [path.stem for path in SHIPPED.glob("*.yaml")])
def test_a_shipped_taxonomy_is_complete(name: str) -> None:
    loaded = load_taxonomy(name)
    assert loaded.id == name
    for item in loaded.labels:
        assert item.includes, f"{item.id} has no includes"
        assert item.excludes, f"{item.id} has no excludes"
        assert (item.generation == "withheld") == (not item.examples), item.id
    examples = [text for item in loaded.labels for text in item.examples]
    assert len(set(examples)) == len(examples)


def test_the_harmless_taxonomy_has_about_twelve_topics_with_varied_examples() -> None:
    loaded = load_taxonomy("support-tickets")
    assert len(loaded.labels) == 12
    assert loaded.writable == loaded.ids
    assert all(3 <= len(item.examples) <= 4 for item in loaded.labels)


def test_the_hazards_are_llama_guards_in_its_order_and_the_same_id_means_the_same() -> None:
    three, two = load_taxonomy("llama-guard-3"), load_taxonomy("llama-guard-2")
    assert three.ids == [
        "violent_crimes", "non_violent_crimes", "sex_related_crimes", "child_sexual_exploitation", "defamation",
        "specialized_advice", "privacy", "intellectual_property", "indiscriminate_weapons", "hate",
        "suicide_self_harm", "sexual_content", "elections", "code_interpreter_abuse",
    ]  # fmt: skip
    absent = {"defamation", "elections", "code_interpreter_abuse"}
    assert two.ids == [label_id for label_id in three.ids if label_id not in absent]
    for label_id in two.ids:
        assert two.label(label_id) == three.label(label_id)


@pytest.mark.parametrize("name", ["llama-guard-2", "llama-guard-3"])
def test_no_model_writes_texts_for_child_sexual_exploitation(name: str) -> None:
    loaded = load_taxonomy(name)
    withheld = loaded.label("child_sexual_exploitation")
    assert (withheld.generation, withheld.examples) == ("withheld", [])
    assert withheld.id not in loaded.writable
    assert not [pair for pair in loaded.allowed_pairs() if withheld.id in pair]
    assert loaded.content_notice
    assert [item.id for item in loaded.labels if item.generation == "withheld"] == [withheld.id]

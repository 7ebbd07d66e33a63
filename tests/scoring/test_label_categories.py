"""`categories`: which of a guard's categories each label of a policy consists of, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from marginalia.schemas.errors import InputError
from marginalia.schemas.taxonomy import Taxonomy
from marginalia.scoring.coverage_text import coverage_lines
from marginalia.scoring.guard import Guard, load_guard
from marginalia.scoring.label_categories import CategoriesError, LabelCategories, load_categories

POLICY = Taxonomy.model_validate(
    {
        "id": "house-rules",
        "version": "1",
        "title": "House rules",
        "subject": "texts",
        "labels": [
            {"id": label, "name": label.title(), "definition": "x"}
            for label in ("hate", "slurs", "violence", "money", "spam")
        ],
    }
)
GOOD = {
    "violence": ["S1", "indiscriminate_weapons"],
    "hate": {"any_of": ["hate"]},
    "slurs": {"part_of": ["S10"]},
    "money": {"any_of": ["specialized_advice"], "part_of": ["non_violent_crimes"]},
}


def guard_of(categories: Any, guard: str = "llama-guard-3") -> Guard:
    return load_guard(guard, POLICY, categories=LabelCategories.model_validate(categories))


def test_labels_are_those_of_the_policy_and_the_prompt_is_the_guards_own() -> None:
    guard = guard_of(GOOD)
    assert guard.rows == ("hate", "slurs", "violence", "money", "unsafe")
    assert guard.categories == load_guard("llama-guard-3").categories
    assert guard.coverage is not None
    assert {label.label: label.kind for label in guard.coverage.labels} == {
        "hate": "exact",
        "slurs": "bounds",
        "violence": "union",
        "money": "bounds",
    }
    assert guard.coverage.labels[2].any_of == ["violent_crimes", "indiscriminate_weapons"]
    assert guard.coverage.not_covered == ["spam"]
    assert "elections" in guard.coverage.unused and "hate" not in guard.coverage.unused


def test_what_is_covered_is_printed_to_the_width_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    guard = guard_of(GOOD)
    assert guard.coverage is not None
    lines = coverage_lines("lg3", guard.coverage)
    assert lines[:5] == [
        "lg3 covers 4 of 5 labels",
        "  exact        hate",
        "  union        violence = violent_crimes or indiscriminate_weapons",
        "  only bounds  slurs = a part of hate; money = specialized_advice or a part of",
        "               non_violent_crimes",
    ]
    assert lines[5] == "  not covered  spam"
    assert lines[6].startswith("  not used     its categories sex_related_crimes, ")
    assert all(len(line) <= 80 for line in lines)


LINES = {
    "hate: hate": "line 1: 'hate': expected a list of categories, such as [hate]",
    "spam: [S1]\nhate:": "line 2: 'hate': expected a list of categories (write label: [category, …]",
    "hate: []": "line 1: 'hate': expected a list of at least one category",
    "hate: {}": "line 1: 'hate' names no category of the guard (leave the label out)",
    "hate:\n  anyof: [S1]": "line 2: 'hate' has the unknown key 'anyof'; did you mean 'any_of'?",
    "hate:\n  any_of:\n    - S1\n    - 7": "line 4: 'hate': 7 is not text: put it in quotes",
    "hate: [hate]\nhatte: [S1]": "line 2: categories: the policy has no label 'hatte'; did you mean 'hate'?",
    "hate: [hate]\nxxxxx: [S1]": "has no label 'xxxxx'; it has: hate, slurs, violence, money, spam",
    "violence:\n  any_of:\n  - S1\n  - violent_crime": (
        "line 4: categories: guard llama-guard-3 has no category 'violent_crime'; did you mean 'violent_crimes'? "
        "(it has: violent_crimes (S1), "
    ),
    "hate: [S10, hate]": "'hate' names the category 'hate' twice",
    "hate: {any_of: [S10], part_of: [hate]}": "'hate': 'hate' is in any_of and in part_of",
    "hate: [S10]\nslurs: [hate]": (
        "line 2: categories: 'hate' and 'slurs' name the same category 'hate' (for each of them, choose: "
        "{part_of: [hate]} if 'hate' is wider than the label, which then gets only bounds, or {any_of: [hate]} if all "
        "of 'hate' belongs to the label)"
    ),
    "hate: [S10]\nslurs: {part_of: [hate]}": "line 1: categories: 'hate' and 'slurs' name the same category 'hate'",
}


@pytest.mark.parametrize("text", LINES)
def test_errors_name_the_line_and_what_was_meant(tmp_path: Path, text: str) -> None:
    path = tmp_path / "categories.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as raised:
        load_guard("llama-guard-3", POLICY, categories=str(path))
    assert str(raised.value).startswith(f"{path}: ")
    assert LINES[text] in str(raised.value)


def test_a_name_that_is_one_category_s_id_and_another_s_code_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "id: own\nversion: '1'\ntitle: T\nsubject: texts\nlabels:\n"
        "- {id: a, name: A, definition: x}\n- {id: b, name: B, definition: x}\n"
    )
    guard = tmp_path / "g.yaml"
    guard.write_text(
        "guard: g\ntitle: T\nsource: test\ntaxonomy: own.yaml\nlabels: {a: b, b: c}\n"
        "prompt: {message: '{{ conversation[-1].content }}'}\nanswer:\n- [ok]\n- [{verdict: 'no'}, {labels: [',']}]\n"
    )
    assert guard_of({"hate": ["c"]}, str(guard)).coverage.labels[0].any_of == ["b"]  # type: ignore[union-attr]
    with pytest.raises(CategoriesError, match="'b' may mean 'a' \\(code b\\) and 'b' \\(code c\\)"):
        guard_of({"hate": ["b"]}, str(guard))


def test_a_policy_is_needed_and_a_guard_with_categories_of_its_own() -> None:
    categories = LabelCategories.model_validate({"hate": ["hate"]})
    with pytest.raises(InputError, match="categories needs the policy's taxonomy \\(give it with --taxonomy"):
        load_guard("llama-guard-3", categories=categories)
    with pytest.raises(InputError, match=r"instruct\.yaml: has no categories of its own"):
        load_guard("instruct", POLICY, categories=categories)


def test_a_taxonomy_with_other_ids_names_the_setting_that_maps_them() -> None:
    with pytest.raises(InputError, match="categories says which of its labels mean those of your policy"):
        load_guard("llama-guard-3", POLICY)


def test_inline_and_in_a_file_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "categories.yaml"
    path.write_text("violence: [S1, S9]\nslurs:\n  part_of: [hate]\n")
    inline = LabelCategories.model_validate({"violence": ["S1", "S9"], "slurs": {"part_of": ["hate"]}})
    assert load_categories(path) == inline
    assert guard_of(inline.model_dump()).covered == load_guard("llama-guard-3", POLICY, categories=str(path)).covered

"""Guard files of other kinds: what is shipped, what is refused, and which commands take them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from openai.types.moderation import Categories

from marginalia.schemas.errors import InputError
from marginalia.schemas.taxonomy import load_taxonomy
from marginalia.scoring.guard import SHIPPED, load_guard
from marginalia.scoring.guard_kinds import GENERATIVE, kind_of
from marginalia.scoring.score_sources.source_file import load_source_file
from marginalia.scoring.score_sources.source_guard import SourceGuard, load_any_guard
from tests.scoring.score_sources.numbers import write_guard

OTHER = {path.stem: kind_of(path) for path in sorted(SHIPPED.glob("*.yaml")) if kind_of(path) != GENERATIVE}


@pytest.mark.parametrize("name", OTHER)
def test_shipped_files_say_where_their_texts_were_seen(name: str) -> None:
    file = load_source_file(SHIPPED / f"{name}.yaml", OTHER[name])
    assert file.guard == name
    assert file.title and file.source and file.licence and file.judges
    assert file.confirmed is not None and file.confirmed.prompt and file.confirmed.answer


@pytest.mark.parametrize("name", OTHER)
def test_shipped_files_load(name: str) -> None:
    taxonomy = load_taxonomy("support-tickets") if OTHER[name] in ("systemone", "decisions") else None
    guard = load_any_guard(name, taxonomy)
    assert isinstance(guard, SourceGuard)
    assert guard.rows[-1] == "unsafe" and len(guard.rows) > 1


def test_the_moderation_file_has_all_categories_of_openai() -> None:
    guard = load_any_guard("openai-moderation")
    names = [field.alias or name for name, field in Categories.model_fields.items()]
    assert sorted(category.code for category in guard.categories) == sorted(names)


@pytest.mark.parametrize("name", OTHER)
def test_commands_about_prompts_and_answers_refuse_them(name: str) -> None:
    with pytest.raises(InputError) as raised:
        load_guard(name, load_taxonomy("support-tickets"))
    assert f"a guard of kind {OTHER[name]} only gives scores" in str(raised.value)


def test_facts_do_not_change_numbers() -> None:
    guard = load_any_guard("openai-moderation")
    assert isinstance(guard, SourceGuard)
    assert not {"licence", "confirmed", "title", "source", "judges"} & guard.identity["guard"].keys()


@pytest.mark.parametrize(
    ("kind", "keys", "message"),
    [
        ("moderation", {}, "unknown kind 'moderation'; did you mean 'moderations'?"),
        ("moderations", {}, "key 'labels' is missing"),
        ("moderations", {"labels": {"hat": "hate"}}, "label 'hat' is not in the taxonomy two; did you mean 'hate'?"),
        ("moderations", {"labels": {"hate": "x", "violence": "x"}}, "'violence' has the same name as 'hate': x"),
        ("moderations", {"labels": {"hate": "x"}, "question": "?"}, "unknown key 'question'"),
        ("classifier", {"labels": {"hate": True}}, "labels.hate"),
        ("classifier", {"labels": {"hate": 1}, "safe": 0, "unsafe": 1}, "give either 'safe' or 'unsafe'"),
        ("classifier", {"labels": {"hate": 1}, "activation": "relu"}, "activation"),
        ("systemone", {"labels": {"hate": 1}}, "labels.hate"),
        ("systemone", {"prompt": {"message": "x"}}, "unknown key 'prompt'"),
        ("systemone", {"question": "{{ category"}, "question: the template does not parse"),
        ("decisions", {"unsafe": "{% if %}"}, "unsafe: the template does not parse"),
        ("classifier", {"labels": {"hate": 1}, "input": "{{ }}"}, "input: the template does not parse"),
    ],
)
def test_errors_name_the_line(tmp_path: Path, kind: str, keys: dict[str, Any], message: str) -> None:
    path = write_guard(tmp_path, kind, **keys)
    with pytest.raises(InputError) as raised:
        load_any_guard(str(path))
    assert f"{path}: line " in str(raised.value)
    assert message in str(raised.value)


def test_a_file_of_three_lines(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("kind: classifier\nlabels: {refund: 1}\nsafe: 0\n")
    guard = load_any_guard(str(path), load_taxonomy("support-tickets"))
    assert guard.name == "mine"
    assert guard.rows == ("refund", "unsafe")


def test_the_kind_generative_may_be_written(tmp_path: Path) -> None:
    content = yaml.safe_load((SHIPPED / "wildguard.yaml").read_text())
    content["taxonomy"] = str(SHIPPED / content["taxonomy"])
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "b.yaml").write_text(yaml.safe_dump({"kind": "generative", **content}))
    plain, named = (load_guard(str(tmp_path / name)) for name in ("a.yaml", "b.yaml"))
    assert plain.file.model_dump() == named.file.model_dump()

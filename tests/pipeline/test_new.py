"""`marginalia new` and `config --explain`: made from the models, never over an existing run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from marginalia.pipeline.commands.new_run import CHOSEN, HIDDEN, YOUR_ENDPOINT, explain, new_run, run_config
from marginalia.pipeline.config.config_text import known_keys, section_of
from marginalia.pipeline.config.run_config import Config, load_config
from marginalia.pipeline.core.run import open_run
from marginalia.schemas.errors import InputError
from marginalia.schemas.taxonomy import SHIPPED


def keys_of(model: type[BaseModel], path: str = "") -> list[str]:
    keys = []
    for name, field in model.model_fields.items():
        inner = section_of(field)
        keys += keys_of(inner, f"{path}{name}.") if inner else [path + name]
    return keys


@pytest.mark.parametrize("taxonomy", ["support-tickets", "llama-guard-3", "llama-guard-2"])
def test_a_new_run_opens_with_its_own_taxonomy(tmp_path: Path, taxonomy: str) -> None:
    folder = new_run("refunds", taxonomy, root=tmp_path)
    run = open_run(folder)
    assert run.taxonomy_path == folder / "taxonomy.yaml"
    assert (folder / "taxonomy.yaml").read_bytes() == (SHIPPED / f"{taxonomy}.yaml").read_bytes()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["config.yaml", "refunds", "taxonomy.yaml"]


def test_a_content_safety_run_is_ready_for_the_users_endpoint_argilla_and_guard(tmp_path: Path) -> None:
    config = open_run(new_run("safety", "llama-guard-3", root=tmp_path)).config
    assert config.generate.endpoint.base_url == "http://127.0.0.1:8000/v1"
    assert [(guard.guard, guard.model) for guard in config.score.guards] == [
        ("llama-guard-3", "meta-llama/Llama-Guard-3-8B")
    ]
    assert config.annotation.url is None
    assert not config.simulated


def test_an_existing_run_is_left_as_it_is(tmp_path: Path) -> None:
    folder = new_run("refunds", "support-tickets", root=tmp_path)
    (folder / "config.yaml").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        new_run("refunds", "support-tickets", root=tmp_path)
    assert str(caught.value) == f"{folder} exists already; nothing was changed (choose another name)"
    assert (folder / "config.yaml").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a b", "x" * 65])
def test_only_plain_names_become_folders(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="is not a valid run name"):
        new_run(name, "support-tickets", root=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_run_for_the_own_taxonomy_of_a_guard_gets_that_guard(tmp_path: Path) -> None:
    run = open_run(new_run("refusals", "wildguard", root=tmp_path))
    assert run.taxonomy.ids == ["harmful_request", "response_refusal", "harmful_response"]
    assert [(guard.guard, guard.model) for guard in run.config.score.guards] == [("wildguard", "allenai/wildguard")]


def test_an_unknown_taxonomy_leaves_nothing_and_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no taxonomy 'support-ticket'; did you mean 'support-tickets'"):
        new_run("refunds", "support-ticket", root=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_taxonomy_of_ones_own_is_copied_with_its_comments(tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text(
        "# my policy\nid: mine\nversion: '1'\ntitle: Mine\nsubject: texts\n"
        "labels:\n  - {id: a, name: A, definition: An a.}\n",
        encoding="utf-8",
    )
    folder = new_run("run", str(own), root=tmp_path / "runs")
    assert (folder / "taxonomy.yaml").read_text(encoding="utf-8") == own.read_text(encoding="utf-8")
    assert open_run(folder).taxonomy.ids == ["a"]


def test_every_key_is_in_the_config_once_with_its_default(tmp_path: Path) -> None:
    text = run_config("support-tickets", "all")
    path = tmp_path / "config.yaml"
    path.write_text(re.sub(r"^( *(?:- )?)#(?! \S)", r"\1", text, flags=re.MULTILINE), encoding="utf-8")
    everything = load_config(path)
    defaults = Config(taxonomy="taxonomy.yaml")
    assert everything.model_copy(update={"score": defaults.score}) == defaults
    assert everything.score.model_copy(update={"guards": []}) == defaults.score
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    for key in keys_of(Config):
        if key.partition(".")[0] not in HIDDEN:
            at = written
            for part in key.split("."):
                assert part in at, key
                at = at[part]
    assert not [key for key in HIDDEN if key in written]


def test_every_chosen_key_exists() -> None:
    assert sorted({*CHOSEN, *YOUR_ENDPOINT} - set(keys_of(Config))) == []
    assert sorted(set(HIDDEN) - set(Config.model_fields)) == []


def test_every_key_of_the_config_is_described() -> None:
    for key in keys_of(Config):
        lines = explain(key).split("\n")
        assert not lines[1].startswith("  type:"), f"{key} has no description"


def test_explain_says_type_default_and_every_place() -> None:
    assert explain("annotators") == (
        "annotation.annotators\n"
        "  answers that each record needs before Argilla takes it out of the queues\n"
        "  type: whole number ≥ 1\n"
        "  default: 3"
    )
    assert "type: one of manual, auto, open" in explain("release.gated")
    assert "none (required)" in explain("taxonomy")
    assert explain("model").startswith("generate.endpoint.model\n")
    assert "\n\nscore.guards.model\n" in explain("model")
    assert "keys: name, guard, model" in explain("score.guards")


def test_without_a_key_all_are_listed_one_line_each() -> None:
    lines = explain(None).split("\n")
    assert [line.split()[0] for line in lines] == list(dict.fromkeys(line.split()[0] for line in lines))
    assert {line.split()[0] for line in lines} == known_keys(Config)
    near_misses = next(line for line in lines if line.startswith("plan.near_misses "))  # not cut off
    assert near_misses.endswith("they show how often a guard raises a false alarm on difficult texts")
    assert next(line for line in lines if line.startswith("seed ")).endswith("  seed of all random choices of the run")


def test_an_unknown_key_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError) as caught:
        explain("anotators")
    assert str(caught.value) == "unknown key 'anotators'; did you mean 'annotators'?"


def test_a_misspelt_key_in_a_config_is_named_with_its_line(tmp_path: Path) -> None:
    folder = new_run("refunds", "support-tickets", root=tmp_path)
    path = folder / "config.yaml"
    text = path.read_text(encoding="utf-8").replace("  annotators:", "  annotater:")
    path.write_text(text, encoding="utf-8")
    line = text.split("\n").index("  annotater: 3") + 1
    with pytest.raises(InputError) as caught:
        open_run(folder)
    assert str(caught.value) == (
        f"{path}: line {line}: unknown key 'annotater'; did you mean 'annotators'? "
        "(marginalia config --explain annotators)"
    )

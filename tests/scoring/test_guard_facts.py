"""`marginalia guards list` and `marginalia guards show`."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from marginalia.pipeline.commands.cli import app
from marginalia.scoring.guard import SHIPPED
from marginalia.scoring.guard_facts import shipped_guards


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["guards", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_list_has_every_shipped_file() -> None:
    names = {path.stem for path in SHIPPED.glob("*.yaml")}
    assert len(names) >= 28
    rows = run("list").splitlines()
    assert rows[0].split() == ["name", "answer", "categories", "judges", "reasons", "confirmed"]
    assert {row.split()[0] for row in rows[1:]} == names
    listed = {one["name"]: one for one in json.loads(run("list", "--json"))}
    assert listed.keys() == names
    assert listed["gpt-oss-safeguard"]["reasons"] is True
    assert listed["kanana-safeguard"]["prompt_seen"] is None
    assert listed["kanana-safeguard"]["confirmed"] == "answer"
    assert listed["llama-guard-3"]["answer"] == "verdict, list of categories"
    assert listed["polyguard"]["answer"] == "3 questions, 2 lists of categories"


def test_what_is_not_confirmed_is_shown() -> None:
    """A file without any confirmed text says what it was written from."""
    for one in shipped_guards():
        assert one.licence, one.name
        assert one.confirmed != "no" or one.note, one.name


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["llama-guard-3"], ["S10  hate  Hate", "<BEGIN CONVERSATION>", "User: What is the capital of France?"]),
        (
            ["granite-guardian-4-1"],
            ["one call per label: the first", "### Criteria: Social bias reflects", "[user message]"],
        ),
        (["dynaguard", "--taxonomy", "support-tickets"], ["[system message]", "[the answer begins with] <answer>"]),
        (["nemotron-3-5"], ["the tokenizer's chat template, with the arguments", "request_categories"]),
        (["openai-moderation"], ["scores of a moderation endpoint", "self-harm/intent"]),
        (["decisions"], ["all labels of the taxonomy, by their names"]),
    ],
)
def test_show(arguments: list[str], shown: list[str]) -> None:
    text = run("show", *arguments)
    assert text.startswith(f"{arguments[0]}: ")
    for part in shown:
        assert part in text

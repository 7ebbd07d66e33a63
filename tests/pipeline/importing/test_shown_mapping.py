"""`marginalia import --show-mapping` prints shipped mappings, without a run."""

from __future__ import annotations

import re

from typer.testing import CliRunner

from marginalia.pipeline.commands.cli import app
from marginalia.pipeline.importing.column_mapping import SHIPPED, Annotators, LabelColumn, Mapping


def shown(name: str) -> str:
    done = CliRunner().invoke(app, ["import", "--show-mapping", name])
    assert done.exit_code == 0, done.stderr
    return done.stdout


def test_a_mapping_is_printed_as_it_is_shipped() -> None:
    for path in SHIPPED.glob("*.yaml"):
        assert shown(path.stem) == path.read_text(encoding="utf-8")


def test_all_names_are_listed_with_their_titles() -> None:
    lines = [line.split(maxsplit=1) for line in shown("all").splitlines()]
    assert sorted(name for name, _ in lines) == sorted(path.stem for path in SHIPPED.glob("*.yaml"))
    assert dict(lines)["records"] == "own records"


def test_the_default_mapping_names_every_key() -> None:
    text = shown("records")
    keys = {name for model in (Mapping, LabelColumn, Annotators) for name in model.model_fields} - {"source"}
    assert {key for key in keys if not re.search(rf"\b{key}:? ", text)} == set()

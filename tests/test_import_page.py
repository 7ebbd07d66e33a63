"""docs/import.md: its commands print what it shows, and its tables have every key and every mapping."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from marginalia.pipeline.importing.column_mapping import SHIPPED, Annotators, HubSource, LabelColumn, Mapping
from marginalia.schemas.sources.file_format import FileFormat
from tests.tutorial import ROOT, form, printed, save, steps

PAGE = ROOT / "docs/import.md"
OWN = {"records", "paper-llama-guard-2", "paper-llama-guard-3"}  # mappings that are not of public sets
SECTIONS = {"labels": LabelColumn, "annotators": Annotators, "files": FileFormat, "hub": HubSource}


def rows_of(heading: str) -> list[list[str]]:
    """The cells of the table under a heading, without its first two lines."""
    section = PAGE.read_text("utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


@pytest.mark.slow
def test_the_commands_print_what_the_page_shows(tmp_path: Path) -> None:
    """Without their numbers."""
    for step in steps(PAGE):
        if step.path is not None:
            save(step, tmp_path)
        else:
            assert form(printed(step.text, tmp_path)) == form(step.shown), step.text


def test_the_table_of_keys_is_complete() -> None:
    keys = {key for cells in rows_of("The mapping language") for key in re.findall(r"`([\w.]+)`", cells[0])}
    top = {key for key in Mapping.model_fields if key not in SECTIONS}
    inside = {f"{name}.{key}" for name, model in SECTIONS.items() for key in model.model_fields}
    assert keys == top | inside


@pytest.mark.parametrize("row", rows_of("The mapping language"), ids=lambda row: row[0])
def test_the_examples_of_the_keys_are_valid(row: list[str]) -> None:
    found: dict[str, Any] = yaml.safe_load(row[1].strip("`"))
    base: dict[str, Any] = {"labels": {"column": "tags"}}
    if "messages" not in found:
        base["text"] = "text"
    Mapping.model_validate(base | found)
    for key in re.findall(r"`([\w.]+)`", row[0]):
        section, _, name = key.rpartition(".")
        part = found[section] if section else found
        assert name in {str(word).lower() for word in part}


def test_every_mapping_of_a_public_set_is_listed_with_its_taxonomy() -> None:
    listed = {}
    for _, mappings, taxonomies, *_ in rows_of("Public data sets"):
        names, ids = re.findall(r"`([\w-]+)`", mappings), re.findall(r"[a-z][a-z0-9-]+", taxonomies)
        listed |= {name: ids[min(at, len(ids) - 1)] for at, name in enumerate(names)}
    heads = {path.stem: path.read_text("utf-8") for path in SHIPPED.glob("*.yaml") if path.stem not in OWN}
    taxonomies_of = {name: re.findall(r"^# Taxonomy: ([\w-]+)", head, re.MULTILINE)[0] for name, head in heads.items()}
    assert listed == taxonomies_of

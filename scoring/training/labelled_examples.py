"""The labelled example messages that the demo guard is trained and measured on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from marginalia.schemas.base_model import StrictModel
from marginalia.schemas.errors import InputError
from marginalia.schemas.storage.files import read_text
from marginalia.schemas.taxonomy import Taxonomy

Split = Literal["train", "held_out"]


class Example(StrictModel):
    """One line of the examples file. `labels`: taxonomy ids in taxonomy order; empty when no topic applies."""

    id: str
    text: str = Field(min_length=1)
    labels: list[str]
    split: Split


def read_examples(path: Path, taxonomy: Taxonomy) -> list[Example]:
    """All examples of a JSON Lines file.

    Raises InputError, with file and line, for an invalid line, a duplicate id, a label that is not in the taxonomy, or
    labels that are not in its order."""
    examples: list[Example] = []
    seen: set[str] = set()
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        where = f"{path}:{number}"
        try:
            example = Example.model_validate(json.loads(line))
        except (json.JSONDecodeError, ValidationError) as error:
            raise InputError(f"{where}: not an example: {error}") from error
        if example.id in seen:
            raise InputError(f"{where}: duplicate id '{example.id}'")
        for label in example.labels:
            taxonomy.require(label, where)
        if example.labels != [label for label in taxonomy.ids if label in example.labels]:
            raise InputError(f"{where}: expected each label once, in taxonomy order; found {example.labels}")
        seen.add(example.id)
        examples.append(example)
    return examples

"""What `import --suggest` prints: some records as the suggested mapping would import them, and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from marginalia.pipeline.importing.class_labels import with_classes
from marginalia.pipeline.importing.column_mapping import EDIT, Mapping
from marginalia.pipeline.importing.import_preview import examples
from marginalia.pipeline.importing.import_source import ImportSource
from marginalia.pipeline.importing.row_conversion import convert
from marginalia.pipeline.importing.suggested_mapping import Suggestion
from marginalia.schemas.errors import MarginaliaError
from marginalia.schemas.taxonomy import Taxonomy
from marginalia.schemas.terminal import wrapped
from marginalia.schemas.text_checks import one_line

EXAMPLE_ROWS = 2_000  # that the examples are taken from
SHOWN_THRESHOLD = 0.5  # in the examples, where the threshold is still to be set


def shown_examples(suggestion: Suggestion, taxonomy: Taxonomy | None) -> list[str]:
    """Blocks of lines: some records as they would be imported, with the lines to edit left out; or why there are
    none."""
    if taxonomy is None:
        return ["no examples: give --taxonomy NAME or --run FOLDER"]
    try:
        mapping = with_classes(_without_questions(suggestion.text), suggestion.files.facts[0].path)
        rows = islice(ImportSource(suggestion.files, [], mapping, "").rows(), EXAMPLE_ROWS)
        result = convert(rows, mapping, taxonomy, suggestion.files.name)
    except (MarginaliaError, ValueError) as error:
        return [wrapped(f"no examples yet: {one_line(str(error))}")]
    blocks = ["\n".join(block) for block in examples(result, taxonomy.ids)]
    if suggestion.questions:
        return [wrapped(f"{len(blocks)} records as they would be imported without the lines to edit:"), *blocks]
    return blocks


def _without_questions(text: str) -> Mapping:
    """The mapping with what is still to be edited left out: values are ignored, columns are not read."""
    data = yaml.safe_load(text)
    data.pop("files", None)
    labels: dict[str, Any] = data.get("labels", {})
    for key in ("values", "columns"):
        meanings = labels.get(key, {})
        open_values = [value for value, meaning in meanings.items() if meaning == EDIT]
        for value in open_values:
            del meanings[value]
        if open_values and key == "values":
            labels["ignore"] = open_values
        if key in labels and not meanings:
            data.pop("labels", None)
            data.pop("annotators", None)
    if labels.get("threshold") == EDIT:
        labels["threshold"] = SHOWN_THRESHOLD
    if labels.get("blank") == EDIT:
        del labels["blank"]
    return Mapping.model_validate({**data, "duplicates": "first", "unusable": "skip"})


def import_command(out: Path, sources: Sequence[str], run: Path | None) -> str:
    """The command that previews the import with the suggested mapping."""
    files = " ".join(map(shlex.quote, sources))
    folder = shlex.quote(str(run or "runs/NAME"))
    return f"marginalia import {files} --run {folder} --mapping {shlex.quote(str(out))} --preview"


def next_steps(suggestion: Suggestion, out: Path, sources: Sequence[str], run: Path | None) -> list[str]:
    """What to edit in the file, and the command after that."""
    command = import_command(out, sources, run)
    questions = [f"  line {line}: {one_line(key)}" for line, key in suggestion.questions]
    if not questions:
        return [f"{out}: check it, then: {command}"]
    lines = f"{len(questions)} {'line' if len(questions) == 1 else 'lines'} to edit"
    return [f"{out}: {lines}, then: {command}", *map(wrapped, questions)]

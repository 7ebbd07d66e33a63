"""JSON Schemas of every artifact, generated from the models: `python -m marginalia.schemas.json_schemas [--check]`.

The schema of a table describes one row; `x-key` lists the columns that identify a row. The files in schemas/json/ are
for other programs and are never edited by hand."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from marginalia.schemas.errors import InputError, MarginaliaError
from marginalia.schemas.storage.files import write_text
from marginalia.schemas.table_row import Row

FOLDER = Path(__file__).parent / "json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
# file name of the artifact without its extension → its model; the only such list
MODELS = {
    "taxonomy": "marginalia.schemas.taxonomy:Taxonomy",
    "manifest": "marginalia.schemas.manifest_json:Manifest",
    "plan": "marginalia.schemas.tables:PlannedSlot",
    "prompts": "marginalia.schemas.tables:PromptRecord",
    "rejected": "marginalia.schemas.tables:RejectedAttempt",
    "checks": "marginalia.schemas.tables:CheckedRecord",
    "generation": "marginalia.schemas.generation_json:Generation",
    "annotations": "marginalia.schemas.tables:Answer",
    "severity": "marginalia.schemas.tables:SeverityAnswer",
    "suggestions": "marginalia.schemas.tables:SuggestedRecord",
    "push": "marginalia.schemas.push_json:Pushed",
    "agreement": "marginalia.schemas.agreement_json:Agreement",
    "gold": "marginalia.schemas.tables:GoldRecord",
    "gold_severity": "marginalia.schemas.tables:GoldSeverity",
    "audit": "marginalia.schemas.tables:AuditedRecord",
    "scores": "marginalia.schemas.tables:LabelScore",
    "scores.records": "marginalia.schemas.tables:ScoredRecord",
    "evaluation": "marginalia.schemas.evaluation_json:Evaluation",
    "thresholds": "marginalia.schemas.thresholds_json:ThresholdsFile",
    "calibration": "marginalia.schemas.calibration_json:CalibrationFile",
    "profile": "marginalia.scoring.moderation_profile:Profile",  # in scoring: it contains the options of a guard
}


def schema_file(model: type[BaseModel]) -> str | None:
    """The name of a model's file in schemas/json/; None for a model without one."""
    reference = f"{model.__module__}:{model.__name__}"
    return next((f"{name}.schema.json" for name, listed in MODELS.items() if listed == reference), None)


def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of one row or one document of `model`."""
    schema = {"$schema": DIALECT, **model.model_json_schema()}
    if issubclass(model, Row):
        schema["x-key"] = list(model.key)
        if model.open_ended:
            schema["additionalProperties"] = {"type": "string"}
    return schema


def schema_files() -> dict[str, str]:
    """File name in schemas/json/ → its text, for every artifact."""
    files = {}
    for name, reference in MODELS.items():
        module, _, model = reference.partition(":")
        schema = json_schema(getattr(importlib.import_module(module), model))
        files[f"{name}.schema.json"] = json.dumps(schema, ensure_ascii=False, indent=2) + "\n"
    return files


def outdated(folder: Path = FOLDER) -> list[str]:
    """Names of files that are missing, differ from their model, or belong to no model."""
    expected = schema_files()
    on_disk = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.schema.json")}
    return sorted(name for name in expected.keys() | on_disk.keys() if expected.get(name) != on_disk.get(name))


def write(folder: Path = FOLDER) -> list[str]:
    """Updates the folder; returns the names of files that were written or removed."""
    expected, changed = schema_files(), outdated(folder)
    for name in changed:
        if name in expected:
            write_text(folder / name, expected[name])
        else:
            (folder / name).unlink()
    return changed


def main(arguments: list[str]) -> int:
    """The exit code. With `--check` writes nothing, and raises InputError if a file is out of date."""
    if arguments not in ([], ["--check"]):
        raise InputError(f"unknown arguments {arguments}", hint="python -m marginalia.schemas.json_schemas [--check]")
    if not arguments:
        print("\n".join(f"written: {name}" for name in write()) or "all schemas are up to date")
        return 0
    if stale := outdated():
        raise InputError(
            f"schemas/json is out of date: {', '.join(stale)}", hint="python -m marginalia.schemas.json_schemas"
        )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except MarginaliaError as failure:
        print(f"error: {failure}", file=sys.stderr)
        sys.exit(failure.exit_code)

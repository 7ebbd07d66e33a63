"""The files in schemas/json are complete and match the models."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from marginalia.schemas import json_schemas
from marginalia.schemas.table_row import Row
from marginalia.schemas.tables import (
    Answer,
    GoldRecord,
    LabelScore,
    PlannedSlot,
    PromptRecord,
    RejectedAttempt,
    ScoredRecord,
)

ROWS: dict[str, type[Row]] = {
    "plan": PlannedSlot,
    "prompts": PromptRecord,
    "rejected": RejectedAttempt,
    "annotations": Answer,
    "gold": GoldRecord,
    "scores": LabelScore,
    "scores.records": ScoredRecord,
}


def test_the_files_are_current() -> None:
    assert json_schemas.outdated() == [], "run: python -m marginalia.schemas.json_schemas"


def test_every_table_has_a_schema_with_all_columns() -> None:
    for name, model in ROWS.items():
        schema = json.loads((json_schemas.FOLDER / f"{name}.schema.json").read_text(encoding="utf-8"))
        assert list(schema["properties"]) == list(model.polars_schema())
        assert schema["x-key"] == list(model.key)
        assert (schema["additionalProperties"] is False) != model.open_ended


def test_files_of_changed_models_are_listed_and_written(tmp_path: Path) -> None:
    folder = tmp_path / "json"
    shutil.copytree(json_schemas.FOLDER, folder)
    (folder / "gold.schema.json").write_text("{}", encoding="utf-8")
    (folder / "plan.schema.json").unlink()
    (folder / "old.schema.json").write_text("{}", encoding="utf-8")
    changed = ["gold.schema.json", "old.schema.json", "plan.schema.json"]
    assert json_schemas.outdated(folder) == changed
    assert json_schemas.write(folder) == changed
    assert json_schemas.outdated(folder) == []
    assert not (folder / "old.schema.json").exists()


def test_the_command_checks_and_refuses_unknown_options() -> None:
    command = [sys.executable, "-m", "marginalia.schemas.json_schemas"]
    checked = subprocess.run([*command, "--check"], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    refused = subprocess.run([*command, "--chek"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert (
        refused.stderr == "error: unknown arguments ['--chek'] (python -m marginalia.schemas.json_schemas [--check])\n"
    )

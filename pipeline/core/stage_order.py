"""The stages in the order of the data, loaded only when they are used."""

from __future__ import annotations

from importlib import import_module

from pipeline.stage import Stage

STAGES = {
    "import": "import_records",
    "plan": "plan",
    "generate": "generate",
    "push": "push",
    "pull": "pull",
    "reconcile": "reconcile",
    "adjudicate": "adjudicate",
    "score": "score",
    "evaluate": "evaluate",
    "report": "report",
    "release": "release",
    "publish": "publish",
}


def load_stage(name: str) -> Stage:
    """The stage of that name."""
    stage = import_module(f"pipeline.stages.{STAGES[name]}").STAGE
    assert isinstance(stage, Stage)
    return stage

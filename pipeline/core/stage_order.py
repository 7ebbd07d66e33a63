"""The stages in the order of the data, loaded only when they are used."""

from __future__ import annotations

from importlib import import_module

from marginalia.pipeline.core.stage_runner import Stage

STAGES = {
    "import": "importing.import_stage",
    "plan": "generation.plan_stage",
    "generate": "generation.generate_stage",
    "push": "annotating.push_stage",
    "pull": "annotating.pull_stage",
    "reconcile": "annotating.reconcile_stage",
    "adjudicate": "annotating.adjudicate_stage",
    "score": "evaluation.score_stage",
    "evaluate": "evaluation.evaluate_stage",
    "report": "report.report_stage",
    "release": "release.release_stage",
    "publish": "release.publish_stage",
}


def load_stage(name: str) -> Stage:
    """The stage of that name."""
    stage = import_module(f"marginalia.pipeline.{STAGES[name]}").STAGE
    assert isinstance(stage, Stage)
    return stage

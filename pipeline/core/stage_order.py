"""The stages in the order of the data: the module of each, and the help of its command. Loaded only when used."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from marginalia.pipeline.core.stage_runner import Stage


@dataclass(frozen=True)
class StageEntry:
    """`module` is below marginalia.pipeline and has a STAGE. `help` describes the stage's command.

    `waited_for`: later stages are stale until it has run."""

    module: str
    help: str
    waited_for: bool = True


STAGES = {
    "import": StageEntry(
        "importing.import_stage",
        "Enter with an existing data set: prompts.parquet and, when its labels are gold, gold.parquet.",
    ),
    "plan": StageEntry("generation.plan_stage", "Plan what to write: label sets by attributes, each slot with an id."),
    "generate": StageEntry(
        "generation.generate_stage",
        "Write the planned texts with an LLM; every answer is journalled before it is used.",
    ),
    "push": StageEntry(
        "annotating.push_stage", "Send the records to Argilla, with the taxonomy as a multi-label question."
    ),
    "pull": StageEntry("annotating.pull_stage", "Fetch what people answered into the append-only journal."),
    "reconcile": StageEntry(
        "annotating.reconcile_stage", "Make gold of the answers: labels, soft labels, votes, agreement."
    ),
    "adjudicate": StageEntry(
        "annotating.adjudicate_stage",
        "Put records that annotators could not settle before an expert.",
        waited_for=False,
    ),
    "score": StageEntry("evaluation.score_stage", "Score the gold records: one probability per label, with bounds."),
    "evaluate": StageEntry(
        "evaluation.evaluate_stage", "Measure every estimator against gold; calibration and thresholds."
    ),
    "audit": StageEntry(
        "annotating.audit_stage",
        "List gold labels that a confident guard disputes; gold itself stays as it is.",
        waited_for=False,
    ),
    "report": StageEntry("report.report_stage", "Write report.html, one self-contained page."),
    "release": StageEntry("release.release_stage", "Write the folder that the Hub will hold."),
    "publish": StageEntry(
        "release.publish_stage",
        "Publish the release on the Hugging Face Hub: a dry run unless --push.",
        waited_for=False,
    ),
}


def load_stage(name: str) -> Stage:
    """The stage of that name."""
    stage: Stage = import_module(f"marginalia.pipeline.{STAGES[name].module}").STAGE
    return stage


def stages_before(name: str) -> tuple[str, ...]:
    """The names of all stages before that one."""
    names = list(STAGES)
    return tuple(names[: names.index(name)])

"""The stages in the order of the data, each with its help text and its module, which is loaded only when used."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from marginalia.pipeline.core.stage_runner import Stage


@dataclass(frozen=True)
class StageEntry:
    """`module` is below marginalia.pipeline and has a STAGE. `summary`, `reads` and `writes` make the command's help.

    `waited_for`: later stages are stale until it has run."""

    module: str
    summary: str
    reads: str
    writes: str
    waited_for: bool = True

    @property
    def help(self) -> str:
        """The help of the stage's command."""
        return f"{self.summary}\n\nReads {self.reads}. Writes {self.writes}."


STAGES = {
    "import": StageEntry(
        "importing.import_stage",
        "Start a run with an existing data set. Its texts are used instead of generated ones.",
        reads="the data set, and its mapping of columns and labels",
        writes="prompts.parquet and, if people gave its labels, gold.parquet or (several people) annotations.parquet",
    ),
    "plan": StageEntry(
        "generation.plan_stage",
        "Plan the texts to write. The plan has one slot per text, with its labels and attributes.",
        reads="config.yaml and the taxonomy",
        writes="plan.parquet",
    ),
    "generate": StageEntry(
        "generation.generate_stage",
        "Write the planned texts with an LLM. A stopped run continues without asking for answers again.",
        reads="plan.parquet, and records of generate.include",
        writes="prompts.parquet, rejected.parquet, generation.json and the journal responses.jsonl; "
        "with generate.check also checks.parquet and checks.jsonl",
    ),
    "push": StageEntry(
        "annotating.push_stage",
        "Send the records to Argilla. Annotators get the taxonomy as a multi-label question.",
        reads="prompts.parquet; checks.parquet and the gold questions where configured",
        writes="a dataset in Argilla and push.json; suggestions.parquet and gold_questions.json where configured",
    ),
    "pull": StageEntry(
        "annotating.pull_stage",
        "Fetch the annotators' answers from Argilla.",
        reads="push.json and the datasets in Argilla",
        writes="annotations.parquet and the journal annotations.jsonl; with annotation.severity also severity.parquet",
    ),
    "reconcile": StageEntry(
        "annotating.reconcile_stage",
        "Combine the answers into gold labels. Soft labels, votes and agreement are computed, too.",
        reads="prompts.parquet and annotations.parquet",
        writes="gold.parquet and agreement.json; with annotation.severity also gold_severity.parquet",
    ),
    "adjudicate": StageEntry(
        "annotating.adjudicate_stage",
        "Send disputed records to an expert. These are the records on which the annotators disagree.",
        reads="gold.parquet and annotations.parquet",
        writes="a second dataset in Argilla and adjudicate.json",
        waited_for=False,
    ),
    "score": StageEntry(
        "evaluation.score_stage",
        "Score the gold records with every guard. Each label gets a probability with bounds.",
        reads="gold.parquet and the guards' files and models",
        writes="scores/GUARD.parquet, scores/GUARD.records.parquet and scores/GUARD.journal.jsonl",
    ),
    "evaluate": StageEntry(
        "evaluation.evaluate_stage",
        "Compare the guards with gold. Calibration and thresholds are fitted for every estimator.",
        reads="gold.parquet and scores/",
        writes="evaluation.json, thresholds.json and calibration.json",
    ),
    "audit": StageEntry(
        "annotating.audit_stage",
        "List gold labels that a guard disputes. They deserve a second look; gold itself is not changed.",
        reads="gold.parquet, annotations.parquet and the guard's file in scores/",
        writes="audit.parquet; with --push also a dataset in Argilla and audit.json",
        waited_for=False,
    ),
    "report": StageEntry(
        "report.report_stage",
        "Write the report. It is one self-contained HTML page.",
        reads="evaluation.json, gold.parquet, and the files of the other stages that exist",
        writes="report.html",
    ),
    "release": StageEntry(
        "release.release_stage",
        "Build the data set for the Hugging Face Hub. It has tables, a card and charts.",
        reads="gold.parquet, and the files of the other stages that exist",
        writes="the folder release/",
    ),
    "publish": StageEntry(
        "release.publish_stage",
        "Publish the release on the Hugging Face Hub. Without --push, only show what would be uploaded.",
        reads="the folder release/",
        writes="a commit on the Hub, if --push is given",
        waited_for=False,
    ),
}


def load_stage(name: str) -> Stage:
    """The stage with this name."""
    stage: Stage = import_module(f"marginalia.pipeline.{STAGES[name].module}").STAGE
    return stage


def stages_before(name: str) -> tuple[str, ...]:
    """The names of all stages before this one."""
    names = list(STAGES)
    return tuple(names[: names.index(name)])

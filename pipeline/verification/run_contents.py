"""Every artifact of a run, read with its schema."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, cast

import polars as pl
from pydantic import BaseModel

from marginalia.annotation.gold.gold_questions import FILE, GoldQuestions
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.verification.check_results import Verification
from marginalia.schemas.agreement_json import Agreement
from marginalia.schemas.errors import MarginaliaError
from marginalia.schemas.evaluation_json import CalibrationFile, Evaluation, ThresholdsFile
from marginalia.schemas.generation_json import Generation
from marginalia.schemas.manifest_json import Manifest
from marginalia.schemas.push_json import Pushed
from marginalia.schemas.storage.files import read_frame, read_model
from marginalia.schemas.table_row import Row
from marginalia.schemas.tables import (
    Answer,
    AuditedRecord,
    CheckedRecord,
    GoldRecord,
    GoldSeverity,
    LabelScore,
    PlannedSlot,
    PromptRecord,
    RejectedAttempt,
    ScoredRecord,
    SeverityAnswer,
    SuggestedRecord,
)

# file → its model and the stage that makes it
TABLES: dict[str, tuple[type[Row], str]] = {
    "plan.parquet": (PlannedSlot, "plan"),
    "prompts.parquet": (PromptRecord, "generate"),
    "rejected.parquet": (RejectedAttempt, "generate"),
    "checks.parquet": (CheckedRecord, "generate"),
    "suggestions.parquet": (SuggestedRecord, "push"),
    "annotations.parquet": (Answer, "pull"),
    "severity.parquet": (SeverityAnswer, "pull"),
    "gold.parquet": (GoldRecord, "reconcile"),
    "gold_severity.parquet": (GoldSeverity, "reconcile"),
    "audit.parquet": (AuditedRecord, "audit"),
}
DOCUMENTS: dict[str, tuple[type[BaseModel], str]] = {
    "generation.json": (Generation, "generate"),
    FILE: (GoldQuestions, "push"),
    "push.json": (Pushed, "push"),
    "adjudicate.json": (Pushed, "adjudicate"),
    "audit.json": (Pushed, "audit"),
    "agreement.json": (Agreement, "reconcile"),
    "evaluation.json": (Evaluation, "evaluate"),
    "thresholds.json": (ThresholdsFile, "evaluate"),
    "calibration.json": (CalibrationFile, "evaluate"),
}
ModelT = TypeVar("ModelT", bound=BaseModel)


@dataclass
class Contents:
    """What could be read. `makers` names the stage that made a file in this run."""

    run: Run
    manifests: dict[str, Manifest]
    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    documents: dict[str, BaseModel] = field(default_factory=dict)

    def maker(self, name: str, usual: str) -> str:
        made = [stage for stage, manifest in self.manifests.items() if name in manifest.outputs]
        return made[-1] if made else usual

    def document(self, name: str, model: type[ModelT]) -> ModelT | None:
        return cast("ModelT | None", self.documents.get(name))

    @property
    def guards(self) -> list[str]:
        return [guard.name for guard in self.run.config.score.guards]


def read_contents(run: Run, manifests: dict[str, Manifest], found: Verification) -> Contents:
    """Reads all there is; a file that does not keep to its schema is a failed check and left out."""
    contents = Contents(run, manifests)
    names = dict(TABLES)
    for guard in contents.guards:
        names[f"scores/{guard}.parquet"] = (LabelScore, "score")
        names[f"scores/{guard}.records.parquet"] = (ScoredRecord, "score")
    for name, (row, usual) in names.items():
        if run.path(name).exists():
            maker = contents.maker(name, usual)
            try:
                frame = read_frame(run.path(name), row, made_by=run.command(maker))
            except MarginaliaError as error:
                found.add(maker, "schema", "", [_plain(error)], f"{run.command(maker)} --force")
            else:
                contents.tables[name] = frame
                found.add(maker, "schema", f"{name}: {frame.height:,} rows")
    for name, (model, usual) in DOCUMENTS.items():
        if run.path(name).exists():
            maker = contents.maker(name, usual)
            try:
                contents.documents[name] = read_model(run.path(name), model, made_by=run.command(maker))
            except MarginaliaError as error:
                found.add(maker, "schema", "", [_plain(error)], f"{run.command(maker)} --force")
            else:
                found.add(maker, "schema", name)
    return contents


def _plain(error: MarginaliaError) -> str:
    return str(error).removesuffix(f" ({error.hint})") if error.hint else str(error)

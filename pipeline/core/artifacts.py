"""The one list of a run folder's files: what each file contains, which stage makes it, and how it is read and written.

`verify` checks every file as this list describes it: tables and documents against their models, the mode of private
files, and that a manifest names every file whose `named` is true."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Generic, Self, TypeVar

import polars as pl
from pydantic import BaseModel

from marginalia.annotation.client.pseudonyms import KEY_FILE
from marginalia.annotation.client.suggestions import FILE as SUGGESTIONS_FILE
from marginalia.annotation.gold.gold_questions import FILE as GOLD_QUESTIONS_FILE
from marginalia.annotation.gold.gold_questions import GoldQuestions
from marginalia.pipeline.core.checked_tables import check_answers, check_gold, check_scores
from marginalia.pipeline.core.run import Run
from marginalia.schemas.agreement_json import Agreement
from marginalia.schemas.calibration_json import CalibrationFile
from marginalia.schemas.errors import MarginaliaError
from marginalia.schemas.evaluation_json import Evaluation
from marginalia.schemas.generation_json import Generation
from marginalia.schemas.json_schemas import schema_file
from marginalia.schemas.manifest_json import Manifest
from marginalia.schemas.push_json import Pushed
from marginalia.schemas.storage.files import read_frame, read_model, write_frame, write_json
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
from marginalia.schemas.thresholds_json import ThresholdsFile

GUARD = "{guard}"  # in a name: one file per guard of the config
IMPORT_SETTINGS = "import.yaml"
SUGGESTED_MAPPING = "mapping.yaml"  # in the run folder, written by import --suggest
ModelT = TypeVar("ModelT", bound=BaseModel)
Check = Callable[[Run, Path, pl.DataFrame, str], None]


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A file of a run folder, or a folder of files; `name` is its path in the run folder. `stage` makes it.

    `when` says when an optional file is written; it is empty for files that the stage always writes. `imported`: the
    stage `import` can make it, too. `journal`: append-only; no command rebuilds it. `private`: only its owner can read
    it."""

    name: str
    stage: str
    when: str = ""
    imported: bool = False
    journal: bool = False
    private: bool = False

    def path(self, run: Run) -> Path:
        """Where the file is in this run, whether it exists or not."""
        return run.path(self.name)

    def exists(self, run: Run) -> bool:
        """Whether this run has the file."""
        return self.path(run).exists()

    def of(self, guard: str) -> Self:
        """The file of one guard, for a name with {guard}."""
        return replace(self, name=self.name.format(guard=guard))

    @property
    def named(self) -> bool:
        """Whether a manifest must name it. Journals and private files are kept when the config no longer needs them."""
        return not (self.journal or self.private)

    def maker(self, run: Run) -> str:
        """The stage that makes the file in this run: `import` if the run has imported it, or will if its mapping gives
        records with labels; else the usual stage."""
        if not self.imported or run.path(f"manifests/{self.stage}.json").exists():
            return self.stage
        manifest = run.path("manifests/import.json")
        if manifest.exists():
            imported = _outputs_in(manifest)
            return "import" if imported is None or self.name in imported else self.stage
        return "import" if run.path(IMPORT_SETTINGS).exists() else self.stage

    def command(self, run: Run) -> str:
        """The command that makes the file, for error messages."""
        return run.command(self.maker(run))


@dataclass(frozen=True, kw_only=True)
class Table(Artifact):
    """A Parquet file with rows of the model `row`. `check` tests more than the columns and raises ArtifactError."""

    row: type[Row]
    check: Check | None = None

    @property
    def schema(self) -> str | None:
        """The file in schemas/json/ that describes a row."""
        return schema_file(self.row)

    def read(self, run: Run) -> pl.DataFrame:
        """The table. Raises ArtifactError when it is missing, or does not satisfy its model and its check."""
        frame = self.read_columns(run)
        if self.check is not None:
            self.check(run, self.path(run), frame, self.command(run))
        return frame

    def read_columns(self, run: Run) -> pl.DataFrame:
        """The table with only its columns checked; `verify` then reports every wrong row, not only the first."""
        return read_frame(self.path(run), self.row, made_by=self.command(run))

    def read_if_present(self, run: Run) -> pl.DataFrame | None:
        """The table, or None when it does not exist. Raises ArtifactError as `read` does."""
        return self.read(run) if self.exists(run) else None

    def write(self, run: Run, frame: pl.DataFrame) -> None:
        """Writes the table completely or not at all. Raises InputError when it cannot be written."""
        write_frame(self.path(run), frame, self.row)


@dataclass(frozen=True, kw_only=True)
class Document(Artifact, Generic[ModelT]):
    """A JSON file with a value of `model`."""

    model: type[ModelT]

    @property
    def schema(self) -> str | None:
        """The file in schemas/json/ that describes it; none for a private file."""
        return schema_file(self.model)

    def read(self, run: Run) -> ModelT:
        """The document. Raises ArtifactError or InputError when it is missing or does not satisfy its model."""
        return read_model(self.path(run), self.model, made_by=self.command(run))

    def read_if_present(self, run: Run) -> ModelT | None:
        """The document, or None when it does not exist. Raises as `read` does."""
        return self.read(run) if self.exists(run) else None

    def write(self, run: Run, value: ModelT) -> None:
        """Writes the document completely or not at all. Raises InputError when it cannot be written."""
        write_json(self.path(run), value.model_dump(mode="json"), mode=0o600 if self.private else 0o644)


def _outputs_in(manifest: Path) -> Mapping[str, str] | None:
    """The outputs that a manifest lists; None when it is damaged, which the stage itself reports."""
    try:
        return read_model(manifest, Manifest, made_by="").outputs
    except MarginaliaError:
        return None


PLAN = Table(name="plan.parquet", stage="plan", row=PlannedSlot)
PROMPTS = Table(name="prompts.parquet", stage="generate", imported=True, row=PromptRecord)
REJECTED = Table(name="rejected.parquet", stage="generate", row=RejectedAttempt)
RESPONSES = Artifact(name="responses.jsonl", stage="generate", journal=True)
CHECKS = Table(name="checks.parquet", stage="generate", when="generate.check is enabled", row=CheckedRecord)
CHECK_JOURNAL = Artifact(name="checks.jsonl", stage="generate", when="generate.check is enabled", journal=True)
UNREADABLE = Artifact(
    name="responses.unreadable.jsonl", stage="generate", when="an answer could not be read", journal=True
)
UNREADABLE_CHECKS = Artifact(
    name="checks.unreadable.jsonl", stage="generate", when="an answer of the check could not be read", journal=True
)
GENERATION = Document(name="generation.json", stage="generate", model=Generation)
PUSHED = Document(name="push.json", stage="push", model=Pushed)
SUGGESTIONS = Table(name=SUGGESTIONS_FILE, stage="push", when="annotation.suggestions is set", row=SuggestedRecord)
GOLD_QUESTIONS = Document(
    name=GOLD_QUESTIONS_FILE,
    stage="push",
    when="annotation.gold_questions is set",
    private=True,
    model=GoldQuestions,
)
CREDENTIALS = Artifact(name="argilla/credentials.json", stage="push", when="the server is the run's own", private=True)
PSEUDONYM_KEY = Artifact(name=KEY_FILE, stage="pull", private=True)
ANSWERS = Table(name="annotations.parquet", stage="pull", imported=True, row=Answer, check=check_answers)
ANSWER_JOURNAL = Artifact(name="annotations.jsonl", stage="pull", journal=True)
SEVERITY = Table(name="severity.parquet", stage="pull", when="annotation.severity is set", row=SeverityAnswer)
GOLD = Table(name="gold.parquet", stage="reconcile", imported=True, row=GoldRecord, check=check_gold)
GOLD_SEVERITY = Table(
    name="gold_severity.parquet", stage="reconcile", when="annotation.severity is set", row=GoldSeverity
)
AGREEMENT = Document(name="agreement.json", stage="reconcile", model=Agreement)
ADJUDICATED = Document(name="adjudicate.json", stage="adjudicate", model=Pushed)
SCORES = Table(name=f"scores/{GUARD}.parquet", stage="score", row=LabelScore, check=check_scores)
SCORED_RECORDS = Table(name=f"scores/{GUARD}.records.parquet", stage="score", row=ScoredRecord)
SCORE_JOURNAL = Artifact(name=f"scores/{GUARD}.journal.jsonl", stage="score", journal=True)
EVALUATION = Document(name="evaluation.json", stage="evaluate", model=Evaluation)
CALIBRATION = Document(name="calibration.json", stage="evaluate", model=CalibrationFile)
THRESHOLDS = Document(name="thresholds.json", stage="evaluate", model=ThresholdsFile)
AUDIT = Table(name="audit.parquet", stage="audit", when="audit has run", row=AuditedRecord)
AUDIT_PUSHED = Document(name="audit.json", stage="audit", when="audit --push has run", model=Pushed)
REPORT = Artifact(name="report.html", stage="report")
RELEASE = Artifact(name="release", stage="release")

ARTIFACTS: tuple[Artifact, ...] = (
    PLAN,
    PROMPTS,
    REJECTED,
    RESPONSES,
    CHECKS,
    UNREADABLE,
    CHECK_JOURNAL,
    UNREADABLE_CHECKS,
    GENERATION,
    PUSHED,
    SUGGESTIONS,
    GOLD_QUESTIONS,
    CREDENTIALS,
    PSEUDONYM_KEY,
    ANSWERS,
    ANSWER_JOURNAL,
    SEVERITY,
    GOLD,
    GOLD_SEVERITY,
    AGREEMENT,
    ADJUDICATED,
    SCORED_RECORDS,  # before SCORES, whose pattern also matches this name
    SCORES,
    SCORE_JOURNAL,
    EVALUATION,
    CALIBRATION,
    THRESHOLDS,
    AUDIT,
    AUDIT_PUSHED,
    REPORT,
    RELEASE,
)


def artifact_of(name: str) -> Artifact | None:
    """The entry of a file by its path in the run folder; None for a file that no stage makes."""
    return next((entry for entry in ARTIFACTS if fnmatch(name, entry.name.replace(GUARD, "*"))), None)


def artifacts_of(run: Run) -> Iterator[Artifact]:
    """Every entry; for a name with {guard}, one entry per guard of the config."""
    for entry in ARTIFACTS:
        if GUARD in entry.name:
            yield from (entry.of(guard.name) for guard in run.config.score.guards)
        else:
            yield entry


def files_of(run: Run) -> list[Path]:
    """The files of this run that its user or a stage wrote: its config, its taxonomy and all artifacts."""
    return [run.path("config.yaml"), run.taxonomy_path, *(entry.path(run) for entry in artifacts_of(run))]

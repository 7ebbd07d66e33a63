"""The tables that stages exchange, one model a file of the run folder. Names and columns are a contract."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal, get_args

from pydantic import Field

from marginalia.schemas.base_model import StrictModel
from marginalia.schemas.table_row import Row

RejectionReason = Literal[
    "refused",
    "invalid",
    "language",
    "duplicate",
    "copied",
    "too_short",
    "too_long",
    "answered",
    "private_data",
    "failed",
]
REJECTION_REASONS: tuple[str, ...] = get_args(RejectionReason)


class Message(StrictModel):
    role: str = Field(description="system, user or assistant")
    content: str


class Attribute(StrictModel):
    name: str
    value: str


class LabelProbability(StrictModel):
    label: str = Field(description="a label's id in the taxonomy")
    probability: float = Field(description="in [0, 1]")


class LabelVotes(StrictModel):
    label: str
    yes: int = Field(description="annotators who ticked the label")
    n: int = Field(description="annotators who answered the record")


class PlannedSlot(Row):
    """plan.parquet: one slot to fill. The plan's attributes follow as further string columns."""

    key: ClassVar[tuple[str, ...]] = ("slot_id",)
    open_ended: ClassVar[bool] = True
    slot_id: str
    labels: list[str] = Field(description="labels the text must have; empty for a text that no category covers")


class PromptRecord(Row):
    """prompts.parquet: one accepted record."""

    key: ClassVar[tuple[str, ...]] = ("id",)
    id: str
    messages: list[Message]
    intended_labels: list[str] | None = Field(
        description="what the writer was asked for: not gold; null for an imported record without labels"
    )
    slot_id: str | None = Field(description="null for imported records")
    generator: str = Field(description="model and endpoint that wrote it, or the file it was imported from")
    created_at: datetime
    attributes: list[Attribute]


class RejectedAttempt(Row):
    """rejected.parquet: one rejected attempt at a slot. A slot is open when no prompt has it."""

    key: ClassVar[tuple[str, ...]] = ("slot_id", "attempt")
    slot_id: str
    attempt: int = Field(description="from 1")
    reason: RejectionReason
    detail: str


class CheckedRecord(Row):
    """checks.parquet: what a model that was blind to the intended labels says of one record. Never gold."""

    key: ClassVar[tuple[str, ...]] = ("record_id",)
    record_id: str
    intended_labels: list[str]
    labels: list[str] | None = Field(
        description="the model's; null when its answer could not be read, or there is none"
    )
    status: Literal["agrees", "differs", "unreadable", "failed"]
    detail: str | None = Field(description="why there are no labels")


class SuggestedRecord(Row):
    """suggestions.parquet, where annotation.suggestions asks for them: what annotators were shown pre-ticked."""

    key: ClassVar[tuple[str, ...]] = ("record_id",)
    record_id: str
    source: Literal["intended", "check"] | None = Field(
        description="whose labels: what the writer was asked for, or the blind check's; null: nothing was to be shown"
    )
    labels: list[str] | None = Field(
        description="the suggestion, for the random control the one that was held back; null when there is none"
    )
    shown: bool


class Answer(Row):
    """annotations.parquet: the latest answer per record x annotator x round."""

    key: ClassVar[tuple[str, ...]] = ("record_id", "annotator", "round")
    record_id: str
    annotator: str = Field(description="pseudonym: A01, A02 …")
    labels: list[str] | None = Field(description="null unless submitted; empty means that no category applies")
    status: Literal["submitted", "discarded", "draft"]
    note: str | None
    submitted_at: datetime | None
    pulled_at: datetime
    round: str = Field(description="annotate, adjudicate, audit or gold_question")


class SeverityAnswer(Row):
    """severity.parquet, where annotation.severity asks for it: how severe an answer says that a label it ticks is."""

    key: ClassVar[tuple[str, ...]] = ("record_id", "annotator", "round", "label")
    record_id: str
    annotator: str
    round: str
    label: str
    level: int = Field(description="place in annotation.severity, from 1, the mildest")


class GoldSeverity(Row):
    """gold_severity.parquet: how severe the labels of final gold records are, where anybody said so."""

    key: ClassVar[tuple[str, ...]] = ("id", "label")
    id: str
    label: str
    level: float = Field(description="median of the levels given; between two levels when the middle is shared")
    n: int = Field(description="answers that gave a level")
    adjudicated: bool = Field(description="the levels are the experts', which win")


class GoldRecord(Row):
    """gold.parquet: one gold record. `labels` is null unless the status is final; empty means safe."""

    key: ClassVar[tuple[str, ...]] = ("id",)
    id: str
    messages: list[Message]
    status: Literal["final", "needs_answers", "needs_adjudication"]
    labels: list[str] | None
    soft_labels: list[LabelProbability]
    votes: list[LabelVotes]
    n_annotators: int
    agreement: float | None = Field(description="mean pairwise Jaccard of the label sets; null with fewer than two")
    method: str
    adjudicated: bool
    split: Literal["train", "calibration", "test"]


class LabelScore(Row):
    """scores/GUARD.parquet: record x estimator x label. The reserved label `unsafe` is the verdict."""

    key: ClassVar[tuple[str, ...]] = ("record_id", "estimator", "label")
    record_id: str
    estimator: str
    label: str
    probability: float
    lower: float
    upper: float


class ScoredRecord(Row):
    """scores/GUARD.records.parquet: one scored record."""

    key: ClassVar[tuple[str, ...]] = ("record_id",)
    record_id: str
    answer: str | None = Field(description="the greedy answer's text")
    predicted: list[str] | None
    off_language: float | None = Field(description="mass of answers outside the guard's format")
    unexplored: float | None = Field(description="mass of prefixes that were not expanded when the search stopped")
    nodes: int
    forward_passes: int
    seconds: float
    error: str | None = Field(description="why the record has no scores")


class AuditedRecord(Row):
    """audit.parquet: one final gold record that gets a second look. gold.parquet keeps the labels from before."""

    key: ClassVar[tuple[str, ...]] = ("id",)
    id: str
    why: Literal["guard", "control"] = Field(
        description="disputed by a guard, or of the random sample of all other final records"
    )
    label: str | None = Field(description="the label on which they disagree most; null for the control")
    probability: float | None = Field(description="the guard's, of that label")
    support: float | None = Field(description="the guard's probability for what gold says of that label")
    gold_labels: list[str] = Field(description="before the audit")
    audited_labels: list[str] | None = Field(description="the expert's; null until all who answered agree")
    changed: bool | None
    weight: float | None = Field(
        default=None,
        description="final gold records that this one stands for, itself included: 1 / the chance that it was chosen; "
        "null in files of an older version",
    )

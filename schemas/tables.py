"""The tables of a run folder, one row model per file. File names and columns are a contract."""

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
    """One message of a record's conversation."""

    role: str = Field(description="system, user or assistant")
    content: str


class Attribute(StrictModel):
    """One attribute of a record, such as the tone that the plan asked for."""

    name: str
    value: str


class LabelProbability(StrictModel):
    """The probability of one label, estimated from the annotators' answers."""

    label: str = Field(description="a label's id in the taxonomy")
    probability: float = Field(description="in [0, 1]")


class LabelVotes(StrictModel):
    """How many annotators ticked one label."""

    label: str
    yes: int = Field(description="annotators who ticked the label")
    n: int = Field(description="annotators who answered the record")


class PlannedSlot(Row):
    """plan.parquet: one slot to fill. The plan's attributes follow as further string columns."""

    key: ClassVar[tuple[str, ...]] = ("slot_id",)
    open_ended: ClassVar[bool] = True
    slot_id: str
    labels: list[str] = Field(
        description="labels that the text must have; empty for a text to which no category applies"
    )


class PromptRecord(Row):
    """prompts.parquet: one accepted record."""

    key: ClassVar[tuple[str, ...]] = ("id",)
    id: str
    messages: list[Message]
    intended_labels: list[str] | None = Field(
        description="labels that the text was requested to have, not gold; null for an imported record without labels"
    )
    slot_id: str | None = Field(description="null for imported records")
    generator: str = Field(description="model and endpoint that wrote it, or the file it was imported from")
    created_at: datetime
    attributes: list[Attribute]


class RejectedAttempt(Row):
    """rejected.parquet: one rejected attempt at a slot. A slot is open if no prompt fills it."""

    key: ClassVar[tuple[str, ...]] = ("slot_id", "attempt")
    slot_id: str
    attempt: int = Field(description="from 1")
    reason: RejectionReason
    detail: str


class CheckedRecord(Row):
    """checks.parquet: one record's labels from a model that does not know the intended ones. Never gold."""

    key: ClassVar[tuple[str, ...]] = ("record_id",)
    record_id: str
    intended_labels: list[str]
    labels: list[str] | None = Field(
        description="the model's labels; null if it gave no answer, or one that could not be read"
    )
    status: Literal["agrees", "differs", "unreadable", "failed"]
    detail: str | None = Field(description="why there are no labels")


class SuggestedRecord(Row):
    """suggestions.parquet, if annotation.suggestions is set: the labels that were shown pre-ticked."""

    key: ClassVar[tuple[str, ...]] = ("record_id",)
    record_id: str
    source: Literal["intended", "check"] | None = Field(
        description="whose labels: the intended ones or the blind check's; null: the record has no suggestion"
    )
    labels: list[str] | None = Field(
        description="the suggested labels, which the random control was not shown; null if there are none"
    )
    shown: bool


class Answer(Row):
    """annotations.parquet: the latest answer per record × annotator × round."""

    key: ClassVar[tuple[str, ...]] = ("record_id", "annotator", "round")
    record_id: str
    annotator: str = Field(description="pseudonym: A01, A02 …")
    labels: list[str] | None = Field(description="null unless submitted; empty: no category applies")
    status: Literal["submitted", "discarded", "draft"]
    note: str | None
    submitted_at: datetime | None
    pulled_at: datetime
    round: str = Field(description="annotate, adjudicate, audit or gold_question")
    judged: list[str] | None = Field(
        default=None, description="labels that the annotator was asked about; null: all. Only imported answers have it"
    )


class SeverityAnswer(Row):
    """severity.parquet, if annotation.severity is set: the severity that an answer gives a ticked label."""

    key: ClassVar[tuple[str, ...]] = ("record_id", "annotator", "round", "label")
    record_id: str
    annotator: str
    round: str
    label: str
    level: int = Field(description="position in annotation.severity, from 1, the mildest")


class GoldSeverity(Row):
    """gold_severity.parquet: the severity of a final gold record's label, if any answer rated it."""

    key: ClassVar[tuple[str, ...]] = ("id", "label")
    id: str
    label: str
    level: float = Field(
        description="median of the answers' levels; halfway between the two middle ones if their number is even"
    )
    n: int = Field(description="answers that rated it")
    adjudicated: bool = Field(description="the rating is the experts', which takes precedence")


class GoldRecord(Row):
    """gold.parquet: one gold record. `labels` is null unless the status is final; empty: no category applies."""

    key: ClassVar[tuple[str, ...]] = ("id",)
    id: str
    messages: list[Message]
    status: Literal["final", "needs_answers", "needs_adjudication"]
    labels: list[str] | None
    soft_labels: list[LabelProbability] = Field(
        description="from the annotators' answers: of the judged labels; of a record that is not final, of all labels "
        "that an answer judges"
    )
    votes: list[LabelVotes] = Field(description="of each label: `yes` of the `n` answers that judge it")
    n_annotators: int = Field(description="annotators who judged at least one label")
    agreement: float | None = Field(
        description="mean pairwise Jaccard of the answers' label sets, among the labels that both judge; null with "
        "fewer than two answers"
    )
    method: str
    adjudicated: bool
    split: Literal["train", "calibration", "test"]
    judged: list[str] | None = Field(
        default=None,
        description="labels that were judged; null: all. Any other label is neither positive nor negative here",
    )


class LabelScore(Row):
    """scores/GUARD.parquet: one row per record × estimator × label. The reserved label `unsafe` is the verdict."""

    key: ClassVar[tuple[str, ...]] = ("record_id", "estimator", "label")
    record_id: str
    estimator: str
    label: str
    probability: float | None = Field(
        description="null where only the bounds are known: for a label that is part of a category of the guard, or "
        "that consists of several about which a guard is asked in separate calls"
    )
    lower: float
    upper: float


class LevelScore(StrictModel):
    """The expected level, or the expected integer, of a guard's answers to one record."""

    name: str = Field(description="of the piece `levels` or `integers` in the guard file")
    estimator: str
    expected: float = Field(description="by `marginal`, answers without a value count as the lowest")
    lower: float
    upper: float


class ScoredRecord(Row):
    """scores/GUARD.records.parquet: one scored record."""

    key: ClassVar[tuple[str, ...]] = ("record_id",)
    record_id: str
    answer: str | None = Field(description="text of the greedy answer")
    predicted: list[str] | None
    off_language: float | None = Field(description="probability of answers outside the guard's format")
    unexplored: float | None = Field(
        description="probability of the prefixes that were not expanded when the search stopped"
    )
    nodes: int
    forward_passes: int
    seconds: float
    error: str | None = Field(description="why the record has no scores")
    stopped: str | None = Field(
        default=None,
        description="why the search ended: tolerance, node_budget or exhausted; null without scores and in files of "
        "an older version",
    )
    levels: list[LevelScore] | None = Field(
        default=None,
        description="the expected values of a guard whose answers have levels or integers; null for others, without "
        "scores, and in files of an older version",
    )


class AuditedRecord(Row):
    """audit.parquet: one final gold record that is reviewed again. gold.parquet keeps the labels from before."""

    key: ClassVar[tuple[str, ...]] = ("id",)
    id: str
    why: Literal["guard", "control"] = Field(
        description="guard: a guard disputes it; control: random sample of all other final records"
    )
    label: str | None = Field(description="the label on which guard and gold disagree most; null for the control")
    probability: float | None = Field(description="the guard's probability of that label")
    support: float | None = Field(description="the guard's probability of gold's decision on that label")
    gold_labels: list[str] = Field(description="labels before the audit")
    audited_labels: list[str] | None = Field(
        description="the experts' labels, of those that gold judged; null unless all who answered agree"
    )
    changed: bool | None
    weight: float | None = Field(
        default=None,
        description="number of final gold records that this one represents, itself included: 1 / its probability of "
        "being chosen; null in files of an older version",
    )
    judged: list[str] | None = Field(
        default=None,
        description="labels that gold judged; null: all. Only these can be disputed or changed",
    )

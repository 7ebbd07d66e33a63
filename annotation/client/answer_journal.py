"""One answer: from Argilla's response to an entry of the journal, and from the journal to annotations.parquet.

The journal keeps each answer as it was given. Whether and how it counts is decided here, the same way on every pull."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from marginalia.annotation.client.dataset_settings import LABELS, NONE, NOTE, SEVERITY, UNSURE
from marginalia.annotation.client.server_replies import Id, ServerReply
from marginalia.schemas.errors import ArtifactError
from marginalia.schemas.storage.journal import RESTORE, read_journal
from marginalia.schemas.tables import Answer, SeverityAnswer
from marginalia.schemas.text_checks import one_line

IDENTITY = ("record_id", "annotator", "round")  # the keys that identify an answer
PROBLEM_SHOWN = 200  # characters
MOST_LEVELS = 1000  # of annotation.severity
CONTENT = ("labels", "status", "note", "unsure", "severity", "submitted_at", "rejected")


class UnreadableAnswerError(ValueError):
    """An answer that Argilla would not give: it is not written to the journal. The message has nothing of its text."""


class Value(ServerReply):
    """The answer to one question."""

    value: Any = None


class Response(ServerReply):
    """One annotator's answer to one record, as Argilla's API returns it."""

    user_id: Id
    status: str
    updated_at: str
    values: dict[str, Value] | None = None


def response_of(reply: Any) -> Response:
    """The answer in a record's `responses`. Raises UnreadableAnswerError."""
    try:
        return Response.model_validate(reply)
    except ValidationError as error:
        raise UnreadableAnswerError(_first_problem(error)) from None


def entry_of(
    record_id: str | None,
    annotator: str,
    round: str,
    response: Response,
    pulled_at: datetime,
    labels: Collection[str],
) -> dict[str, Any]:
    """An entry of annotations.jsonl: `labels` as ticked (with `none`), `status` as Argilla has it, and in `rejected`
    why a submitted answer does not count (null when it counts). `severity`: levels by label id, or null when none was
    given.

    `labels`: ids of the labels that could be ticked. Raises UnreadableAnswerError for an entry that the journal could
    not be read with."""
    try:
        entry = _entry(record_id, annotator, round, response, pulled_at)
        JournalEntry.model_validate(entry)
    except ValidationError as error:
        raise UnreadableAnswerError(_first_problem(error)) from None
    except (ValueError, TypeError, OverflowError) as error:
        raise UnreadableAnswerError(one_line(str(error))[:PROBLEM_SHOWN]) from None
    ticked = entry["labels"] or []
    if len(set(ticked)) < len(ticked) or not {*ticked, *(entry["severity"] or {})} <= {*labels, NONE}:
        raise UnreadableAnswerError("labels: a label that the dataset does not have, or one twice")
    return entry


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    return one_line(f"{where}: {first['msg']}" if where else first["msg"])[:PROBLEM_SHOWN]


def _entry(
    record_id: str | None, annotator: str, round: str, response: Response, pulled_at: datetime
) -> dict[str, Any]:
    values = response.values or {}
    ticked = _value(values, LABELS)
    status = response.status
    return {
        "record_id": record_id,
        "annotator": annotator,
        "round": round,
        "labels": ticked,
        "status": status,
        "rejected": rejection(ticked) if status == "submitted" else None,
        "note": _value(values, NOTE),
        "unsure": _value(values, UNSURE) == "unsure",
        "severity": _severity(values) or None,
        "submitted_at": _utc(response.updated_at) if status == "submitted" else None,
        "pulled_at": pulled_at.isoformat(),
    }


def rejection(ticked: list[str] | None) -> str | None:
    """Why an answer with these labels does not count, or None when it does."""
    if not ticked:
        return "empty"
    if NONE in ticked and len(ticked) > 1:
        return "none_with_category"
    return None


def changed(entry: Mapping[str, Any], before: Mapping[str, Any] | None) -> bool:
    """Whether the answer differs from the earlier entry `before` in anything but the time of the pull."""
    return before is None or any(entry.get(name) != before.get(name) for name in CONTENT)


class JournalEntry(BaseModel):
    """A line of annotations.jsonl. Other keys are allowed."""

    model_config = ConfigDict(extra="allow", strict=True)
    record_id: str
    annotator: str
    round: str
    labels: list[str] | None
    status: Literal["submitted", "discarded", "draft"]
    rejected: str | None
    note: str | None
    unsure: bool
    submitted_at: str | None
    pulled_at: str
    severity: dict[str, Annotated[int, Field(ge=1, le=MOST_LEVELS)]] | None = None

    @field_validator("submitted_at", "pulled_at")
    @classmethod
    def _check_time(cls, value: str | None) -> str | None:
        if value is None:
            return None
        time = datetime.fromisoformat(value)
        if time.tzinfo is None:
            raise ValueError("a time without a time zone")
        try:
            time.astimezone(UTC)
        except OverflowError:
            raise ValueError("a time outside the years 1 to 9999") from None
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.status == "submitted" and self.submitted_at is None:
            raise ValueError("submitted without a time")
        for text in (self.record_id, self.annotator, self.round, self.note or "", *(self.labels or [])):
            text.encode()  # raises ValueError for a lone surrogate, which Parquet cannot store
        return self


def check_entry(entry: Mapping[str, Any]) -> None:
    """Raises ValueError, with the first problem, for an entry that is not valid."""
    try:
        JournalEntry.model_validate(entry)
    except ValidationError as error:
        raise ValueError(_first_problem(error)) from None


def latest(journal: Path) -> dict[tuple[str, str, str], Mapping[str, Any]]:
    """The last entry by (record, annotator, round). Raises ArtifactError, with the line, for an entry that is not
    valid."""
    entries: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    for number, entry in enumerate(read_journal(journal), start=1):
        try:
            check_entry(entry)
        except ValueError as error:
            raise ArtifactError.at(journal, f"not an answer: {error}", line=number, hint=RESTORE) from error
        entries[entry["record_id"], entry["annotator"], entry["round"]] = entry
    return entries


def answers_frame(entries: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """annotations.parquet from the latest entries, sorted by record, annotator and round.

    A rejected answer becomes a draft without labels: it does not count until the annotator corrects it."""
    rows = [_row(entry) for entry in entries]
    return Answer.frame(rows).sort(IDENTITY)


def severity_frame(entries: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """severity.parquet from the latest entries: of the answers that count, the levels of the labels that they tick."""
    rows = [
        {**{name: entry[name] for name in IDENTITY}, "label": label, "level": level}
        for entry in entries
        if _counts(entry)
        for label, level in (entry.get("severity") or {}).items()
        if label in entry["labels"]
    ]
    return SeverityAnswer.frame(rows).sort(SeverityAnswer.key)


def _counts(entry: Mapping[str, Any]) -> bool:
    return bool(entry["status"] == "submitted" and entry["rejected"] is None)


def _severity(values: Mapping[str, Value]) -> dict[str, int]:
    questions = sorted(name for name in values if name.startswith(SEVERITY))
    levels = {name.removeprefix(SEVERITY): _value(values, name) for name in questions}
    return {label: int(level) for label, level in levels.items() if level is not None}


def _row(entry: Mapping[str, Any]) -> dict[str, Any]:
    counts = _counts(entry)
    labels = [label for label in entry["labels"] or [] if label != NONE] if counts else None
    return {
        "record_id": entry["record_id"],
        "annotator": entry["annotator"],
        "labels": labels,
        "status": "draft" if entry["rejected"] is not None else entry["status"],
        "note": entry["note"],
        "submitted_at": datetime.fromisoformat(entry["submitted_at"]) if counts else None,
        "pulled_at": datetime.fromisoformat(entry["pulled_at"]),
        "round": entry["round"],
    }


def _value(values: Mapping[str, Value], question: str) -> Any:
    return values[question].value if question in values else None


def _utc(text: str) -> str:
    """One of Argilla's times with its time zone: Argilla writes UTC without naming it."""
    time = datetime.fromisoformat(text)
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).isoformat()

"""Tables of imported records: prompts.parquet, gold.parquet and annotations.parquet."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from marginalia.annotation.client.pseudonyms import Key
from marginalia.annotation.config import Splits
from marginalia.annotation.gold.splits import assign_splits
from marginalia.pipeline.importing.row_answers import ImportedAnswer
from marginalia.pipeline.importing.row_conversion import ImportedRecord
from marginalia.schemas.tables import Answer, GoldRecord, PromptRecord

METHOD = "imported"
ROUND = "annotate"


def prompt_table(
    records: Sequence[ImportedRecord], generator: str, created_at: datetime, *, intended: bool
) -> pl.DataFrame:
    """prompts.parquet (PromptRecord). With `intended`, the records' labels are their intended labels, null where the
    source has none; otherwise the intended labels are empty. `generator`, `created_at`: the origin of all records."""
    rows = [
        {
            "id": record.id,
            "messages": record.messages,
            "intended_labels": record.labels if intended else [],
            "slot_id": None,
            "generator": generator,
            "created_at": created_at,
            "attributes": record.attributes,
        }
        for record in records
    ]
    return PromptRecord.frame(rows)


def gold_table(records: Sequence[ImportedRecord], labels: Sequence[str], shares: Splits, seed: int) -> pl.DataFrame:
    """gold.parquet (GoldRecord). Soft labels and votes are empty, because the source has only the result of its
    annotation. A record without labels has the status needs_answers."""
    rows = [
        {
            "id": record.id,
            "messages": record.messages,
            "status": "needs_answers" if record.labels is None else "final",
            "labels": record.labels,
            "soft_labels": [],
            "votes": [],
            "n_annotators": 0,
            "agreement": None,
            "method": METHOD,
            "adjudicated": False,
            "split": "",
            "judged": record.judged,
        }
        for record in records
    ]
    gold = GoldRecord.frame(rows)
    return gold.with_columns(assign_splits(gold, labels, shares, seed))


def with_people(key: Key, answers: Sequence[ImportedAnswer]) -> Key:
    """The key of the pseudonyms with the people of these answers, new ones in the order of their first answers."""
    for person in dict.fromkeys(answer.person for answer in answers):
        key = key.with_user(person, person)
    return key


def answer_table(answers: Sequence[ImportedAnswer], key: Key, modified: datetime) -> pl.DataFrame:
    """annotations.parquet (Answer), sorted as `pull` sorts it. The source does not say when people answered, so
    `submitted_at` is null; `pulled_at` is `modified`, the time of the source."""
    rows = [
        {
            "record_id": answer.record_id,
            "annotator": key.pseudonym(answer.person),
            "labels": answer.labels,
            "status": "submitted",
            "note": None,
            "submitted_at": None,
            "pulled_at": modified,
            "round": ROUND,
            "judged": answer.judged,
        }
        for answer in answers
    ]
    return Answer.frame(rows).sort(Answer.key)

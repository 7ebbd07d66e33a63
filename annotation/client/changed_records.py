"""The records whose answers changed since the last pull.

Argilla's API cannot select answers by time, and a record's `updated_at` changes only when an answer completes the
record: an edited answer would be missed. So a pull reads everything, unless the server reports that each answer changes
its record's `updated_at`, as the local server does (annotation/server/inside/connections.py)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from pydantic import Field

from marginalia.annotation.client.connection import Connection
from marginalia.annotation.client.push_records import PAGE_SIZE
from marginalia.annotation.client.server_replies import (
    Record,
    SearchPage,
    Status,
    UsersProgress,
    checked,
    each_record,
    get,
)
from marginalia.schemas.base_model import StrictModel
from marginalia.schemas.push_json import Pushed

MARGIN = timedelta(seconds=60)  # for requests that were in progress during the last pull


class Cursor(StrictModel):
    """Where a pull ended: the next one reads what changed later."""

    since: datetime = Field(description="when the pull began, minus a margin")
    datasets: list[str] = Field(description="ids of the datasets that it read")
    gone: list[tuple[str, str, str]] = Field(
        description="record, annotator and round of answers that the journal has and the server no longer"
    )


def reports_changes(connection: Connection) -> bool:
    """Whether each answer changes its record's `updated_at` on this server."""
    search = get(connection, Status, "/status").search_engine or {}
    return bool(search.get("answers_touch_records"))


def changed_since(connection: Connection, dataset_id: str, since: datetime) -> Iterator[Record]:
    """The records that were added, changed or answered since then, each once, with all their answers.

    The server keeps their order while more records change, so that no record is skipped between two pages."""
    scope = {"entity": "record", "property": "updated_at"}
    query = {"filters": {"and": [{"type": "range", "scope": scope, "ge": since.isoformat()}]}}
    path = f"/datasets/{dataset_id}/records/search"
    call = f"POST {path}"

    def read(offset: int) -> tuple[list[Record], int]:
        reply = connection.post(path, query, offset=offset, limit=PAGE_SIZE, include="responses")
        page = checked(connection, call, reply, SearchPage)
        return [item.record for item in page.items], page.total

    return each_record(connection, call, read, PAGE_SIZE)


def count_answers(connection: Connection, pushed: Pushed) -> int:
    """The number of answers of any status on the server."""
    progress = get(connection, UsersProgress, f"/datasets/{pushed.dataset_id}/users/progress")
    return sum(sum((*user.completed.values(), *user.pending.values())) for user in progress.users)

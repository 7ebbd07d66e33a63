"""What has changed on the server since the last pull.

Argilla's API has no way to ask for answers by time, and a record's `updated_at` moves only when an answer completes it:
an edited answer goes unseen. So a pull reads everything, unless the server says that answers touch
their records, as the local one does (annotation/server/inside/connections.py)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from pydantic import Field

from marginalia.annotation.client.connection import Connection
from marginalia.annotation.client.push_records import LISTED
from marginalia.schemas.base_model import StrictModel
from marginalia.schemas.push_json import Pushed

MARGIN = timedelta(seconds=60)  # for requests that were under way when the last pull looked


class Cursor(StrictModel):
    """Where a pull ended: the next one asks for what came later."""

    since: datetime = Field(description="when the pull began, less a margin")
    datasets: list[str] = Field(description="ids of the datasets that it read")
    gone: list[tuple[str, str, str]] = Field(
        description="record, annotator, round of answers kept but not on the server"
    )


def says_what_changed(connection: Connection) -> bool:
    """Whether answers touch their records there."""
    search = connection.get("/status").get("search_engine") or {}
    return bool(search.get("answers_touch_records"))


def touched(connection: Connection, dataset_id: str, since: datetime) -> Iterator[dict[str, Any]]:
    """The records that were added, changed or answered since then, each once, with all their answers.

    Their order stays while more are touched, so that none is skipped from one page to the next."""
    scope = {"entity": "record", "property": "updated_at"}
    query = {"filters": {"and": [{"type": "range", "scope": scope, "ge": since.isoformat()}]}}
    seen: set[str] = set()
    offset = 0
    while True:
        path = f"/datasets/{dataset_id}/records/search"
        page = connection.post(path, query, offset=offset, limit=LISTED, include="responses")["items"]
        for item in page:
            if item["record"]["id"] not in seen:
                seen.add(item["record"]["id"])
                yield item["record"]
        if len(page) < LISTED:
            return
        offset += len(page)


def answers_there(connection: Connection, pushed: Pushed) -> int:
    """How many answers the server holds, of whatever status."""
    people = connection.get(f"/datasets/{pushed.dataset_id}/users/progress")["users"]
    return sum(
        sum(person[state].values()) for person in people for state in ("completed", "pending") if state in person
    )

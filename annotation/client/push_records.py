"""Sends records to an Argilla dataset, in batches. What the server already has is not sent again, so that a push that
was killed continues where it ended."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from marginalia.annotation.client.connection import Connection
from marginalia.annotation.client.dataset_settings import LABELS, NONE, RECORD, VOTES
from marginalia.annotation.client.datasets import NEW_DATASET, Dataset
from marginalia.annotation.client.server_replies import Record, RecordPage, each_record, get
from marginalia.schemas.errors import InputError
from marginalia.schemas.progress import progress
from marginalia.schemas.text_checks import one_line

MESSAGE_SHOWN = 20_000  # characters; Argilla's limit for one chat message
MOST_MESSAGES = 500  # Argilla's limit for one chat
ROLE_SHOWN = 20  # characters
PAGE_SIZE = 500  # records
AGENTS = {"intended": "intended labels", "check": "blind check"}  # the source of a suggestion, as Argilla shows it


@dataclass(frozen=True)
class PushedCounts:
    """Counts of records: `sent` are new, `updated` have changed votes, `unchanged` were on the server already; `others`
    are on the server but no longer among those to push."""

    sent: int
    updated: int
    unchanged: int
    others: int


def payload(
    record_id: str,
    messages: list[Mapping[str, str]],
    *,
    votes: str | None = None,
    suggestion: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A record in the format of Argilla's API. Messages that are too long for Argilla are shown in parts.

    Argilla's UI inserts texts into its page as HTML, so they are sent escaped: annotators see tags as text. Raises
    InputError for a record with too many messages."""
    parts = [part for message in messages for part in _parts(message)]
    if len(parts) > MOST_MESSAGES:
        raise InputError(f"record '{record_id}': {len(parts)} messages to show; Argilla allows {MOST_MESSAGES}")
    fields: dict[str, Any] = {RECORD: parts}
    if votes is not None:
        fields[VOTES] = html.escape(votes, quote=False)
    body: dict[str, Any] = {"external_id": record_id, "fields": fields}
    if suggestion is not None:
        body["suggestions"] = [suggestion]
    return body


def suggestion(dataset: Dataset, labels: list[str], source: str) -> dict[str, Any]:
    """Labels that Argilla shows pre-ticked, in the format of its API. `source`: see `SuggestedRecord`."""
    return {"question_id": dataset.questions[LABELS], "value": labels or [NONE], "agent": AGENTS[source]}


def push_records(
    connection: Connection,
    dataset: Dataset,
    records: Iterable[dict[str, Any]],
    *,
    batch: int,
    replace: bool = False,
    before: Callable[[list[str]], None] | None = None,
) -> PushedCounts:
    """Sends the payloads that the server does not have. `before` is called first, with their ids.

    Raises InputError for a record that the server shows with another text, which annotators may have judged already.
    With `replace` such a record is sent again instead: its votes have changed."""
    on_server = {record.external_id: record.fields for record in dataset_records(connection, dataset.id)}
    payloads = {record["external_id"]: record for record in records}
    new = [record for key, record in payloads.items() if key not in on_server]
    changed = [record for key, record in payloads.items() if key in on_server and on_server[key] != record["fields"]]
    if changed and not replace:
        raise InputError(
            f"the text of record '{changed[0]['external_id']}' differs from the one that annotators see in "
            f"'{dataset.name}' ({len(changed)} such {'record' if len(changed) == 1 else 'records'})",
            hint=f"restore the old prompts, {NEW_DATASET}",
        )
    if before is not None:
        before([record["external_id"] for record in new])
    to_send = new + changed
    unchanged = len(payloads) - len(to_send)
    with progress(total=len(payloads), done=unchanged, what="push", unit="record") as bar:
        for start in range(0, len(to_send), batch):
            items = to_send[start : start + batch]
            connection.put(f"/datasets/{dataset.id}/records/bulk", {"items": items})
            bar.update(len(items))
    others = len(on_server.keys() - payloads.keys())
    return PushedCounts(sent=len(new), updated=len(changed), unchanged=unchanged, others=others)


def dataset_records(connection: Connection, dataset_id: str, *, responses: bool = False) -> Iterator[Record]:
    """All records of a dataset in the order in which they were added, each once; with their `responses` if wanted.

    Raises ServiceError when the server's pages do not end."""
    path = f"/datasets/{dataset_id}/records"
    include = {"include": "responses"} if responses else {}

    def read(offset: int) -> tuple[list[Record], int]:
        page = get(connection, RecordPage, path, offset=offset, limit=PAGE_SIZE, **include)
        return page.items, page.total

    return each_record(connection, f"GET {path}", read, PAGE_SIZE)


def _parts(message: Mapping[str, str]) -> Iterator[dict[str, str]]:
    content = message["content"]
    size = MESSAGE_SHOWN
    if len(html.escape(content, quote=False)) > MESSAGE_SHOWN and re.search("[&<>]", content):
        size = MESSAGE_SHOWN // len("&amp;")  # the longest escaped character
    for start in range(0, len(content), size):
        escaped = html.escape(content[start : start + size], quote=False)
        yield {"role": one_line(message["role"])[:ROLE_SHOWN], "content": escaped}

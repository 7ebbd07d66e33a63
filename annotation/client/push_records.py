"""Records → an Argilla dataset, in batches, once each: what the server has is not sent again, so a push that was
killed goes on where it was."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from marginalia.annotation.client.connection import Connection
from marginalia.annotation.client.dataset_settings import LABELS, NONE, RECORD, VOTES
from marginalia.annotation.client.datasets import Dataset
from marginalia.schemas.errors import InputError

MESSAGE_SHOWN = 20_000  # characters of one chat message that Argilla takes
MOST_MESSAGES = 500
ROLE_SHOWN = 20  # characters
LISTED = 500  # records a page
AGENTS = {"intended": "intended labels", "check": "blind check"}  # who suggests, as Argilla shows it


@dataclass(frozen=True)
class PushedCounts:
    """`sent` new, `updated` with changed votes, `there` already; `others` are on the server but not ours any more."""

    sent: int
    updated: int
    there: int
    others: int


def payload(
    record_id: str,
    messages: list[Mapping[str, str]],
    *,
    votes: str | None = None,
    suggestion: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A record as Argilla's API takes it. Messages that are too long for Argilla are shown in parts.

    Argilla's UI puts texts into its page as HTML, so they are sent escaped: annotators see every tag as it stands."""
    parts = [part for message in messages for part in _parts(message)]
    if len(parts) > MOST_MESSAGES:
        raise InputError(f"record '{record_id}': {len(parts)} messages to show; Argilla takes {MOST_MESSAGES}")
    fields: dict[str, Any] = {RECORD: parts}
    if votes is not None:
        fields[VOTES] = html.escape(votes, quote=False)
    body: dict[str, Any] = {"external_id": record_id, "fields": fields}
    if suggestion is not None:
        body["suggestions"] = [suggestion]
    return body


def suggestion(dataset: Dataset, labels: list[str], source: str) -> dict[str, Any]:
    """Labels as Argilla shows them pre-ticked; `source` is one of SuggestedRecord's."""
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
    """Sends the payloads that the server lacks; `before` that, it is told their ids.

    A record that the server shows with another text is refused (InputError), as people may have judged the old one;
    `replace` sends it again instead, for votes that have changed."""
    there = {record["external_id"]: record["fields"] for record in listed(connection, dataset.id)}
    wanted = {record["external_id"]: record for record in records}
    new = [record for key, record in wanted.items() if key not in there]
    changed = [record for key, record in wanted.items() if key in there and there[key] != record["fields"]]
    if changed and not replace:
        raise InputError(
            f"record '{changed[0]['external_id']}' reads differently from what annotators were shown in "
            f"'{dataset.name}' ({len(changed)} such records)",
            hint="put the old prompts back, or set annotation.dataset to a new name and annotate anew",
        )
    if before is not None:
        before([record["external_id"] for record in new])
    todo = new + changed
    with tqdm(total=len(wanted), initial=len(wanted) - len(todo), desc="push", unit="record", disable=None) as bar:
        for start in range(0, len(todo), batch):
            part = todo[start : start + batch]
            connection.put(f"/datasets/{dataset.id}/records/bulk", {"items": part})
            bar.update(len(part))
    others = len(there.keys() - wanted.keys())
    return PushedCounts(len(new), len(changed), len(wanted) - len(todo), others)


def listed(connection: Connection, dataset_id: str, *, responses: bool = False) -> Iterator[dict[str, Any]]:
    """All records of a dataset in the order in which they came, each once."""
    seen: set[str] = set()
    offset = 0
    include = {"include": "responses"} if responses else {}
    while True:
        page = connection.get(f"/datasets/{dataset_id}/records", offset=offset, limit=LISTED, **include)["items"]
        for record in page:
            if record["id"] not in seen:
                seen.add(record["id"])
                yield record
        if len(page) < LISTED:
            return
        offset += len(page)


def _parts(message: Mapping[str, str]) -> Iterator[dict[str, str]]:
    content = message["content"]
    size = MESSAGE_SHOWN
    if len(html.escape(content, quote=False)) > MESSAGE_SHOWN and re.search("[&<>]", content):
        size = MESSAGE_SHOWN // len("&amp;")  # an escaped character takes five at most
    for start in range(0, len(content), size):
        part = html.escape(content[start : start + size], quote=False)
        yield {"role": message["role"][:ROLE_SHOWN], "content": part}

"""Answers from Argilla → the append-only journal and its latest state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
from tqdm import tqdm

from annotation.client.answers import answers_frame, changed, entry_of, latest
from annotation.client.connection import Connection
from annotation.client.pseudonyms import Key, read_key, write_key
from annotation.client.push import listed
from schemas.journal import Journal, read_journal
from schemas.pushed import Pushed

TOGETHER = 500  # journal lines a fsync


@dataclass
class PullCounts:
    """What one pull saw. `on_server` = `new` + `edited` + `unchanged`; `gone` are answers that an earlier pull kept
    and the server no longer has (deleted by hand, or with their user): they stay."""

    on_server: int = 0
    new: int = 0
    edited: int = 0
    unchanged: int = 0
    gone: int = 0
    submitted: int = 0
    discarded: int = 0
    draft: int = 0
    rejected: int = 0
    unsure: int = 0
    notes: int = 0
    torn_bytes: int = 0
    to_mend: list[str] = field(default_factory=list)


def pull(
    connection: Connection, datasets: Sequence[Pushed], journal_path: Path, key_path: Path, now: datetime
) -> tuple[pl.DataFrame, PullCounts]:
    """Appends what is new or changed on the server to the journal; returns the latest state and the counts.

    Nothing in the journal is ever changed or taken away: a deleted answer stays as it was last seen."""
    counts = PullCounts()
    with Journal(journal_path) as journal:
        counts.torn_bytes = journal.torn_bytes
        before = latest(read_journal(journal_path))
        seen: set[tuple[str, str, str]] = set()
        state = dict(before)
        key = _People(connection, key_path, datasets)
        for pushed in datasets:
            fresh: list[dict[str, Any]] = []
            records = listed(connection, pushed.dataset_id, responses=True)
            for record in tqdm(records, total=pushed.records, desc=f"pull {pushed.round}", unit="record", disable=None):
                for response in record.get("responses") or []:
                    who = key.pseudonym(str(response["user_id"]))
                    entry = entry_of(record["external_id"], who, pushed.round, response, now)
                    place = (entry["record_id"], who, pushed.round)
                    if place in seen and not _later(entry, state[place]):
                        continue
                    if place not in seen:
                        _count(counts, entry, before.get(place))
                    seen.add(place)
                    if changed(entry, state.get(place)):
                        fresh.append(entry)
                        state[place] = entry
                if len(fresh) >= TOGETHER:
                    journal.extend(fresh)
                    fresh = []
            journal.extend(fresh)
        counts.gone = len(before.keys() - seen)
        _tally(counts, state)
    return answers_frame(state.values()), counts


def _count(counts: PullCounts, entry: Mapping[str, Any], before: Mapping[str, Any] | None) -> None:
    counts.on_server += 1
    if before is None:
        counts.new += 1
    elif changed(entry, before):
        counts.edited += 1
    else:
        counts.unchanged += 1


def _tally(counts: PullCounts, state: Mapping[tuple[str, str, str], Mapping[str, Any]]) -> None:
    """Counts over the latest state: submitted + discarded + draft + rejected = all."""
    for entry in state.values():
        if entry["rejected"] is not None:
            counts.rejected += 1
            counts.to_mend.append(f"{entry['record_id']}: {entry['annotator']}: {entry['rejected']}")
        else:
            setattr(counts, entry["status"], getattr(counts, entry["status"]) + 1)
        counts.unsure += bool(entry["unsure"])
        counts.notes += bool(entry["note"])
    counts.to_mend.sort()


def _later(entry: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return (entry["submitted_at"] or "") > (other["submitted_at"] or "")


class _People:
    """Pseudonyms by user id. The key is on disk before a pseudonym is used in the journal."""

    def __init__(self, connection: Connection, path: Path, datasets: Sequence[Pushed]) -> None:
        self._connection = connection
        self._path = path
        self._workspaces = sorted({pushed.workspace for pushed in datasets})
        self._key: Key = read_key(path)
        self._names: dict[str, str] | None = None

    def pseudonym(self, user_id: str) -> str:
        if self._key.known(user_id) is None:
            if self._names is None:
                self._names = usernames(self._connection, self._workspaces)
            self._key = self._key.with_user(user_id, self._names.get(user_id, user_id))
            write_key(self._path, self._key)
        return self._key.pseudonym(user_id)


def usernames(connection: Connection, workspaces: Sequence[str]) -> dict[str, str]:
    """Username by user id: everybody for an owner, the workspaces' members for an admin."""
    if connection.role == "owner":
        users = connection.get("/users")["items"]
    else:
        mine = [item for item in connection.get("/me/workspaces")["items"] if item["name"] in workspaces]
        users = [user for item in mine for user in connection.get(f"/workspaces/{item['id']}/users")["items"]]
    return {str(user["id"]): str(user["username"]) for user in users}

"""Answers from Argilla → the append-only journal and its latest state."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tqdm import tqdm

from marginalia.annotation.client.answer_journal import changed, entry_of, latest
from marginalia.annotation.client.changed_records import MARGIN, Cursor, answers_there, says_what_changed, touched
from marginalia.annotation.client.connection import Connection
from marginalia.annotation.client.pseudonyms import Key, read_key, write_key
from marginalia.annotation.client.push_records import listed
from marginalia.annotation.gold.gold_questions import ROUND
from marginalia.schemas.push_json import Pushed
from marginalia.schemas.storage.journal import Journal

TOGETHER = 500  # journal lines a fsync

Place = tuple[str, str, str]  # record, annotator, round


@dataclass
class PullCounts:
    """What one pull saw. `on_server` = `new` + `edited` + `unchanged`; `gone` are answers that an earlier pull kept
    and the server no longer has (deleted by hand, or with their user): they stay."""

    records_read: int = 0
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
    connection: Connection,
    datasets: Sequence[Pushed],
    journal_path: Path,
    key_path: Path,
    now: datetime,
    *,
    last: Cursor | None = None,
    gold_questions: Collection[str] = (),
) -> tuple[list[Mapping[str, Any]], PullCounts, Cursor]:
    """Appends what is new or changed on the server to the journal; returns the latest entry of each answer, the counts,
    and where the next pull goes on.

    Nothing in the journal is ever changed or taken away: a deleted answer stays as it was last seen. With `last`, the
    cursor of the pull that wrote this journal, only records touched since then are read, from a server that knows.
    `gold_questions`: ids of the records whose answers have the round `gold_question`."""
    counts = PullCounts()
    if last is not None and (last.since > now or not says_what_changed(connection)):
        last = None
    with Journal(journal_path) as journal:
        counts.torn_bytes = journal.torn_bytes
        before = latest(journal_path)
        state = dict(before)
        reader = _Reader(
            connection, _People(connection, key_path, datasets), journal, state, counts, now, gold_questions
        )
        on_server: set[Place] = set()
        for pushed in datasets:
            on_server |= reader.answers(pushed, before, last)
    for place in on_server:
        counts.on_server += 1
        if place not in before:
            counts.new += 1
        elif changed(state[place], before[place]):
            counts.edited += 1
        else:
            counts.unchanged += 1
    gone = sorted(before.keys() - on_server)
    counts.gone = len(gone)
    _tally(counts, state)
    cursor = Cursor(since=now - MARGIN, datasets=[pushed.dataset_id for pushed in datasets], gone=gone)
    return list(state.values()), counts, cursor


@dataclass
class _Reader:
    """Reads datasets into `state` and the journal."""

    connection: Connection
    people: _People
    journal: Journal
    state: dict[Place, Mapping[str, Any]]
    counts: PullCounts
    now: datetime
    gold_questions: Collection[str]

    def answers(self, pushed: Pushed, before: Mapping[Place, object], last: Cursor | None) -> set[Place]:
        """Which answers the server has."""
        if last is not None and pushed.dataset_id in last.datasets:
            rounds = {pushed.round} | ({ROUND} if pushed.round == "annotate" else set())
            ours = {place for place in before if place[2] in rounds} - set(last.gone)
            records = touched(self.connection, pushed.dataset_id, last.since)
            read, seen = self._read(pushed, records, total=None)
            found = {place for place in ours if place[0] not in read} | seen
            if len(found) == answers_there(self.connection, pushed):
                return found
        everything = listed(self.connection, pushed.dataset_id, responses=True)
        return self._read(pushed, everything, total=pushed.records)[1]

    def _read(
        self, pushed: Pushed, records: Iterable[dict[str, Any]], *, total: int | None
    ) -> tuple[set[str], set[Place]]:
        """Ids of the records, and their answers."""
        read: set[str] = set()
        seen: set[Place] = set()
        fresh: list[dict[str, Any]] = []
        for record in tqdm(records, total=total, desc=f"pull {pushed.round}", unit="record", disable=None):
            read.add(str(record["external_id"]))
            self.counts.records_read += 1
            asked = pushed.round == "annotate" and record["external_id"] in self.gold_questions
            round = ROUND if asked else pushed.round
            for response in record.get("responses") or []:
                who = self.people.pseudonym(str(response["user_id"]))
                entry = entry_of(record["external_id"], who, round, response, self.now)
                place = (entry["record_id"], who, round)
                if place in seen and not _later(entry, self.state[place]):
                    continue
                seen.add(place)
                if changed(entry, self.state.get(place)):
                    fresh.append(entry)
                    self.state[place] = entry
            if len(fresh) >= TOGETHER:
                self.journal.extend(fresh)
                fresh = []
        self.journal.extend(fresh)
        return read, seen


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

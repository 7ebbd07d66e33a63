"""Reads answers from Argilla into the append-only journal, and returns the latest state of each answer."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from marginalia.annotation.client.answer_journal import UnreadableAnswerError, changed, entry_of, latest, response_of
from marginalia.annotation.client.changed_records import MARGIN, Cursor, changed_since, count_answers, reports_changes
from marginalia.annotation.client.connection import Connection
from marginalia.annotation.client.pseudonyms import Key, read_key, write_key
from marginalia.annotation.client.push_records import dataset_records
from marginalia.annotation.client.server_replies import Items, Record, User, Workspace, get
from marginalia.annotation.gold.gold_questions import ROUND
from marginalia.schemas.progress import progress
from marginalia.schemas.push_json import Pushed
from marginalia.schemas.storage.journal import Journal
from marginalia.schemas.text_checks import one_line

ENTRIES_PER_FSYNC = 500  # of the journal
ID_SHOWN = 64  # characters of a record's id

AnswerKey = tuple[str, str, str]  # record, annotator, round


@dataclass
class PullCounts:
    """Counts of one pull. `on_server` = `new` + `edited` + `unchanged`. `gone`: answers in the journal that the server
    no longer has (deleted by hand, or with their user); they are kept. `submitted`, `discarded`, `draft` and `rejected`
    add up to all answers; `rejections` says of each rejected one why. `unreadable`: answers on the server that Argilla
    would not give, which were not written to the journal; of each `problems` says why."""

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
    unreadable: int = 0
    rejections: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def pull(
    connection: Connection,
    datasets: Sequence[Pushed],
    journal_path: Path,
    key_path: Path,
    now: datetime,
    *,
    last: Cursor | None = None,
    gold_questions: Collection[str] = (),
) -> tuple[list[Mapping[str, Any]], PullCounts, Cursor | None]:
    """Appends new and changed answers to the journal; returns the latest entry of each answer, the counts, and the
    cursor for the next pull (None when there were unreadable answers: it reads everything again).

    Journal entries are never changed or removed: a deleted answer stays as it was last seen. With `last`, the cursor of
    the pull that wrote this journal, only records changed since then are read, if the server can tell which. Answers to
    the records in `gold_questions` (ids) have the round `gold_question`."""
    counts = PullCounts()
    if last is not None and (last.since > now or not reports_changes(connection)):
        last = None
    with Journal(journal_path) as journal:
        counts.torn_bytes = journal.torn_bytes
        before = latest(journal_path)
        state = dict(before)
        reader = _Reader(
            connection, _Pseudonyms(connection, key_path, datasets), journal, state, counts, now, gold_questions
        )
        on_server: set[AnswerKey] = set()
        for pushed in datasets:
            on_server |= reader.answers(pushed, before, last)
    for key in on_server:
        counts.on_server += 1
        if key not in before:
            counts.new += 1
        elif changed(state[key], before[key]):
            counts.edited += 1
        else:
            counts.unchanged += 1
    gone = sorted(before.keys() - on_server)
    counts.gone = len(gone)
    _tally(counts, state)
    cursor = Cursor(since=now - MARGIN, datasets=[pushed.dataset_id for pushed in datasets], gone=gone)
    return list(state.values()), counts, None if counts.unreadable else cursor


@dataclass
class _Reader:
    """Reads answers of datasets into the journal and into `state`, the latest entry by answer."""

    connection: Connection
    pseudonyms: _Pseudonyms
    journal: Journal
    state: dict[AnswerKey, Mapping[str, Any]]
    counts: PullCounts
    now: datetime
    gold_questions: Collection[str]

    def answers(self, pushed: Pushed, before: Mapping[AnswerKey, object], last: Cursor | None) -> set[AnswerKey]:
        """The keys of all answers on the server. `before`: the answers in the journal before this pull.

        Everything is read again where the number of answers does not match: an answer or a user was deleted."""
        if last is not None and pushed.dataset_id in last.datasets:
            rounds = {pushed.round} | ({ROUND} if pushed.round == "annotate" else set())
            known = {key for key in before if key[2] in rounds} - set(last.gone)
            records = changed_since(self.connection, pushed.dataset_id, last.since)
            read, seen = self._read(pushed, records, total=None)
            on_server = {key for key in known if key[0] not in read} | seen
            if len(on_server) == count_answers(self.connection, pushed):
                return on_server
        records = dataset_records(self.connection, pushed.dataset_id, responses=True)
        return self._read(pushed, records, total=pushed.records)[1]

    def _read(self, pushed: Pushed, records: Iterable[Record], *, total: int | None) -> tuple[set[str], set[AnswerKey]]:
        """The ids of the records, and the keys of their answers. When a user has two answers to a record, the later one
        counts."""
        read: set[str] = set()
        seen: set[AnswerKey] = set()
        new_entries: list[dict[str, Any]] = []
        for record in progress(records, total=total, what=f"pull {pushed.round}", unit="record"):
            read.add(str(record.external_id))
            self.counts.records_read += 1
            for response in record.responses or []:
                self._answer(pushed, record.external_id, response, seen, new_entries)
            if len(new_entries) >= ENTRIES_PER_FSYNC:
                self.journal.extend(new_entries)
                new_entries = []
        self.journal.extend(new_entries)
        return read, seen

    def _answer(
        self,
        pushed: Pushed,
        record_id: str | None,
        reply: Any,
        seen: set[AnswerKey],
        new_entries: list[dict[str, Any]],
    ) -> None:
        """Adds one answer to `seen` and, when it is new or changed, to `new_entries`. An unreadable one is only
        counted: an earlier readable state of it stays."""
        round = ROUND if pushed.round == "annotate" and record_id in self.gold_questions else pushed.round
        annotator = None
        try:
            response = response_of(reply)
            annotator = self.pseudonyms.of(response.user_id)
            entry = entry_of(record_id, annotator, round, response, self.now, pushed.labels)
        except UnreadableAnswerError as error:
            key = (str(record_id), str(annotator), round)
            if key in self.state:
                seen.add(key)
            self.counts.unreadable += 1
            who = f" by {annotator}" if annotator is not None else ""
            self.counts.problems.append(f"the answer to record '{one_line(str(record_id))[:ID_SHOWN]}'{who}: {error}")
            return
        key = (entry["record_id"], annotator, round)
        if key in seen and not _later(entry, self.state[key]):
            return
        seen.add(key)
        if changed(entry, self.state.get(key)):
            new_entries.append(entry)
            self.state[key] = entry


def _tally(counts: PullCounts, state: Mapping[AnswerKey, Mapping[str, Any]]) -> None:
    """Adds the counts over the latest state."""
    for entry in state.values():
        if entry["rejected"] is not None:
            counts.rejected += 1
            counts.rejections.append(f"{entry['record_id']}: {entry['annotator']}: {entry['rejected']}")
        else:
            setattr(counts, entry["status"], getattr(counts, entry["status"]) + 1)
        counts.unsure += bool(entry["unsure"])
        counts.notes += bool(entry["note"])
    counts.rejections.sort()


def _later(entry: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return (entry["submitted_at"] or "") > (other["submitted_at"] or "")


class _Pseudonyms:
    """Pseudonyms by user id. The key file is written before a new pseudonym is used in the journal."""

    def __init__(self, connection: Connection, path: Path, datasets: Sequence[Pushed]) -> None:
        self._connection = connection
        self._path = path
        self._workspaces = sorted({pushed.workspace for pushed in datasets})
        self._key: Key = read_key(path)
        self._usernames: dict[str, str] | None = None

    def of(self, user_id: str) -> str:
        """The user's pseudonym, a new one at the first answer."""
        if self._key.known(user_id) is None:
            if self._usernames is None:
                self._usernames = usernames(self._connection, self._workspaces)
            self._key = self._key.with_user(user_id, self._usernames.get(user_id, user_id))
            write_key(self._path, self._key)
        return self._key.pseudonym(user_id)


def usernames(connection: Connection, workspaces: Sequence[str]) -> dict[str, str]:
    """Usernames by user id: of all users for an owner, of the members of `workspaces` for an admin."""
    if connection.role == "owner":
        users = get(connection, Items[User], "/users").items
    else:
        own = [item.id for item in get(connection, Items[Workspace], "/me/workspaces").items if item.name in workspaces]
        members = [get(connection, Items[User], f"/workspaces/{workspace}/users").items for workspace in own]
        users = [user for items in members for user in items]
    return {user.id: user.username for user in users}

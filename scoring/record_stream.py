"""Many records from Python: texts or conversations in, their scores out in the same order, with a progress bar."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from itertools import count, islice
from typing import Any

from marginalia.schemas.errors import InputError
from marginalia.schemas.progress import progress as show_progress
from marginalia.scoring.prompt import check_messages
from marginalia.scoring.scored_record import Result

Messages = Sequence[dict[str, str]]
ScoreRecords = Callable[[Iterable[tuple[str, Messages]]], Iterator[Result]]
ACCEPTED = "a text, the messages of a conversation, (id, either of these), or a dict with text or messages"


def scored_in_order(records: Iterable[Any], score_records: ScoreRecords, window: int) -> Iterator[Result]:
    """Yields the result of each record in the order of `records`, of which at most `window` are in memory.

    A record without an id gets its position, from 0. One that is not a record has a result with an `error`."""
    source = zip(count(), records, strict=False)
    while items := list(islice(source, window)):
        slots: list[str | Result] = []  # the id of each record that is scored, or the result of one that is not
        valid: dict[str, Messages] = {}
        for position, item in items:
            record_id = str(position)
            try:
                record_id, content = id_and_content(item, record_id)
                messages = messages_from(content)
                if record_id in valid:
                    raise InputError(f"duplicate id '{record_id}'; ids must be unique")
            except InputError as error:
                slots.append(Result(record_id, error=str(error)))
            else:
                valid[record_id] = messages
                slots.append(record_id)
        yield from _ordered(slots, score_records(valid.items()))


def _ordered(slots: list[str | Result], results: Iterator[Result]) -> Iterator[Result]:
    done: dict[str, Result] = {}
    for slot in slots:
        if isinstance(slot, Result):
            yield slot
            continue
        while slot not in done:
            result = next(results)
            done[result.record_id] = result
        yield done.pop(slot)


def id_and_content(item: Any, position: str) -> tuple[str, Any]:
    """(id, text or messages) of one record, not checked yet. Raises InputError for an id that is not one."""
    record_id: Any = position
    if isinstance(item, tuple) and len(item) == 2 and not isinstance(item[0], dict):
        record_id, item = item
    elif isinstance(item, Mapping) and not {"role", "content"} <= item.keys():
        record_id = item.get("id", position)
        item = item["messages"] if item.get("messages") is not None else item.get("text")
    if isinstance(record_id, int) and not isinstance(record_id, bool):
        record_id = str(record_id)
    if not isinstance(record_id, str) or not record_id:
        raise InputError(f"an id is a text or a number, saw {record_id!r}")
    return record_id, item


def messages_from(record: Any) -> Messages:
    """The messages of a text or a conversation. Raises InputError for anything else."""
    if isinstance(record, str):
        record = [{"role": "user", "content": record}]
    elif hasattr(record, "tolist"):  # an array, as pandas has for a list that was read from Parquet
        record = record.tolist()
    if not isinstance(record, Sequence) or not all(isinstance(message, dict) for message in record):
        raise InputError(f"expected {ACCEPTED}; saw {repr(record)[:80]}")
    check_messages(record)
    return record


def with_progress(results: Iterator[Result], records: Iterable[Any], progress: bool | None) -> Iterator[Result]:
    """The results with a bar on stderr. `progress`: None shows it only on a terminal."""
    total = len(records) if isinstance(records, Sized) else None
    show = sys.stderr.isatty() if progress is None else progress
    return iter(show_progress(results, total=total, unit="record", what="score", show=show, as_bar=progress is True))

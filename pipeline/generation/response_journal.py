"""The journal of answers, responses.jsonl, and its index by request. An answer is on disk before it is used."""

from __future__ import annotations

import asyncio
import hashlib
from array import array
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from marginalia.pipeline.generation.writer_requests import WriterRequest
from marginalia.schemas.errors import ArtifactError
from marginalia.schemas.storage.journal import RESTORE, Journal, read_at, read_with_offsets

_PAUSE = 0.01  # seconds between two fsyncs, so that one fsync covers several answers


@dataclass(frozen=True)
class Reply:
    """One answer of the endpoint. `refused` is the text of a refusal; token counts are None when the endpoint did not
    report them; `endpoint` is the address that answered; `reasoning`: the answer had a separate field with the model's
    reasoning."""

    text: str | None
    refused: str | None
    finish_reason: str | None
    model: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    seconds: float
    endpoint: str | None = None
    reasoning: bool = False


@dataclass(frozen=True)
class JournalledAnswer:
    """The part of a journal entry that acceptance and budget need. `prompt_bytes`: the prompt's size in UTF-8."""

    text: str | None
    refused: str | None
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    created_at: datetime
    prompt_bytes: int = 0
    model: str | None = None
    reasoning: bool = False


class KnownAnswers:
    """The answers of a journal by the key of their question. Of two answers with the same key, the first counts: it is
    the one that was used. Memory holds an index of 16 bytes per answer, and the last attempt at each slot that has more
    than one.

    Raises ArtifactError with the line of a damaged entry."""

    def __init__(self, path: Path) -> None:
        self._path = path
        hashes, offsets = array("Q"), array("q")
        self._last_attempts: dict[str, int] = {}
        for number, (offset, entry) in enumerate(read_with_offsets(path), start=1):
            try:
                check_entry(entry)
            except ValueError as error:
                raise ArtifactError.at(path, f"not an answer: {error}", line=number, hint=RESTORE) from error
            hashes.append(_hash(entry["key"]))
            offsets.append(offset)
            if (attempt := entry.get("attempt", 1)) > self.last_attempt(entry.get("slot_id", "")):
                self._last_attempts[entry["slot_id"]] = attempt
        self._hashes, first = np.unique(np.array(hashes, dtype=np.uint64), return_index=True)
        self._offsets = np.array(offsets, dtype=np.int64)[first]

    def __len__(self) -> int:
        return len(self._hashes)

    def __contains__(self, key: str) -> bool:
        return self.get(key) is not None

    def last_attempt(self, slot_id: str) -> int:
        """The highest attempt at the slot that has an answer, whatever the request was; 1 when there is none."""
        return self._last_attempts.get(slot_id, 1)

    def get(self, key: str) -> JournalledAnswer | None:
        """The answer to the question with this key, read from disk; None when there is none."""
        if not len(self._hashes):
            return None
        key_hash = _hash(key)
        number = int(np.searchsorted(self._hashes, np.uint64(key_hash)))
        if number == len(self._hashes) or int(self._hashes[number]) != key_hash:
            return None
        entry = next(read_at(self._path, [int(self._offsets[number])]))
        return _answer(entry) if entry["key"] == key else None

    def values(self) -> Iterator[JournalledAnswer]:
        """All answers, read from disk in the order of the journal."""
        return map(_answer, read_at(self._path, np.sort(self._offsets).tolist())) if len(self) else iter(())


def read_answers(path: Path) -> KnownAnswers:
    """The answers in a journal; none when the file does not exist. Raises ArtifactError with the line of a damaged
    entry."""
    return KnownAnswers(path)


def check_entry(entry: dict[str, Any]) -> None:
    """Raises ValueError for an entry from which no answer can be read."""
    try:
        _check_types(_answer(entry))
        _hash(entry["key"])
        if not isinstance(entry.get("attempt", 1), int) or not isinstance(entry.get("slot_id", ""), str):
            raise TypeError("attempt is not a whole number, or slot_id is not text")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(repr(error)) from error


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")


def _answer(entry: dict[str, Any]) -> JournalledAnswer:
    return JournalledAnswer(
        text=entry["text"],
        refused=entry["refused"],
        finish_reason=entry["finish_reason"],
        prompt_tokens=entry["prompt_tokens"],
        completion_tokens=entry["completion_tokens"],
        created_at=datetime.fromisoformat(entry["created_at"]),
        prompt_bytes=prompt_bytes(entry["request"]),
        model=entry["model"],
        reasoning=entry.get("reasoning", False),
    )


def _check_types(answer: JournalledAnswer) -> None:
    """Raises TypeError for a text that is not a string and a token count that is not an integer."""
    for name in ("text", "refused", "finish_reason", "model"):
        if not isinstance(getattr(answer, name), str | None):
            raise TypeError(f"{name} is not text")
    for name in ("prompt_tokens", "completion_tokens"):
        if type(getattr(answer, name)) not in (int, type(None)):
            raise TypeError(f"{name} is not a whole number")


def prompt_bytes(payload: dict[str, Any]) -> int:
    """Size of a request's message texts in UTF-8."""
    return sum(len(message["content"].encode("utf-8", "surrogatepass")) for message in payload["messages"])


class AnswerLog:
    """Appends answers to the journal. Each is written as it arrives, so that a killed process loses none. One fsync
    then puts on disk all answers that arrived during the previous fsync; only after it may they be used."""

    def __init__(self, journal: Journal, endpoint: str) -> None:
        self._journal = journal
        self._endpoint = endpoint
        self._wake = asyncio.Event()
        self._waiting: list[tuple[Callable[[JournalledAnswer], None], JournalledAnswer]] = []
        self._stopped = False

    def keep(
        self, question: WriterRequest, reply: Reply, *, on_disk: Callable[[JournalledAnswer], None]
    ) -> JournalledAnswer:
        """Writes the reply to the journal. `put_on_disk` calls `on_disk` with the answer when it may be used. Raises
        InputError when it cannot be written."""
        entry = {
            "key": question.key,
            "slot_id": question.slot_id,
            "attempt": question.attempt,
            "created_at": datetime.now(UTC).isoformat(timespec="microseconds"),
            "endpoint": reply.endpoint or self._endpoint,
            "request": question.payload,
            "model": reply.model,
            "text": reply.text,
            "refused": reply.refused,
            "finish_reason": reply.finish_reason,
            "reasoning": reply.reasoning,
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
            "seconds": round(reply.seconds, 3),
        }
        check_entry(entry)  # an entry that cannot be read again would end every later command
        answer = _answer(entry)
        self._journal.write([entry])
        self._waiting.append((on_disk, answer))
        self._wake.set()
        return answer

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """A context that puts on disk what was written by its end, also when it ends by an interrupt."""
        try:
            yield
        finally:
            self._journal.sync()

    async def put_on_disk(self) -> None:
        """Calls fsync for the answers of `keep`, until `stop` is called. A task of its own. Raises InputError when the
        disk fails."""
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._stopped:
                return
            waiting, self._waiting = self._waiting, []
            # shielded: an interrupt must not close the file under an fsync
            sync = asyncio.ensure_future(loop.run_in_executor(None, self._journal.sync))
            try:
                await asyncio.shield(sync)
            except asyncio.CancelledError:
                await sync
                raise
            for on_disk, answer in waiting:
                on_disk(answer)
                await asyncio.sleep(0)  # let a waiting worker read its answer first, so that its next call can start
            await asyncio.sleep(_PAUSE)

    async def flush(self) -> None:
        """Puts on disk what was kept so far, without calling `on_disk`; for callers that use all answers later."""
        self._waiting.clear()
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, self._journal.sync))

    def stop(self) -> None:
        """Ends `put_on_disk`, when every answer has been used."""
        self._stopped = True
        self._wake.set()

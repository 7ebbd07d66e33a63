"""What the endpoint answered, on disk before it is used: the journal responses.jsonl and its index by request."""

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

_PAUSE = 0.01  # seconds between two fsyncs, in which answers gather


@dataclass(frozen=True)
class Reply:
    """One answer of the endpoint. `refused` holds its words when it declined; tokens are null when it did not say;
    `endpoint` is the address that answered; `reasoning`: the model also thought, in a place of its own."""

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
    """An entry of the journal, as much of it as judging needs."""

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
    """The answers of a journal by the key of their question; of two with one key the first, which is the one that was
    used. In memory is an index of 16 bytes an answer, and the last attempt of each slot that has more than one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        hashes, places = array("Q"), array("q")
        self._last_attempts: dict[str, int] = {}
        for number, (place, entry) in enumerate(read_with_offsets(path), start=1):
            try:
                _typed(_answer(entry))
                hashes.append(_hash(entry["key"]))
                if (attempt := entry.get("attempt", 1)) > self.last_attempt(entry.get("slot_id", "")):
                    self._last_attempts[entry["slot_id"]] = attempt
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise ArtifactError.at(path, f"not an answer: {error!r}", line=number, hint=RESTORE) from error
            places.append(place)
        self._hashes, first = np.unique(np.array(hashes, dtype=np.uint64), return_index=True)
        self._places = np.array(places, dtype=np.int64)[first]

    def __len__(self) -> int:
        return len(self._hashes)

    def __contains__(self, key: str) -> bool:
        return self.get(key) is not None

    def last_attempt(self, slot_id: str) -> int:
        """The highest attempt at the slot that has an answer, to whatever request; 1 when there is none."""
        return self._last_attempts.get(slot_id, 1)

    def get(self, key: str) -> JournalledAnswer | None:
        if not len(self._hashes):
            return None
        wanted = _hash(key)
        number = int(np.searchsorted(self._hashes, np.uint64(wanted)))
        if number == len(self._hashes) or int(self._hashes[number]) != wanted:
            return None
        entry = next(read_at(self._path, [int(self._places[number])]))
        return _answer(entry) if entry["key"] == key else None

    def values(self) -> Iterator[JournalledAnswer]:
        return map(_answer, read_at(self._path, np.sort(self._places).tolist())) if len(self) else iter(())


def read_answers(path: Path) -> KnownAnswers:
    """Raises ArtifactError with the line of an entry that is not one of ours."""
    return KnownAnswers(path)


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


def _typed(answer: JournalledAnswer) -> JournalledAnswer:
    """Raises TypeError when a text or a count is something else."""
    for name, kind in (("text", str), ("refused", str), ("finish_reason", str), ("model", str)):
        if not isinstance(getattr(answer, name), kind | None):
            raise TypeError(f"{name} is no text")
    for name in ("prompt_tokens", "completion_tokens"):
        if type(getattr(answer, name)) not in (int, type(None)):
            raise TypeError(f"{name} is no count")
    return answer


def prompt_bytes(payload: dict[str, Any]) -> int:
    """Size of a request's texts in UTF-8."""
    return sum(len(message["content"].encode("utf-8", "surrogatepass")) for message in payload["messages"])


class AnswerLog:
    """Appends answers to the journal: each is handed to the operating system as it arrives, so that a killed process
    loses none, and put on disk with all that arrived while the fsync before it was under way; then it may be used."""

    def __init__(self, journal: Journal, endpoint: str) -> None:
        self._journal = journal
        self._endpoint = endpoint
        self._wake = asyncio.Event()
        self._waiting: list[tuple[Callable[[JournalledAnswer], None], JournalledAnswer]] = []
        self._stopped = False

    def keep(
        self, question: WriterRequest, reply: Reply, *, on_disk: Callable[[JournalledAnswer], None]
    ) -> JournalledAnswer:
        """Journals the reply; `on_disk` is called with the answer when it may be used. Raises InputError when the disk
        refuses it."""
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
        self._journal.write([entry])
        answer = _answer(entry)
        self._waiting.append((on_disk, answer))
        self._wake.set()
        return answer

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Puts on disk, too, what had arrived when the body is interrupted."""
        try:
            yield
        finally:
            self._journal.sync()

    async def put_on_disk(self) -> None:
        """Runs beside those who keep answers, until `stop`. Raises InputError when the disk refuses."""
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
                await asyncio.sleep(0)  # an answer that has come is read first: its call's successor can go out
            await asyncio.sleep(_PAUSE)

    async def flush(self) -> None:
        """Puts on disk what was kept so far, for those who use answers later and all at once."""
        self._waiting.clear()
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, self._journal.sync))

    def stop(self) -> None:
        """For when every answer has been used."""
        self._stopped = True
        self._wake.set()

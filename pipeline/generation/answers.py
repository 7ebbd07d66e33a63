"""What the endpoint answered, on disk before it is used: the journal responses.jsonl and its index by request."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.generation.questions import Question
from schemas.errors import ArtifactError
from schemas.journal import Journal, read_journal


@dataclass(frozen=True)
class Reply:
    """One answer of the endpoint. `refused` holds its words when it declined; tokens are null when it did not say."""

    text: str | None
    refused: str | None
    finish_reason: str | None
    model: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    seconds: float


@dataclass(frozen=True)
class Answer:
    """An entry of the journal, as much of it as judging needs."""

    text: str | None
    refused: str | None
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    created_at: datetime


def read_answers(path: Path) -> dict[str, Answer]:
    """All answers by the key of their question; of two with one key the first, which is the one that was used.

    Raises ArtifactError with the line of an entry that is not one of ours."""
    answers: dict[str, Answer] = {}
    for number, entry in enumerate(read_journal(path), start=1):
        try:
            answers.setdefault(entry["key"], _answer(entry))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            hint = "restore the file from a back-up; it is never rewritten"
            raise ArtifactError.at(path, f"not an answer: {error!r}", line=number, hint=hint) from error
    return answers


def _answer(entry: dict[str, Any]) -> Answer:
    return Answer(
        text=entry["text"],
        refused=entry["refused"],
        finish_reason=entry["finish_reason"],
        prompt_tokens=entry["prompt_tokens"],
        completion_tokens=entry["completion_tokens"],
        created_at=datetime.fromisoformat(entry["created_at"]),
    )


class AnswerLog:
    """Appends answers to the journal. Those that arrive while a write is under way share the next fsync."""

    def __init__(self, journal: Journal, endpoint: str) -> None:
        self._journal = journal
        self._endpoint = endpoint
        self._waiting: list[tuple[dict[str, Any], asyncio.Future[None]]] = []
        self._wake = asyncio.Event()

    async def keep(self, question: Question, reply: Reply) -> Answer:
        """The answer, once it is on disk. Raises InputError when the disk refuses it."""
        entry = {
            "key": question.key,
            "slot_id": question.slot_id,
            "attempt": question.attempt,
            "created_at": datetime.now(UTC).isoformat(timespec="microseconds"),
            "endpoint": self._endpoint,
            "request": question.payload,
            "model": reply.model,
            "text": reply.text,
            "refused": reply.refused,
            "finish_reason": reply.finish_reason,
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
            "seconds": round(reply.seconds, 3),
        }
        written = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, written))
        self._wake.set()
        await written
        return _answer(entry)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Runs the writer while the body runs. What had arrived is written even when the body is interrupted."""
        writer = asyncio.create_task(self._write())
        try:
            yield
        finally:
            writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await writer
            self._journal.extend([entry for entry, _ in self._waiting])

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch, self._waiting = self._waiting, []
            # shielded: an interrupt must not leave a batch half done and then write it again
            write = asyncio.get_running_loop().run_in_executor(
                None, self._journal.extend, [entry for entry, _ in batch]
            )
            try:
                await asyncio.shield(write)
            except asyncio.CancelledError:
                await write
                raise
            except BaseException as error:
                for _, written in batch:
                    if not written.done():
                        written.set_exception(error)
                continue
            for _, written in batch:
                if not written.done():
                    written.set_result(None)

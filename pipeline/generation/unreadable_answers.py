"""Answers that the endpoint gave, and will charge for, and that cannot be read: noted on disk, so that a budget knows
of them in a resumed run, too."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from marginalia.pipeline.config.generation import unreadable_path
from marginalia.pipeline.generation.response_journal import prompt_bytes
from marginalia.pipeline.generation.writer_requests import WriterRequest
from marginalia.schemas.errors import ArtifactError
from marginalia.schemas.storage.journal import RESTORE, Journal, read_journal


class UnreadableAnswers:
    """The notes beside a journal of answers. `prompt_bytes` has the size of each one's prompt; the file comes to be
    with the first of them."""

    def __init__(self, journal: Path) -> None:
        self._path = unreadable_path(journal)
        self._journal: Journal | None = None
        self.prompt_bytes: list[int] = []
        for number, entry in enumerate(read_journal(self._path), start=1):
            size = entry.get("prompt_bytes")
            if not isinstance(size, int) or isinstance(size, bool) or size < 0:
                raise ArtifactError.at(self._path, "expected the size of a prompt", line=number, hint=RESTORE)
            self.prompt_bytes.append(size)

    def note(self, question: WriterRequest, said: str) -> int:
        """Puts one on disk; its prompt's size. `said` is what came instead of an answer."""
        if self._journal is None:
            self._journal = Journal(self._path)
        size = prompt_bytes(question.payload)
        self._journal.append(
            {
                "slot_id": question.slot_id,
                "attempt": question.attempt,
                "created_at": datetime.now(UTC).isoformat(timespec="microseconds"),
                "prompt_bytes": size,
                "said": said,
            }
        )
        self.prompt_bytes.append(size)
        return size

    def close(self) -> None:
        if self._journal is not None:
            self._journal.close()

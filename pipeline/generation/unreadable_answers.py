"""Answers that cannot be read but that the endpoint charges for. They are noted on disk, so that a resumed run counts
them against its budget, too."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from marginalia.pipeline.config.generation import unreadable_path
from marginalia.pipeline.generation.response_journal import prompt_bytes
from marginalia.pipeline.generation.writer_requests import WriterRequest
from marginalia.schemas.errors import ArtifactError
from marginalia.schemas.storage.journal import RESTORE, Journal, read_journal


def check_entry(entry: dict[str, Any]) -> None:
    """Raises ValueError for a note without the size of the prompt."""
    size = entry.get("prompt_bytes")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ValueError("prompt_bytes is not a size")


class UnreadableAnswers:
    """The notes that belong to a journal of answers. `prompt_bytes` has the size of the prompt of each unreadable
    answer. The file is created with the first note. Raises ArtifactError for a damaged entry."""

    def __init__(self, journal: Path) -> None:
        self._path = unreadable_path(journal)
        self._journal: Journal | None = None
        self.prompt_bytes: list[int] = []
        for number, entry in enumerate(read_journal(self._path), start=1):
            try:
                check_entry(entry)
            except ValueError as error:
                raise ArtifactError.at(self._path, str(error), line=number, hint=RESTORE) from error
            self.prompt_bytes.append(entry["prompt_bytes"])

    def note(self, question: WriterRequest, body: str) -> int:
        """Writes a note to disk and returns the size of the question's prompt in bytes. `body` is what came instead of
        an answer."""
        if self._journal is None:
            self._journal = Journal(self._path)
        size = prompt_bytes(question.payload)
        self._journal.append(
            {
                "slot_id": question.slot_id,
                "attempt": question.attempt,
                "created_at": datetime.now(UTC).isoformat(timespec="microseconds"),
                "prompt_bytes": size,
                "said": body,
            }
        )
        self.prompt_bytes.append(size)
        return size

    def close(self) -> None:
        """Closes the file, if there is one."""
        if self._journal is not None:
            self._journal.close()

"""Scoring in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from marginalia.scoring.score_files import Messages, Origin, origin_of, score_to_journal
from marginalia.scoring.score_request import ScoreRequest
from marginalia.scoring.scorer import Scorer


class LocalJob:
    """Scores with one model in this process.

    Iterating scores the records that are not yet in the journal, and yields the id of each once it is on disk."""

    def __init__(self, request: ScoreRequest, records: Sequence[tuple[str, Messages]], journal: Path) -> None:
        self._records = records
        self._journal = journal
        self._scorer = Scorer.from_request(request)

    def __iter__(self) -> Iterator[str]:
        yield from score_to_journal(self._scorer, self._records, self._journal)

    @property
    def origin(self) -> Origin:
        """What scored the records. Its notes are complete when all records are done."""
        return origin_of(self._scorer)

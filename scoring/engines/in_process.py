"""Scoring in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from marginalia.scoring.score_files import Messages, Origin, origin_of, score_to_journal
from marginalia.scoring.score_request import ScoreRequest
from marginalia.scoring.scorer import Scorer


class LocalJob:
    """One model in this process. Iterating scores what the journal does not hold yet and yields each record's id once
    it is on disk."""

    def __init__(self, request: ScoreRequest, records: Sequence[tuple[str, Messages]], journal: Path) -> None:
        self._records = records
        self._journal = journal
        self._scorer = Scorer.from_request(request)

    def __iter__(self) -> Iterator[str]:
        yield from score_to_journal(self._scorer, self._records, self._journal)

    @property
    def origin(self) -> Origin:
        """Who scored; its notes are complete when all records are."""
        return origin_of(self._scorer)

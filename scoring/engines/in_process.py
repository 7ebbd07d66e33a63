"""Scoring in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from marginalia.scoring.engines.scorer_recipe import ScorerRecipe
from marginalia.scoring.score_files import Messages, Origin, origin_of, score_to_journal


class LocalJob:
    """One model in this process. Iterating scores what the journal does not hold yet and yields each record's id once
    it is on disk."""

    def __init__(self, recipe: ScorerRecipe, records: Sequence[tuple[str, Messages]], journal: Path) -> None:
        self._records = records
        self._journal = journal
        self._scorer = recipe.load()

    def __iter__(self) -> Iterator[str]:
        yield from score_to_journal(self._scorer, self._records, self._journal)

    @property
    def origin(self) -> Origin:
        """Who scored; its notes are complete when all records are."""
        return origin_of(self._scorer)

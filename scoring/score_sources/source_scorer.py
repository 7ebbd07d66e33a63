"""A scorer for guards that give a number per label themselves."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from marginalia.schemas.errors import InputError
from marginalia.scoring.marginal.answer_search import Search
from marginalia.scoring.score_request import Settings
from marginalia.scoring.score_sources.load_source import ScoreSource
from marginalia.scoring.score_sources.source_guard import SourceGuard
from marginalia.scoring.scored_record import Result
from marginalia.scoring.scorer import WINDOW, Scorer


class SourceScorer(Scorer):
    """A Scorer for a guard whose probabilities come from a server or a classification head.

    It computes one estimator, whatever the settings ask for: `server` or `classifier`, without bounds. `answer` and
    `unexplored` are None."""

    model: Any  # a ScoreSource, where others have a Model
    guard: Any  # a SourceGuard
    prompts: Any  # its inputs

    def __init__(self, source: ScoreSource, guard: SourceGuard, settings: Settings | None = None) -> None:
        self.model = source
        self.guard = guard
        self.settings = (settings or Settings()).model_copy(update={"estimators": (guard.estimator,)})
        self.prompts = source.inputs
        self.notes = []
        self.calls = {}

    @property
    def prompt_notes(self) -> list[str]:
        """None: there are no templates."""
        return []

    @property
    def batch_invariant(self) -> bool:
        """Whether a record's numbers are independent of the records that are scored with it."""
        return bool(self.model.batch_invariant)

    def measure(self, records: Sequence[tuple[str, Sequence[dict[str, str]]]]) -> None:
        """Does nothing: a source does not compute a search."""

    def search(self, messages: Sequence[dict[str, str]]) -> Search:
        """Raises InputError: there is no tree of answers."""
        raise InputError(
            f"guard {self.guard.name} (kind: {self.guard.file.kind}) gives numbers and no answers to explain"
        )

    def score_batches(
        self, records: Iterable[tuple[str, Sequence[dict[str, str]]]], journalled: Container[str] = ()
    ) -> Iterator[list[Result]]:
        """Yields lists of results that are done at the same time. Records whose ids are in `journalled` are left
        out."""
        source = iter(records)
        while window := list(islice(source, WINDOW)):
            yield from self.model.score_batches(window, journalled)

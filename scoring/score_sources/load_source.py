"""Loads what gives a guard's probabilities: a server or a classifier."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import Protocol

from marginalia.scoring.guard_kinds import CLASSIFIER
from marginalia.scoring.score_request import GuardModel, Settings
from marginalia.scoring.score_sources.input_texts import InputTexts
from marginalia.scoring.score_sources.source_guard import SourceGuard
from marginalia.scoring.scored_record import Result


class ScoreSource(Protocol):
    """A source of probabilities for the rows of one guard."""

    @property
    def batch_invariant(self) -> bool:
        """Whether a record's numbers do not depend on the records that are scored with it."""
        ...

    @property
    def inputs(self) -> InputTexts:
        """How a record becomes its input."""
        ...

    @property
    def name(self) -> str:
        """The model's name, which is recorded with the scores."""
        ...

    @property
    def revision(self) -> str:
        """The model's revision, which is recorded with the scores."""
        ...

    @property
    def identity(self) -> list[str]:
        """What its numbers depend on."""
        ...

    @property
    def notes(self) -> list[str]:
        """What readers of its scores should know: one sentence each."""
        ...

    def score_batches(
        self, records: Sequence[tuple[str, Sequence[dict[str, str]]]], journalled: Container[str]
    ) -> Iterator[list[Result]]:
        """Yields the results of the records that are not in `journalled`, a few at a time."""
        ...


def load_source(options: GuardModel, guard: SourceGuard, settings: Settings) -> ScoreSource:
    """Connects to the server or loads the model that `options.model` names. Raises InputError, ModelError and
    ServiceError, as load_classifier and load_endpoint_source do."""
    if guard.file.kind == CLASSIFIER:
        from marginalia.scoring.score_sources.load_classifier import load_classifier

        return load_classifier(options, guard, settings)
    from marginalia.scoring.score_sources.endpoint_connection import load_endpoint_source

    return load_endpoint_source(options, guard)

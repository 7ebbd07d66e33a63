"""One way to start scoring, whichever engine does it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from scoring.config import EngineName, RayOptions
from scoring.engines.recipe import Recipe
from scoring.results import Messages, Origin


class Job(Protocol):
    """Iterating scores what the journal does not hold yet and yields each record's id once it is on disk."""

    def __iter__(self) -> Iterator[str]: ...

    @property
    def origin(self) -> Origin: ...


def start(
    recipe: Recipe,
    records: Sequence[tuple[str, Messages]],
    journal: Path,
    *,
    engine: EngineName = "local",
    ray: RayOptions | None = None,
) -> Job:
    """A job over these (id, messages), whose ids differ from each other.

    Raises InputError and ModelError for what cannot be loaded, InputError when the engine is not installed."""
    if engine == "ray" and records:
        from scoring.engines.ray_data import RayJob

        return RayJob(recipe, records, journal, ray or RayOptions())
    from scoring.engines.local import LocalJob

    return LocalJob(recipe, records, journal)

"""One way to start scoring, whichever engine does it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from marginalia.scoring.config import EngineName, RayOptions
from marginalia.scoring.score_files import Messages, Origin
from marginalia.scoring.score_request import ScoreRequest


class ScoringJob(Protocol):
    """Iterating scores what the journal does not hold yet and yields each record's id once it is on disk."""

    def __iter__(self) -> Iterator[str]: ...

    @property
    def origin(self) -> Origin: ...


def start(
    request: ScoreRequest,
    records: Sequence[tuple[str, Messages]],
    journal: Path,
    *,
    engine: EngineName = "local",
    ray: RayOptions | None = None,
) -> ScoringJob:
    """A job over these (id, messages), whose ids differ from each other.

    Raises InputError and ModelError for what cannot be loaded, InputError when the engine is not installed."""
    if engine == "ray" and records:
        from marginalia.scoring.engines.ray_data import RayJob

        return RayJob(request, records, journal, ray or RayOptions())
    from marginalia.scoring.engines.in_process import LocalJob

    return LocalJob(request, records, journal)

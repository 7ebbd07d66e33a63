"""Starts scoring on the chosen engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from marginalia.schemas.key_approval import check_key_approved
from marginalia.scoring.config import EngineName, RayOptions
from marginalia.scoring.models.endpoint_key import endpoint_key
from marginalia.scoring.score_files import Messages, Origin
from marginalia.scoring.score_request import GuardModel, ScoreRequest, split_urls


class ScoringJob(Protocol):
    """Iterating scores the records that are not yet in the journal, and yields the id of each once it is on disk."""

    def __iter__(self) -> Iterator[str]: ...

    @property
    def origin(self) -> Origin:
        """What scored the records, once they are all done."""
        ...


def start(
    request: ScoreRequest,
    records: Sequence[tuple[str, Messages]],
    journal: Path,
    *,
    engine: EngineName = "local",
    ray: RayOptions | None = None,
    allow_http: str = "allow_http",
) -> ScoringJob:
    """A job that scores `records`, pairs (id, messages) with distinct ids, into `journal`.

    allow_http: the user's name for that option, for messages. Raises InputError or ModelError for a guard or model that
    cannot be loaded, InputError when Ray is not installed, or when the endpoint's key is not set or not approved for
    its address."""
    approve_endpoint_key(request, allow_http=allow_http, is_read_here=engine == "local")
    if engine == "ray" and records:
        from marginalia.scoring.engines.ray_data import RayJob

        return RayJob(request, records, journal, ray or RayOptions())
    from marginalia.scoring.engines.in_process import LocalJob

    return LocalJob(request, records, journal)


def approve_endpoint_key(request: GuardModel, *, allow_http: str, is_read_here: bool = True) -> None:
    """Asks for the approval that the endpoint's key may be sent to its addresses, if there is a key. Here and not where
    the key is read and sent, because that may be another machine of a cluster. `allow_http`: as for `start`;
    `is_read_here`: the key is read in this process, so it must be set before anybody is asked about it.

    Raises InputError for a key that is not set, and as check_key_approved does."""
    if request.api_key_env is None or not request.model.startswith(("http://", "https://")):
        return
    if is_read_here:
        endpoint_key(request)
    for url in split_urls(request.model):
        check_key_approved(request.api_key_env, url, allow_http=request.allow_http, setting=allow_http)

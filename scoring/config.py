"""The config of the score stage: the guard models, and where scoring runs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from marginalia.schemas.base_model import ID_PATTERN, StrictModel
from marginalia.schemas.server_addresses import check_endpoint
from marginalia.scoring.score_request import GuardModel, SearchOptions, split_urls


class GuardRun(GuardModel):
    """One guard model. Its scores are written to scores/NAME.parquet."""

    name: str = Field(pattern=ID_PATTERN, description="names the files in scores/")

    @field_validator("model")
    @classmethod
    def _addresses(cls, value: str) -> str:
        if value.startswith(("http://", "https://")):
            for url in split_urls(value):
                check_endpoint(url)
        return value


EngineName = Literal["local", "ray"]


class RayOptions(StrictModel):
    """Options of the engine ray. Results do not depend on them."""

    address: str | None = Field(
        default=None,
        description="a Ray cluster: host:port of its head, or 'auto' on one of its nodes; without it (and without "
        "RAY_ADDRESS in the environment) Ray is started on this machine while the stage runs",
    )
    actors: int | None = Field(
        default=None,
        ge=1,
        description="number of actors, each with a loaded model; without it, as many as the GPUs or CPUs allow",
    )
    cpus: int | None = Field(
        default=None, ge=1, description="cores of one actor; without it 1 with a GPU, else up to 4"
    )
    gpus: float | None = Field(
        default=None, ge=0, description="GPUs of one actor; without it 1 where the cluster has GPUs, else 0"
    )
    block_records: int = Field(
        default=64, ge=1, description="records that an actor is given at a time; if it dies, these are scored again"
    )


RAY_FLAGS = {"address": "address", "actors": "actors", "cpus": "actor-cpus", "gpus": "actor-gpus"}  # key → option


class ScoreSection(SearchOptions):
    """Scoring the gold records with guard models."""

    guards: list[GuardRun] = Field(default=[], description="the guard models to score with")
    # excluded from dumps, and so from the stage's config hash: results do not depend on where scoring runs
    engine: EngineName = Field(
        default="local", exclude=True, description="local: one process; ray: a pool of Ray actors, each with the model"
    )
    ray: RayOptions = Field(default=RayOptions(), exclude=True)

    @field_validator("guards")
    @classmethod
    def _distinct(cls, guards: list[GuardRun]) -> list[GuardRun]:
        names = [guard.name for guard in guards]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two guards are named '{name}'")
        return guards

"""Config of the score stage: which guards judge the gold records, and where scoring runs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from marginalia.schemas.base_model import ID_PATTERN, StrictModel
from marginalia.schemas.server_addresses import check_endpoint
from marginalia.scoring.score_request import GuardModel, SearchOptions, split_urls


class GuardRun(GuardModel):
    """One guard model to score with; its scores go to scores/NAME.parquet."""

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
    """How scoring is spread by Ray (engine: ray). Results do not depend on it."""

    address: str | None = Field(
        default=None,
        description="a Ray cluster: host:port of its head, or 'auto' on one of its nodes; without it (and without "
        "RAY_ADDRESS in the environment) Ray is started on this machine for the time of the stage",
    )
    actors: int | None = Field(
        default=None, ge=1, description="models loaded at once; without it as many as there are GPUs, or CPUs, for"
    )
    cpus: int | None = Field(
        default=None, ge=1, description="cores of one actor; without it 1 beside a GPU, else up to 4"
    )
    gpus: float | None = Field(
        default=None, ge=0, description="GPUs of one actor; without it 1 where the cluster has GPUs, else 0"
    )
    block_records: int = Field(
        default=64, ge=1, description="records that an actor is given at a time: what a killed actor begins again"
    )


RAY_FLAGS = {"address": "address", "actors": "actors", "cpus": "actor-cpus", "gpus": "actor-gpus"}  # key → option


class ScoreSection(SearchOptions):
    """Scoring the gold records with guard models."""

    guards: list[GuardRun] = Field(default=[], description="the guard models to score with")
    # excluded from dumps, and so from the stage's config hash: where it runs changes no result
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

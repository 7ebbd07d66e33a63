"""What is scored with, and how: the one place that defines every option of the scorer, its default and its meaning.

A `ScoreRequest` is all that a scorer is loaded from. The score section of config.yaml, the command line of the scorer
and `Scorer.load` are views of it. Nothing heavy is imported here: `--help` reads this file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator

from marginalia.schemas.base_model import StrictModel
from marginalia.schemas.endpoint_access import EndpointAccess
from marginalia.schemas.errors import did_you_mean
from marginalia.schemas.taxonomy import Taxonomy

# named here and not in marginalia.scoring.marginal.estimators, which needs numpy
ESTIMATOR_NAMES = (
    "marginal",
    "marginal_in_language",
    "marginal_constrained",
    "conditional",
    "joint",
    "conditional_constrained",
    "joint_constrained",
    "greedy",
)


# these evaluate further prefixes after the search, and need every token's probability
BASELINE_NAMES = ("max_over_steps", "monte_carlo")


def check_estimators(names: list[str]) -> list[str]:
    """The names without repetitions. Raises ValueError, with the nearest name, for one that is not an estimator."""
    for name in names:
        known = (*ESTIMATOR_NAMES, *BASELINE_NAMES)
        if name not in known:
            near = did_you_mean(name, known) or f"; known: {', '.join(known)}"
            raise ValueError(f"unknown estimator '{name}'{near}")
    return list(dict.fromkeys(names))


def join_urls(urls: list[object]) -> str:
    """A list of endpoints as it is written on a command line: `http://a/v1,http://b/v1`."""
    for url in urls:
        if not isinstance(url, str) or not url.startswith(("http://", "https://")) or "," in url:
            raise ValueError(f"a list here is one of addresses that start with http:// or https://; saw {url!r}")
    if not urls:
        raise ValueError("the list of addresses is empty")
    return ",".join(str(url) for url in urls)


def split_urls(text: str) -> list[str]:
    """`http://a/v1,http://b/v1` → both; one URL → itself."""
    return re.split(r"\s*,\s*(?=https?://)", text.strip())


# keys of a request without which its answer could not be read, and where each is set instead
OF_THE_SCORER = {
    "model": "endpoint_model",
    "logprobs": "top_logprobs",
    **dict.fromkeys(("prompt", "max_tokens", "temperature", "n", "best_of", "echo", "stream", "logprob_token_ids")),
}


class EndpointOptions(EndpointAccess):
    """How a model behind the URL of an OpenAI-compatible server is asked. Of no use for other models."""

    OWN_KEYS = OF_THE_SCORER

    tokenizer: str | None = Field(
        default=None,
        description="the served model's tokenizer and generation_config: a folder, a .gguf file, 'bundled' or a Hub id "
        "(with revision); required when model is a URL",
    )
    endpoint_model: str | None = Field(
        default=None, description="the model's name at the endpoint; without it the only one that /models lists"
    )
    top_logprobs: int = Field(
        default=20, ge=1, description="log-probabilities asked for per prefix; the mass of all others counts as open"
    )
    concurrency: int = Field(default=32, ge=1, description="requests to the endpoint under way at once")
    retries: int = Field(default=8, ge=0, description="how often a request that failed in passing is sent again")
    timeout_seconds: float = Field(default=120.0, gt=0, description="how long the endpoint may take for one request")


class GuardModel(EndpointOptions):
    """A guard, and the model that it is asked of."""

    guard: str = Field(
        description="a shipped guard's name, or the path of a YAML file (in config.yaml: relative to that file)"
    )
    model: str = Field(
        description="a folder, a .gguf file, 'bundled' (SmolLM2-135M-Instruct), 'bundled-guard' (the same, trained for "
        "guard support-tickets), a Hub id, or the URL of an endpoint; a list of URLs (on the command line URL,URL) are "
        "replicas of one server: the least busy is asked, and one that fails is left alone for a while"
    )
    revision: str | None = Field(
        default=None, description="the Hub commit to load; required for a Hub id (of an endpoint: its tokenizer's)"
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field(default="float32", description="of the model's weights")
    device: str = Field(default="auto", description="cpu, cuda, cuda:1 …; auto takes the GPU where there is one")

    @field_validator("model", mode="before")
    @classmethod
    def _replicas(cls, value: object) -> object:
        return join_urls(value) if isinstance(value, list) else value


class SearchOptions(StrictModel):
    """What is computed for each record, and how far the search goes."""

    estimators: tuple[str, ...] = Field(
        default=ESTIMATOR_NAMES,
        description="what to compute; max_over_steps and monte_carlo may be added (they cost further forward passes)",
    )
    samples: int = Field(default=100, ge=1, description="answers that monte_carlo samples for each record")
    tolerance: float = Field(
        default=1e-4,
        ge=0,
        le=1,
        description="the search goes on until upper − lower is at most this for every label; what it costs and what it "
        "does to the metrics: docs/numbers.md",
    )
    node_budget: int = Field(
        default=256, ge=1, description="answer prefixes that count for one record at most, the most probable ones"
    )
    answer_tokens: int = Field(
        default=24, ge=1, description="how long a greedy answer outside the guard's format is followed, in tokens"
    )
    batch_records: int = Field(default=16, ge=1, description="records searched together at most")
    batch_tokens: int = Field(
        default=4096, ge=1, description="prompt tokens of a batch at most, those that all share not counted"
    )

    @field_validator("estimators", mode="before")
    @classmethod
    def _listed(cls, names: object) -> object:
        if not isinstance(names, list | tuple):
            raise ValueError("Input should be a valid list")  # pydantic would say tuple, which YAML does not have
        return names

    @field_validator("estimators")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(check_estimators(list(names)))


class Settings(SearchOptions):
    """SearchOptions and the seed, which in a run is that of the whole run.

    A value that cannot be raises pydantic's ValidationError, which is a ValueError."""

    seed: int = Field(default=2026, description="of monte_carlo's samples")


class ScoreRequest(GuardModel):
    """All that a scorer is loaded from, as values that can travel to another machine."""

    taxonomy: str | Taxonomy | None = Field(
        default=None, description="a shipped taxonomy or a YAML file, for guards that name none"
    )
    settings: Settings = Settings()
    folder: Path = Field(default=Path(), description="what relative paths of taxonomy, guard and tokenizer start from")
    guard_text: str | None = Field(
        default=None, description="the guard file's content, where the file itself may not exist (on another machine)"
    )


def fields_of(model: type[BaseModel], source: object) -> dict[str, Any]:
    """The fields of `model`, read from the attributes of anything that has them all."""
    return {name: getattr(source, name) for name in model.model_fields}

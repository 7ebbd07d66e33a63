"""Defines every option of the scorer, with its default and meaning.

A `ScoreRequest` contains everything that a scorer is loaded from. The score section of config.yaml, the scorer's
command line and `Scorer.load` read their options from it. This module imports nothing large, because `--help` needs
it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator

from marginalia.schemas.base_model import StrictModel
from marginalia.schemas.endpoint_access import EndpointAccess
from marginalia.schemas.errors import did_you_mean
from marginalia.schemas.taxonomy import Taxonomy
from marginalia.scoring.label_categories import CategoriesSetting

# here and not in marginalia.scoring.marginal.estimators, which imports numpy
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


# these evaluate more prefixes after the search, and need the probability of every token
BASELINE_NAMES = ("max_over_steps", "monte_carlo")


def check_estimators(names: list[str]) -> list[str]:
    """The names without duplicates. Raises ValueError, with the nearest name, for one that is not an estimator."""
    for name in names:
        known = (*ESTIMATOR_NAMES, *BASELINE_NAMES)
        if name not in known:
            near = did_you_mean(name, known) or f"; known: {', '.join(known)}"
            raise ValueError(f"unknown estimator '{name}'{near}")
    return list(dict.fromkeys(names))


def join_urls(urls: list[object]) -> str:
    """Endpoint URLs as one string, as on the command line: `http://a/v1,http://b/v1`. Raises ValueError for other
    values."""
    for url in urls:
        if not isinstance(url, str) or not url.startswith(("http://", "https://")) or "," in url:
            raise ValueError(f"expected a list of addresses that start with http:// or https://, saw {url!r}")
    if not urls:
        raise ValueError("the list of addresses is empty")
    return ",".join(str(url) for url in urls)


def split_urls(text: str) -> list[str]:
    """The endpoint URLs in a string such as `http://a/v1,http://b/v1`."""
    return re.split(r"\s*,\s*(?=https?://)", text.strip())


# keys of a request that users must not change, with the option to use instead
OF_THE_SCORER = {
    "model": "endpoint_model",
    "logprobs": "top_logprobs",
    **dict.fromkeys(("prompt", "max_tokens", "temperature", "n", "best_of", "echo", "stream", "logprob_token_ids")),
}


class EndpointOptions(EndpointAccess):
    """Options for a model behind the URL of an OpenAI-compatible server."""

    OWN_KEYS = OF_THE_SCORER

    tokenizer: str | None = Field(
        default=None,
        description="the served model's tokenizer and generation_config: a folder, a .gguf file, 'bundled' or a Hub id "
        "(with revision); required when model is a URL, except for guards that give numbers themselves (kind)",
    )
    endpoint_model: str | None = Field(
        default=None, description="the model's name at the endpoint; default: the only one that /models lists"
    )
    top_logprobs: int = Field(
        default=20, ge=1, description="log-probabilities asked for per prefix; the mass of all others counts as open"
    )
    concurrency: int = Field(default=32, ge=1, description="requests that are sent to the endpoint at the same time")
    retries: int = Field(default=8, ge=0, description="how often a request is repeated after a temporary failure")
    timeout_seconds: float = Field(default=120.0, gt=0, description="time limit for one request, in seconds")


class GuardModel(EndpointOptions):
    """A guard and the model that it runs on."""

    guard: str = Field(
        description="a shipped guard's name, or the path of a YAML file (in config.yaml: relative to that file)"
    )
    model: str = Field(
        description="a folder, a .gguf file, 'bundled' (SmolLM2-135M-Instruct), 'bundled-guard' (the same, trained for "
        "guard support-tickets), a Hub id, or the URL of an endpoint; a list of URLs (on the command line URL,URL) is "
        "for replicas of one server: the least busy is asked, and one that fails is skipped for a while"
    )
    categories: CategoriesSetting = Field(
        default=None,
        exclude_if=lambda value: value is None,  # configs without it keep their hash
        description="for a guard whose categories are not those of the taxonomy: for each label, the guard's own "
        "categories (ids of its taxonomy, or its codes) that it consists of, as in {hate: [hate], violence: "
        "[violent_crimes, indiscriminate_weapons], slurs: {part_of: [hate]}}, or a YAML file with these lines; a label "
        "that is only part of a category gets bounds without a probability, and a label that is not listed no scores",
    )
    revision: str | None = Field(
        default=None,
        description="the Hub commit to load; required for a Hub id (for an endpoint: the commit of its tokenizer)",
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field(default="float32", description="of the model's weights")
    device: str = Field(default="auto", description="cpu, cuda, cuda:1 …; auto uses a GPU if there is one")

    @field_validator("model", mode="before")
    @classmethod
    def _replicas(cls, value: object) -> object:
        return join_urls(value) if isinstance(value, list) else value


class SearchOptions(StrictModel):
    """What is computed for each record, and how far the search goes."""

    estimators: tuple[str, ...] = Field(
        default=ESTIMATOR_NAMES,
        description="what to compute; max_over_steps and monte_carlo can be added (they need more forward passes)",
    )
    samples: int = Field(default=100, ge=1, description="answers that monte_carlo samples per record")
    tolerance: float = Field(
        default=1e-4,
        ge=0,
        le=1,
        description="search until upper − lower is at most this for every label; docs/numbers.md has its cost and its "
        "effect on metrics",
    )
    node_budget: int = Field(
        default=256, ge=1, description="maximum number of answer prefixes used per record (the most probable ones)"
    )
    answer_tokens: int = Field(
        default=24, ge=1, description="for how many tokens a greedy answer outside the guard's format is followed"
    )
    passages: int = Field(
        default=16,
        ge=1,
        exclude_if=lambda value: value == 16,  # configs without it keep their hash
        description="for a guard that reasons first: maximum number of reasoning passages sampled per record",
    )
    passage_interval: float = Field(
        default=0.2,
        ge=0,
        le=1,
        exclude_if=lambda value: value == 0.2,  # configs without it keep their hash
        description="for a guard that reasons first: sample passages until upper − lower is at most this for every "
        "label",
    )
    batch_records: int = Field(default=16, ge=1, description="maximum number of records searched together")
    batch_tokens: int = Field(
        default=4096,
        ge=1,
        description="maximum number of prompt tokens in a batch, without the start that all prompts share",
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
    """SearchOptions and a seed. In a run, the seed is that of the whole run.

    Raises pydantic.ValidationError, which is a ValueError, for invalid values."""

    seed: int = Field(default=2026, description="of monte_carlo's samples")


class ScoreRequest(GuardModel):
    """Everything that a scorer is loaded from, as values that can be sent to another machine."""

    taxonomy: str | Taxonomy | None = Field(
        default=None, description="a shipped taxonomy or a YAML file, for guards without one of their own"
    )
    settings: Settings = Settings()
    folder: Path = Field(default=Path(), description="relative paths of taxonomy, guard and tokenizer start from here")
    guard_text: str | None = Field(
        default=None, description="the guard file's content, for a machine on which the file may not exist"
    )
    own_taxonomy: Taxonomy | None = Field(
        default=None, description="with guard_text and categories: the content of the guard file's own taxonomy"
    )


def fields_of(model: type[BaseModel], source: object) -> dict[str, Any]:
    """{name: value} of the fields of `model`, read from the attributes of `source`."""
    return {name: getattr(source, name) for name in model.model_fields}

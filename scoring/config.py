"""Config of the score stage: which guards judge the gold records, and how far the search goes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from schemas.errors import did_you_mean
from schemas.strict import ID_PATTERN, Strict

# named here and not in scoring.estimators, which needs numpy: the command line's --help reads this file
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


def check_estimators(names: list[str]) -> list[str]:
    """The names, if all of them are estimators; ValueError names the nearest one otherwise."""
    for name in names:
        if name not in ESTIMATOR_NAMES:
            near = did_you_mean(name, ESTIMATOR_NAMES) or f"; known: {', '.join(ESTIMATOR_NAMES)}"
            raise ValueError(f"unknown estimator '{name}'{near}")
    return list(dict.fromkeys(names))


class GuardRun(Strict):
    """One guard model to score with; its scores go to scores/NAME.parquet."""

    name: str = Field(pattern=ID_PATTERN, description="names the files in scores/")
    guard: str = Field(description="a shipped guard's name, or a YAML file relative to this config")
    model: str = Field(description="a folder, a .gguf file, 'bundled', or a Hub id")
    revision: str | None = Field(default=None, description="the Hub commit to load; required for a Hub id")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(default="float32", description="of the model's weights")
    device: str = Field(default="auto", description="cpu, cuda, cuda:1 …; auto takes the GPU where there is one")


class ScoreSection(Strict):
    """Scoring the gold records with guard models."""

    guards: list[GuardRun] = Field(default=[], description="the guard models to score with")
    estimators: list[str] = Field(default=list(ESTIMATOR_NAMES), description="columns of the score tables' estimator")
    tolerance: float = Field(
        default=1e-3, ge=0, le=1, description="the search goes on until upper − lower is at most this for every label"
    )
    node_budget: int = Field(default=512, ge=1, description="answer prefixes evaluated for one record at most")
    answer_tokens: int = Field(
        default=24, ge=1, description="how long a greedy answer outside the guard's format is followed, in tokens"
    )
    batch_records: int = Field(default=16, ge=1, description="records searched together at most")
    batch_tokens: int = Field(
        default=4096, ge=1, description="prompt tokens of a batch at most, those that all share not counted"
    )

    @field_validator("estimators")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        return check_estimators(names)

    @field_validator("guards")
    @classmethod
    def _distinct(cls, guards: list[GuardRun]) -> list[GuardRun]:
        names = [guard.name for guard in guards]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two guards are named '{name}'")
        return guards

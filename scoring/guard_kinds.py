"""Where a guard's probabilities come from: the key `kind` of a guard file."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field, field_validator

from marginalia.schemas.base_model import located_error
from marginalia.schemas.errors import did_you_mean

EXPLAIN = "scoring/guards/README.md explains the keys"
GENERATIVE = "generative"  # from the model's answers: scoring/guard.py
CLASSIFIER = "classifier"  # from a classification head: scoring/score_sources/
DECISIONS = ("systemone", "decisions")  # from a server's answers to yes/no questions
SERVED = (*DECISIONS, "moderations")  # a server's own numbers
KINDS = (GENERATIVE, *SERVED, CLASSIFIER)

SERVER = "server"  # the estimator of all served kinds
SOURCE_ESTIMATORS = (SERVER, CLASSIFIER)  # point estimates without bounds, each the only one of its guards


class _AnyGuardFile(BaseModel):
    """What guard files of all kinds have in common. Other keys are checked by the kind's own model."""

    kind: str = Field(default=GENERATIVE)

    @field_validator("kind")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in KINDS:
            near = did_you_mean(value, KINDS) or f"; known: {', '.join(KINDS)}"
            raise located_error(f"unknown kind '{value}'{near}", hint=EXPLAIN)
        return value


def kind_of(path: Path) -> str:
    """The kind of the guard file at `path`. Raises InputError for a file that is not YAML, and an unknown kind."""
    # imported here because --help needs the names above, but should not wait for polars
    from marginalia.schemas.storage.yaml_files import load_yaml

    return load_yaml(path, _AnyGuardFile, explain=EXPLAIN).kind

"""manifests/STAGE.json: the inputs, outputs, settings, counts and cost of a stage's last run."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field, model_validator

from marginalia.schemas.base_model import StrictModel


class Missing(StrictModel):
    """Something that is missing from a stage's result. `how` says how to get it: a command, or what to change."""

    what: str
    how: str
    retry: bool = Field(default=False, description="the stage runs again at the next call even if no input has changed")
    blocks: bool = Field(default=False, description="the stages after this one should wait for it")


class Manifest(StrictModel):
    """One run of a stage. Written when the stage has finished, so a killed stage leaves none."""

    stage: str
    inputs: dict[str, str] = Field(description="path inside the run folder → SHA-256 of each file that was read")
    outputs: dict[str, str] = Field(description="path inside the run folder → SHA-256 of each file that was written")
    config_sha256: str = Field(description="hash of the config sections that the stage depends on")
    counts_in: dict[str, int]
    counts_out: dict[str, int]
    seconds: float
    tokens: dict[str, int] = Field(default={}, description="prompt and completion tokens, if a model was called")
    cost: float | None = Field(default=None, description="in the config's currency; null if no prices are set")
    models: dict[str, str] = Field(default={}, description="model → revision, fingerprint or endpoint")
    versions: dict[str, str] = Field(description="versions of Python and of packages that affect the result")
    facts: dict[str, Any] = Field(default={}, description="further information, different for each stage")
    warnings: list[str] = Field(
        default=[], description="what the user should look at although the stage is complete; shown after each call"
    )
    missing: list[Missing] = Field(default=[], description="what the result lacks; empty if the stage is complete")
    finished_at: datetime

    @model_validator(mode="before")
    @classmethod
    def _warnings_in_facts(cls, value: Any) -> Any:
        """Version 0.1 kept the warnings among the facts."""
        facts = value.get("facts") if isinstance(value, dict) else None
        if not isinstance(facts, dict) or not isinstance(facts.get("warnings"), list) or "warnings" in value:
            return value
        others = {name: fact for name, fact in facts.items() if name != "warnings"}
        return {**value, "facts": others, "warnings": facts["warnings"]}

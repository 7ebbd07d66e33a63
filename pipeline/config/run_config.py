"""The config of a run, config.yaml. Each section is defined next to the code that it controls."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from marginalia.annotation.config import AnnotationSection, ReconcileSection
from marginalia.annotation.simulated.annotator_profiles import SimulationSection
from marginalia.pipeline.config.evaluation import EvaluateSection
from marginalia.pipeline.config.generation import GenerateSection, PlanSection
from marginalia.pipeline.config.release import ReleaseSection
from marginalia.schemas.base_model import StrictModel
from marginalia.schemas.errors import InputError
from marginalia.schemas.storage.files import read_text
from marginalia.schemas.storage.yaml_files import load_yaml
from marginalia.scoring.config import ScoreSection

EXPLAIN = "marginalia config --explain {key}"


class Config(StrictModel):
    """config.yaml as a whole."""

    taxonomy: str = Field(description="a shipped taxonomy's name, or a YAML file relative to this config")
    seed: int = Field(default=2026, description="seed of all random choices of the run")
    simulated: bool = Field(
        default=False, description="annotators are simulated; every result that depends on them says so"
    )
    plan: PlanSection = PlanSection()
    generate: GenerateSection = GenerateSection()
    annotation: AnnotationSection = AnnotationSection()
    reconcile: ReconcileSection = ReconcileSection()
    score: ScoreSection = ScoreSection()
    evaluate: EvaluateSection = EvaluateSection()
    release: ReleaseSection = ReleaseSection()
    simulation: SimulationSection = SimulationSection()

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.annotation.suggestions == "check" and not self.generate.check.enabled:
            raise ValueError("annotation.suggestions: check requires generate.check.enabled: true")
        return self


def load_config(path: Path) -> Config:
    """The config in `path`. Raises InputError with the line; for an unknown key, also with the nearest known one."""
    if not read_text(path).strip():
        hint = "the shortest config is one line, taxonomy: taxonomy.yaml; marginalia config --explain lists all keys"
        raise InputError.at(path, "the file is empty", hint=hint)
    return load_yaml(path, Config, explain=EXPLAIN)

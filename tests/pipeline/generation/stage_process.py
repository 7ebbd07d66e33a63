"""generate in a process of its own, to be killed; a fork server loads it once, so that 25 of them start quickly."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from pipeline.generation.languages import other_language
from pipeline.run import open_run
from pipeline.stage import run_stage
from pipeline.stages.generate import STAGE

for _heavy in ("judging", "records", "writer"):
    import_module(f"pipeline.generation.{_heavy}")
other_language("The language model is loaded once for all.", "en")


def generate(folder: str) -> None:
    run_stage(STAGE, open_run(Path(folder)))

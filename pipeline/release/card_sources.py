"""Where the records of a release come from: the model that wrote them, or the file that they were taken from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from marginalia.pipeline.core.artifacts import PROMPTS
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.stage_runner import read_manifest

IMPORTED = "imported: "  # how the import begins its name of a source


@dataclass(frozen=True)
class RecordSources:
    """`written`: model → records that it wrote. `taken`: file → records that come from it."""

    written: Mapping[str, int] = field(default_factory=dict)
    taken: Mapping[str, int] = field(default_factory=dict)


def record_sources(run: Run, prompts: pl.DataFrame | None) -> RecordSources:
    """The sources of `prompts`, the most frequent first; empty without prompts."""
    if prompts is None:
        return RecordSources()
    imported = read_manifest(run, "import")
    all_taken = imported is not None and PROMPTS.name in imported.outputs
    include = run.config.generate.include
    included = Path(include).name if include is not None else None
    counts = prompts["generator"].value_counts().sort("count", "generator", descending=[True, False])
    sources = dict(counts.iter_rows())
    taken = {name for name in sources if all_taken or name == included}
    return RecordSources(
        written={name: n for name, n in sources.items() if name not in taken},
        taken={name.removeprefix(IMPORTED): n for name, n in sources.items() if name in taken},
    )

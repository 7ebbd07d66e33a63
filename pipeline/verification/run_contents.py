"""Reads every artifact of a run and checks its schema."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, cast

import polars as pl
from pydantic import BaseModel

from marginalia.pipeline.core.artifacts import Artifact, Document, Table, artifacts_of
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.verification.check_results import Verification
from marginalia.schemas.errors import MarginaliaError
from marginalia.schemas.manifest_json import Manifest
from marginalia.schemas.progress import progress

ModelT = TypeVar("ModelT", bound=BaseModel)


@dataclass
class Contents:
    """The readable tables and documents of a run, by file name."""

    run: Run
    manifests: dict[str, Manifest]
    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    documents: dict[str, BaseModel] = field(default_factory=dict)

    def maker(self, artifact: Artifact) -> str:
        """The stage that made the artifact in this run, or would make it."""
        made = [stage for stage, manifest in self.manifests.items() if artifact.name in manifest.outputs]
        return made[-1] if made else artifact.maker(self.run)

    def table(self, artifact: Table) -> pl.DataFrame | None:
        """The table, or None if it is missing or invalid."""
        return self.tables.get(artifact.name)

    def document(self, artifact: Document[ModelT]) -> ModelT | None:
        """The document, or None if it is missing or invalid."""
        return cast("ModelT | None", self.documents.get(artifact.name))

    @property
    def guards(self) -> list[str]:
        """Names of the guards in the config."""
        return [guard.name for guard in self.run.config.score.guards]


def read_contents(run: Run, manifests: dict[str, Manifest], verification: Verification) -> Contents:
    """Reads all artifacts that exist; one that violates its schema is a failed check and left out."""
    contents = Contents(run, manifests)
    for artifact in progress(artifacts_of(run), what="verify", unit="file"):
        if not isinstance(artifact, Table | Document) or not artifact.exists(run):
            continue
        maker = contents.maker(artifact)
        try:
            if isinstance(artifact, Table):
                frame = contents.tables[artifact.name] = artifact.read_columns(run)
                summary = f"{artifact.name}: {frame.height:,} rows"
            else:
                contents.documents[artifact.name] = artifact.read(run)
                summary = artifact.name
        except MarginaliaError as error:
            verification.add(maker, "schema", "", [_without_hint(error)], f"{run.command(maker)} --force")
        else:
            verification.add(maker, "schema", summary)
    return contents


def _without_hint(error: MarginaliaError) -> str:
    return str(error).removesuffix(f" ({error.hint})") if error.hint else str(error)

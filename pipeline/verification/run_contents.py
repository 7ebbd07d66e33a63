"""Every artifact of a run, read with its schema."""

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

ModelT = TypeVar("ModelT", bound=BaseModel)


@dataclass
class Contents:
    """What could be read. `makers` names the stage that made a file in this run."""

    run: Run
    manifests: dict[str, Manifest]
    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    documents: dict[str, BaseModel] = field(default_factory=dict)

    def maker(self, artifact: Artifact) -> str:
        made = [stage for stage, manifest in self.manifests.items() if artifact.name in manifest.outputs]
        return made[-1] if made else artifact.maker(self.run)

    def table(self, artifact: Table) -> pl.DataFrame | None:
        return self.tables.get(artifact.name)

    def document(self, artifact: Document[ModelT]) -> ModelT | None:
        return cast("ModelT | None", self.documents.get(artifact.name))

    @property
    def guards(self) -> list[str]:
        return [guard.name for guard in self.run.config.score.guards]


def read_contents(run: Run, manifests: dict[str, Manifest], found: Verification) -> Contents:
    """Reads all there is; a file that does not keep to its schema is a failed check and left out."""
    contents = Contents(run, manifests)
    for one in artifacts_of(run):
        if not isinstance(one, Table | Document) or not one.exists(run):
            continue
        maker = contents.maker(one)
        try:
            if isinstance(one, Table):
                frame = contents.tables[one.name] = one.read_columns(run)
                seen = f"{one.name}: {frame.height:,} rows"
            else:
                contents.documents[one.name] = one.read(run)
                seen = one.name
        except MarginaliaError as error:
            found.add(maker, "schema", "", [_plain(error)], f"{run.command(maker)} --force")
        else:
            found.add(maker, "schema", seen)
    return contents


def _plain(error: MarginaliaError) -> str:
    return str(error).removesuffix(f" ({error.hint})") if error.hint else str(error)

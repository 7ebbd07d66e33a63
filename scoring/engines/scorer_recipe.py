"""Everything that a scorer is loaded from, as values that can travel to another machine."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from marginalia.schemas.storage.files import read_text
from marginalia.schemas.storage.yaml_files import load_yaml
from marginalia.schemas.taxonomy import Taxonomy, load_taxonomy
from marginalia.scoring.config import EndpointOptions
from marginalia.scoring.guard import GuardFile, guard_path
from marginalia.scoring.scorer import Scorer, Settings


@dataclass(frozen=True)
class ScorerRecipe:
    """The arguments of `Scorer.load`. `folder` is what the paths among them are relative to; `guard_text` holds a
    guard file of the user's own once it has been read."""

    model: str
    guard: str
    settings: Settings
    taxonomy: str | Taxonomy | None = None
    revision: str | None = None
    device: str = "auto"
    dtype: str = "float32"
    endpoint: EndpointOptions | None = None
    folder: Path = Path()
    guard_text: str | None = None

    def shipped(self) -> ScorerRecipe:
        """The same with the contents of taxonomy and guard in place of their paths: ready for another machine.

        The model stays a reference, which must mean the same there. Raises InputError for what cannot be read."""
        path = guard_path(self.guard, relative_to=self.folder)
        taxonomy = self.taxonomy
        if isinstance(taxonomy, str):
            taxonomy = load_taxonomy(taxonomy, relative_to=self.folder)
        if taxonomy is None and (named := load_yaml(path, GuardFile).taxonomy) is not None:
            taxonomy = load_taxonomy(named, relative_to=path.parent)
        # written out as text: what a guard file includes may differ between two installations of this package
        return replace(self, taxonomy=taxonomy, guard_text=read_text(path), folder=self.folder.absolute())

    def load(self) -> Scorer:
        """Loads the scorer. Raises what Scorer.load raises."""
        if self.guard_text is None:
            return self._load(self.guard)
        with tempfile.TemporaryDirectory(prefix="marginalia-") as folder:
            path = Path(folder) / f"{Path(self.guard).stem}.yaml"
            path.write_text(self.guard_text, encoding="utf-8")
            return self._load(str(path))

    def _load(self, guard: str) -> Scorer:
        return Scorer.load(
            self.model,
            guard,
            taxonomy=self.taxonomy,
            revision=self.revision,
            device=self.device,
            dtype=self.dtype,
            endpoint=self.endpoint,
            settings=self.settings,
            relative_to=self.folder,
        )


def work_in(folder: str) -> None:
    """Makes relative paths mean what they mean where the job was started, if that folder exists here."""
    if Path(folder).is_dir():
        os.chdir(folder)

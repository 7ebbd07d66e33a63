"""A ScoreRequest made ready to be loaded on another machine."""

from __future__ import annotations

import os
from pathlib import Path

from marginalia.schemas.storage.files import read_text
from marginalia.schemas.storage.yaml_files import load_yaml
from marginalia.schemas.taxonomy import load_taxonomy
from marginalia.scoring.guard import GuardFile, guard_path
from marginalia.scoring.score_request import ScoreRequest


def portable(request: ScoreRequest) -> ScoreRequest:
    """The same with the contents of taxonomy and guard in place of their paths.

    The model stays a reference, which must mean the same there. Raises InputError for what cannot be read."""
    path = guard_path(request.guard, relative_to=request.folder)
    taxonomy = request.taxonomy
    if isinstance(taxonomy, str):
        taxonomy = load_taxonomy(taxonomy, relative_to=request.folder)
    if taxonomy is None and (named := load_yaml(path, GuardFile).taxonomy) is not None:
        taxonomy = load_taxonomy(named, relative_to=path.parent)
    # written out as text: what a guard file includes may differ between two installations of this package
    contents = {"taxonomy": taxonomy, "guard_text": read_text(path), "folder": request.folder.absolute()}
    return request.model_copy(update=contents)


def work_in(folder: str) -> None:
    """Makes relative paths mean what they mean where the job was started, if that folder exists here."""
    if Path(folder).is_dir():
        os.chdir(folder)

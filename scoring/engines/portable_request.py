"""Prepares a ScoreRequest to be loaded on another machine."""

from __future__ import annotations

import os
from pathlib import Path

from marginalia.schemas.storage.files import read_text
from marginalia.schemas.storage.yaml_files import load_yaml
from marginalia.schemas.taxonomy import load_taxonomy
from marginalia.scoring.guard import GuardFile, guard_path
from marginalia.scoring.score_request import ScoreRequest


def portable(request: ScoreRequest) -> ScoreRequest:
    """The request with the contents of taxonomy and guard file instead of their paths.

    The model remains a reference, which must name the same model there. Raises InputError for an unreadable file."""
    path = guard_path(request.guard, relative_to=request.folder)
    taxonomy = request.taxonomy
    if isinstance(taxonomy, str):
        taxonomy = load_taxonomy(taxonomy, relative_to=request.folder)
    if taxonomy is None and (named := load_yaml(path, GuardFile).taxonomy) is not None:
        taxonomy = load_taxonomy(named, relative_to=path.parent)
    # the file's text, not its name: shipped guards may differ between two installed versions of this package
    contents = {"taxonomy": taxonomy, "guard_text": read_text(path), "folder": request.folder.absolute()}
    return request.model_copy(update=contents)


def work_in(folder: str) -> None:
    """Changes to the folder in which the job was started, if it exists here, so that relative paths are the same."""
    if Path(folder).is_dir():
        os.chdir(folder)

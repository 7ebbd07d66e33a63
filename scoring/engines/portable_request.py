"""Prepares a ScoreRequest to be loaded on another machine."""

from __future__ import annotations

import os
from pathlib import Path

from marginalia.schemas.storage.files import read_text
from marginalia.schemas.storage.yaml_files import load_yaml
from marginalia.schemas.taxonomy import load_taxonomy
from marginalia.scoring.guard import guard_path
from marginalia.scoring.guard_file import GuardFile
from marginalia.scoring.guard_kinds import GENERATIVE, kind_of
from marginalia.scoring.label_categories import load_categories
from marginalia.scoring.score_request import ScoreRequest
from marginalia.scoring.score_sources.source_file import load_source_file


def portable(request: ScoreRequest) -> ScoreRequest:
    """The request with the contents of taxonomy, categories and guard file instead of their paths.

    The model remains a reference, which must name the same model there. Raises InputError for an unreadable file."""
    path = guard_path(request.guard, relative_to=request.folder)
    taxonomy = request.taxonomy
    if isinstance(taxonomy, str):
        taxonomy = load_taxonomy(taxonomy, relative_to=request.folder)
    categories, own_taxonomy = request.categories, None
    if isinstance(categories, str):
        categories = load_categories(request.folder / categories)
    kind = kind_of(path)
    file = load_yaml(path, GuardFile) if kind == GENERATIVE else load_source_file(path, kind)
    named = file.taxonomy
    if named is not None and (taxonomy is None or categories is not None):
        own_taxonomy = load_taxonomy(named, relative_to=path.parent)
    # the file's text, not its name: shipped guards may differ between two installed versions of this package
    contents = {"guard_text": read_text(path), "folder": request.folder.absolute()}
    if categories is None:
        return request.model_copy(update={**contents, "taxonomy": taxonomy or own_taxonomy})
    mapped = {"taxonomy": taxonomy, "categories": categories, "own_taxonomy": own_taxonomy}
    return request.model_copy(update={**contents, **mapped})


def work_in(folder: str) -> None:
    """Changes to the folder in which the job was started, if it exists here, so that relative paths are the same."""
    if Path(folder).is_dir():
        os.chdir(folder)

"""Where the rows of an import come from: files, patterns of file names, or a data set on the Hub."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from marginalia.pipeline.core.artifacts import IMPORT_SETTINGS
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.importing.class_labels import with_classes
from marginalia.pipeline.importing.column_mapping import HUB, Mapping
from marginalia.pipeline.importing.hub_source import SNAPSHOT
from marginalia.pipeline.importing.row_paths import FILE
from marginalia.schemas.errors import InputError
from marginalia.schemas.source_rows import SourceFiles, files_of, is_pattern
from marginalia.schemas.sources.file_format import EXPECTED, name_without_format


@dataclass(frozen=True)
class ImportSource:
    """The files of an import. `mapping` has the classes of their columns; `origin` names them for the card."""

    files: SourceFiles
    paths: Sequence[Path]
    mapping: Mapping
    origin: str

    @property
    def name(self) -> str:
        """What messages name before the position of a row."""
        return self.files.name

    @property
    def modified(self) -> datetime:
        """When the files were changed last."""
        return datetime.fromtimestamp(int(max(path.stat().st_mtime for path in self.paths)), UTC)

    def rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(position, row). With `annotators.files`, a row has the name of its file, too."""
        of_people = self.mapping.annotators is not None and self.mapping.annotators.files
        for position, row in self.files:
            yield position, ({**row, FILE: name_without_format(self.files.facts[-1].path)} if of_people else row)


def open_source(run: Run, mapping: Mapping) -> ImportSource:
    """The source of a mapping. Raises InputError if its files name the classes of the label column differently."""
    paths = [run.path(name) for name in source_names(run, mapping)]
    with_names = [with_classes(mapping, path) for path in paths]
    if len({tuple(one.labels.classes) if one.labels else () for one in with_names}) > 1:
        problem = "the files name the classes of the label column differently"
        raise InputError(problem, hint="import them into runs of their own, or give labels.classes in the mapping")
    if mapping.repository:
        origin = f"{mapping.repository}@{mapping.hub.revision}"
    else:
        origin = paths[0].name + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
    return ImportSource(SourceFiles(paths, mapping.files), paths, with_names[0], origin)


def source_names(run: Run, mapping: Mapping) -> list[str]:
    """The files to read, as `Run.path` takes them. Raises InputError if the mapping has no source."""
    if not mapping.sources:
        raise InputError.at(run.path(IMPORT_SETTINGS), "source is not set", hint="marginalia import FILE --run …")
    if mapping.repository:
        return [SNAPSHOT]
    root = run.folder.resolve()
    return list(dict.fromkeys(_name(file, root) for source in mapping.sources for file in files_of(source, root)))


def stored_source(run: Run, source: str) -> str:
    """A path or pattern as import.yaml has it: relative inside the run folder, which may be moved, else absolute.

    Raises InputError for a file that does not exist, and a pattern that no file fits."""
    if source.startswith(HUB):
        return source
    root = run.folder.resolve()
    if not Path(source).exists():
        if not is_pattern(source):
            raise InputError.at(source, "no such file", hint=f"{EXPECTED}; or {HUB}owner/name")
        if not any(file.exists() for file in files_of(source, Path())):
            raise InputError.at(source, "no file fits this pattern", hint=EXPECTED)
        fixed = Path(source)
        while is_pattern(str(fixed)):
            fixed = fixed.parent
        pattern = Path(source).relative_to(fixed).as_posix()
        folder = _name(fixed.resolve(), root)
        return pattern if folder == "." else f"{glob.escape(folder)}/{pattern}"
    return _name(Path(source).resolve(), root)


def check_sources(sources: Sequence[str]) -> None:
    """Raises InputError for a data set on the Hub together with another source."""
    if len(sources) > 1 and any(source.startswith(HUB) for source in sources):
        raise InputError(f"{HUB}… cannot be combined with another source", hint="import it into a run of its own")


def _name(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file)

"""A run: a folder with a config, a taxonomy, and the files that the stages make."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from marginalia.pipeline.config.run_config import Config, load_config
from marginalia.schemas.errors import InputError, nearest
from marginalia.schemas.storage.regular_files import path_inside
from marginalia.schemas.storage.yaml_files import line_in
from marginalia.schemas.taxonomy import Taxonomy, read_taxonomy, taxonomy_path

RUNS = Path("runs")
ARGILLA = "argilla"  # the folder of a run's Argilla server
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"


@dataclass(frozen=True)
class Run:
    """A run folder and its config."""

    folder: Path
    config: Config

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.folder.name

    @cached_property
    def taxonomy_path(self) -> Path:
        """The taxonomy file. Raises InputError with the config's line when there is none."""
        try:
            path = taxonomy_path(self.config.taxonomy, relative_to=self.folder)
        except InputError as error:
            config = self.folder / "config.yaml"
            raise error.for_setting(config, "taxonomy", line=line_in(config, "taxonomy")) from error
        return self.path(self.config.taxonomy) if path == self.folder / self.config.taxonomy else path

    @cached_property
    def taxonomy(self) -> Taxonomy:
        """The taxonomy, read once. Raises InputError when it is invalid."""
        return read_taxonomy(self.taxonomy_path)

    def path(self, name: str) -> Path:
        """A file of this run by its path in the run folder, such as `gold.parquet`.

        Raises InputError for a symbolic link on this path, a named pipe or a device: a run folder may come from
        somebody else, and must not lead a stage to files outside it. Only the folder of the Argilla server may be a
        link, to that of another run, because runs can share a server."""
        first, _, rest = name.partition("/")
        if first == ARGILLA and (self.folder / ARGILLA / "credentials.json").is_file():
            return path_inside(self.folder / ARGILLA, rest)
        return path_inside(self.folder, name)

    def command(self, stage: str) -> str:
        """The command that runs `stage` on this run, for messages."""
        return f"marginalia {stage} --run {self.folder}"


def open_run(folder: Path) -> Run:
    """The run in `folder`. Raises InputError when it is not a run folder or its config is invalid."""
    if folder.exists() and not folder.is_dir():
        raise InputError.at(folder, "is a file, expected the folder of a run", hint="such as --run runs/NAME")
    if not folder.is_dir():
        problem = f"{folder}: no such run{_near_run(folder)}"
        raise InputError(problem, hint=f"marginalia new {folder.name or 'NAME'} --taxonomy NAME")
    if not path_inside(folder, "config.yaml").exists():
        hint = "create one with: marginalia new NAME --taxonomy NAME"
        raise InputError.at(folder, "not a run folder: config.yaml not found", hint=hint)
    return Run(folder, load_config(folder / "config.yaml"))


def _near_run(folder: Path) -> str:
    """`; did you mean 'runs/refunds'?` for a run of the same name in runs/, or of a similar one next to `folder`."""
    try:
        runs = {path.parent.name: path.parent for path in folder.parent.glob("*/config.yaml")}
        if folder.name and (RUNS / folder.name / "config.yaml").exists():
            return f"; did you mean '{RUNS / folder.name}'?"
    except OSError:
        return ""
    near = nearest(folder.name, runs)
    return f"; did you mean '{runs[near]}'?" if near is not None else ""


def run_folder(name: str, *, root: Path = RUNS) -> Path:
    """`runs/NAME`. Raises InputError for a name that does not match NAME_PATTERN, because names become paths."""
    if not re.fullmatch(NAME_PATTERN, name):
        hint = "letters, digits, '.', '_' and '-', at most 64, starting with a letter or digit"
        raise InputError(f"'{name}' is not a valid run name", hint=hint)
    return root / name

"""A run: the folder that holds one piece of work, its config and its taxonomy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from marginalia.pipeline.config.run_config import Config, load_config
from marginalia.schemas.errors import InputError
from marginalia.schemas.storage.yaml_files import line_in
from marginalia.schemas.taxonomy import Taxonomy, read_taxonomy, taxonomy_path

RUNS = Path("runs")
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"


@dataclass(frozen=True)
class Run:
    folder: Path
    config: Config

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def taxonomy_path(self) -> Path:
        try:
            return taxonomy_path(self.config.taxonomy, relative_to=self.folder)
        except InputError as error:
            config = self.folder / "config.yaml"
            raise error.for_setting(config, "taxonomy", line=line_in(config, "taxonomy")) from error

    @cached_property
    def taxonomy(self) -> Taxonomy:
        return read_taxonomy(self.taxonomy_path)

    def path(self, name: str) -> Path:
        """A file of this run by its name in DESIGN's table, such as `gold.parquet`."""
        return self.folder / name

    def command(self, stage: str) -> str:
        """The command that runs `stage` here, for error messages."""
        return f"marginalia {stage} --run {self.folder}"


def open_run(folder: Path) -> Run:
    """The run in `folder`. Raises InputError when there is none or its config is wrong."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such run", hint=f"marginalia new {folder.name or 'NAME'} --taxonomy NAME")
    if not (folder / "config.yaml").exists():
        raise InputError.at(
            folder / "config.yaml", "no such file, so this folder is no run", hint="marginalia new NAME lays one out"
        )
    return Run(folder, load_config(folder / "config.yaml"))


def run_folder(name: str, *, root: Path = RUNS) -> Path:
    """`runs/NAME`, for a name from the allow-list only: names become paths."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise InputError(f"'{name}' cannot name a run", hint="letters, digits, '.', '_' and '-', at most 64")
    return root / name

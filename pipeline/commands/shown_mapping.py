"""`marginalia import --show-mapping NAME`: prints a shipped mapping, to copy and change."""

from __future__ import annotations

import typer

from marginalia.schemas.exit_codes import run_command

ALL = "all"


def show_mapping(name: str | None) -> None:
    """Prints the mapping and ends the command; does nothing without a name. `all` lists the shipped mappings, with
    their titles."""
    if name is not None:
        raise typer.Exit(run_command(lambda: _print(name)))


def _print(name: str) -> None:
    from marginalia.pipeline.importing.column_mapping import EXPLAIN, SHIPPED, Mapping, mapping_path
    from marginalia.schemas.storage.files import read_text
    from marginalia.schemas.storage.yaml_files import load_yaml
    from marginalia.schemas.terminal import table

    if name != ALL:
        print(read_text(mapping_path(name)).rstrip())
        return
    rows = [(path.stem, load_yaml(path, Mapping, explain=EXPLAIN).title) for path in sorted(SHIPPED.glob("*.yaml"))]
    print(table([], rows, indent=0))

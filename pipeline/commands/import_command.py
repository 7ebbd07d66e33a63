"""The command `import`."""

from __future__ import annotations

import shutil
from typing import Annotated

import typer

from marginalia.pipeline.commands.shared_options import (
    ApproveKeyOption,
    ForceOption,
    RunOption,
    open_folder,
    run_and_print,
)
from marginalia.pipeline.commands.shown_mapping import show_mapping

EXAMPLE = "Example: marginalia import data.csv --run runs/mine --mapping mapping.yaml --preview"
SOURCE_HELP = (
    "CSV, TSV, JSON, JSONL or Parquet files (also .gz, .zst, .bz2), patterns such as 'parts/*.csv', or hub:OWNER/NAME; "
    "default: the source in the run's import.yaml"
)
MAPPING_HELP = "a shipped mapping's name, or a YAML file; default: the run's import.yaml or, without one, records"
LEAST_WIDTH = 40


def import_records(
    run: RunOption,
    source: Annotated[list[str] | None, typer.Argument(help=SOURCE_HELP, metavar="[FILE]...")] = None,
    mapping: Annotated[str | None, typer.Option(help=MAPPING_HELP)] = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="show counts and five records as they would be imported; write nothing")
    ] = False,
    force: ForceOption = False,
    shown: Annotated[
        str | None,
        typer.Option(
            "--show-mapping",
            help="print this shipped mapping, to copy and change; all: list their names",
            metavar="NAME",
            callback=show_mapping,
            is_eager=True,
        ),
    ] = None,
    approve_key_host: ApproveKeyOption = None,
) -> int:
    """The command `import`."""
    opened = open_folder(run, approve_key_host)
    if preview:
        from marginalia.pipeline.importing.import_preview import preview as preview_import

        print(preview_import(opened, source or [], mapping, terminal_width()))
        print("\npreview: nothing was written")
        return 0
    from marginalia.pipeline.importing.import_stage import STAGE, detected, next_command, prepare

    prepare(opened, source, mapping)
    code = run_and_print(STAGE, opened, force=force)
    for line in detected(opened):
        print(f"  read: {line}")
    if (command := next_command(opened)) is not None:
        print(f"next: {command}")
    return code


def terminal_width() -> int:
    """Columns of the terminal."""
    return max(shutil.get_terminal_size((100, 24)).columns, LEAST_WIDTH)

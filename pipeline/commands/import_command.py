"""The command `import`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marginalia.pipeline.commands.shared_options import (
    ApproveKeyOption,
    Details,
    ForceOption,
    JsonOption,
    open_folder,
    run_and_print,
)
from marginalia.pipeline.commands.shown_mapping import show_mapping
from marginalia.schemas.errors import InputError
from marginalia.schemas.terminal import PIPED_WIDTH, fitted, json_for_stdout, terminal_width, wrapped

if TYPE_CHECKING:
    from marginalia.pipeline.core.stage_runner import StageRun

EXAMPLE = "marginalia import data.csv --run runs/mine --mapping mapping.yaml --preview"
SOURCE_HELP = (
    "CSV, TSV, JSON, JSONL or Parquet files (also .gz, .zst, .bz2), patterns such as 'parts/*.csv', or hub:OWNER/NAME; "
    "default: the source in the run's import.yaml"
)
MAPPING_HELP = "a shipped mapping's name, or a YAML file; default: the run's import.yaml or, without one, records"


def import_records(
    run: Annotated[
        Path | None, typer.Option("--run", help="the run's folder, such as runs/refunds", metavar="FOLDER")
    ] = None,
    source: Annotated[list[str] | None, typer.Argument(help=SOURCE_HELP, metavar="FILE")] = None,
    mapping: Annotated[str | None, typer.Option(help=MAPPING_HELP)] = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="show counts and five records as they would be imported; write nothing")
    ] = False,
    suggest: Annotated[
        bool,
        typer.Option("--suggest", help="write a mapping for the files, with lines to edit, instead of importing them"),
    ] = False,
    taxonomy: Annotated[
        str | None,
        typer.Option(help="with --suggest: a shipped taxonomy's name, or a YAML file; default: that of --run"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="with --suggest: the mapping to write; default: mapping.yaml", metavar="YAML")
    ] = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
    shown_mapping: Annotated[
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
    if suggest:
        return _suggest(source or [], run, taxonomy, out, force=force, as_json=as_json)
    if taxonomy is not None or out is not None:
        raise InputError("--taxonomy and --out need --suggest", hint="an import uses the taxonomy of its run")
    if run is None:
        raise InputError(
            "--run is missing", hint="marginalia import FILE --run runs/NAME; a new run: marginalia new NAME"
        )
    opened = open_folder(run, approve_key_host)
    if preview:
        from marginalia.pipeline.importing.import_preview import preview as preview_import

        shown = preview_import(opened, source or [], mapping)
        print(json_for_stdout(shown.data) if as_json else f"{shown}\n\npreview: nothing was written")
        return 0
    from marginalia.pipeline.importing.import_stage import STAGE, detected, prepare

    prepare(opened, source, mapping)

    def read(done: StageRun) -> Details:
        return Details([wrapped(f"  read: {line}") for line in detected(opened)])

    return run_and_print(STAGE, opened, force=force, as_json=as_json, details=read)


def _suggest(
    sources: list[str], run: Path | None, taxonomy: str | None, out: Path | None, *, force: bool, as_json: bool
) -> int:
    """Writes the mapping that is suggested for the files, and prints what is left to do and some records. Without files
    those of the run's import.yaml are used, and the mapping is written into the run folder."""
    from marginalia.pipeline.core.artifacts import SUGGESTED_MAPPING
    from marginalia.pipeline.importing.import_stage import files_to_import
    from marginalia.pipeline.importing.suggested_mapping import suggest
    from marginalia.pipeline.importing.suggestion_summary import import_command, next_steps, shown_examples
    from marginalia.schemas.storage.files import write_text
    from marginalia.schemas.storage.overwriting import refuse_overwriting
    from marginalia.schemas.taxonomy import load_taxonomy
    from marginalia.scoring.guard import named_taxonomy

    opened = open_folder(run) if run is not None else None
    if out is None:
        out = opened.path(SUGGESTED_MAPPING) if opened is not None and not sources else Path(SUGGESTED_MAPPING)
    if opened is not None and not sources:
        sources = files_to_import(opened)
    if out.exists() and not force:
        raise InputError.at(out, "exists already", hint="choose another name with --out, or replace it with --force")
    refuse_overwriting([out], sources, hint="choose another name for --out")
    labels = load_taxonomy(str(named_taxonomy(taxonomy))) if taxonomy else opened.taxonomy if opened else None
    suggestion = suggest(sources, labels)
    write_text(out, suggestion.text)
    if as_json:
        questions = [{"line": line, "key": key} for line, key in suggestion.questions]
        following = import_command(out, sources, run)
        files = [str(facts) for facts in suggestion.files.facts]
        print(json_for_stdout({"mapping": str(out), "files": files, "to_edit": questions, "next": following}))
        return 0
    for facts in suggestion.files.facts:
        print("\n".join(fitted(str(facts), terminal_width() or PIPED_WIDTH, 3)))
    print("\n" + "\n\n".join(shown_examples(suggestion, labels)) + "\n")
    print("\n".join(next_steps(suggestion, out, sources, run)))
    return 0

"""The commands that create, forecast, show and check runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from marginalia.pipeline.commands.shared_options import (
    MOST_RECORDS,
    ApproveKeyOption,
    JsonOption,
    RunOption,
    open_folder,
)
from marginalia.schemas.errors import InputError
from marginalia.schemas.terminal import json_for_stdout

MOST_ANNOTATORS = 100  # per record, in a forecast


def new(
    name: Annotated[str, typer.Argument(help="the run's name; its folder is runs/NAME")],
    taxonomy: Annotated[str, typer.Option(help="a shipped taxonomy's name, or a YAML file")],
    data: Annotated[
        list[str] | None,
        typer.Option(help="a file of records of your own, to import instead of generating texts", metavar="FILE"),
    ] = None,
) -> None:
    """Create a run folder. It has a commented config and its own copy of a taxonomy.

    Reads a taxonomy. Writes runs/NAME/config.yaml and runs/NAME/taxonomy.yaml; with --data also import.yaml."""
    from marginalia.pipeline.commands.new_run import new_run
    from marginalia.pipeline.core.run import RUNS, open_run
    from marginalia.pipeline.core.run_overview import overview

    folder = new_run(name, taxonomy, data=data or (), root=RUNS)
    print(f"{folder}: edit {folder}/config.yaml, then: {overview(open_run(folder)).next}")
    if not data:
        print(f"or, with your own records: marginalia import FILE --run {folder} --mapping MAPPING")


def config(
    key: Annotated[str | None, typer.Argument(help="with --explain: the key to describe", metavar="KEY")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="describe this key; without one, list all")] = False,
    run: Annotated[Path | None, typer.Option("--run", help="check this run's config", metavar="FOLDER")] = None,
    as_json: JsonOption = False,
) -> None:
    """Explain config keys or check a run's config. --explain without a key lists all keys.

    Reads the config.yaml of --run and the files that it names. Loads no model. Writes nothing."""
    from marginalia.pipeline.commands.new_run import explain as explanation
    from marginalia.pipeline.commands.new_run import explained

    if (explain or key is not None) == (run is not None):
        raise InputError("give either --explain [KEY] or --run FOLDER", hint="marginalia config --help")
    if explain or key is not None:
        print(json_for_stdout(explained(key)) if as_json else explanation(key))
    elif run is not None:
        from marginalia.pipeline.evaluation.score_stage import check_guards

        opened = open_folder(run)
        taxonomy = opened.taxonomy
        check_guards(opened)
        path, labels = run / "config.yaml", len(taxonomy.ids)
        data = {"config": str(path), "taxonomy": taxonomy.id, "labels": labels}
        print(json_for_stdout(data) if as_json else f"{path}: valid; taxonomy {taxonomy.id} with {labels} labels")


def status(
    run: RunOption,
    as_json: JsonOption = False,
    watch: Annotated[
        int | None, typer.Option(min=1, help="show the annotators' progress again every this many seconds")
    ] = None,
    approve_key_host: ApproveKeyOption = None,
) -> None:
    """Show a run's progress and the next command. For each stage, it says what is stale and why.

    Reads the run folder, and the datasets in Argilla if there are any. Writes nothing."""
    from marginalia.pipeline.annotating.annotation_status import annotation, follow
    from marginalia.pipeline.core.run_overview import overview

    opened = open_folder(run, approve_key_host)
    if watch is not None:
        follow(opened, watch)
    progress = annotation(opened)
    stages = overview(opened, progress.missing)
    print(json_for_stdout({**stages.data, **progress.data}) if as_json else f"{stages}\n{progress}".rstrip())


def simulate(
    run: RunOption,
    overlap: Annotated[
        list[int] | None,
        typer.Option(help="annotators per record; repeat to compare; default: 1, 2, 3, 5 and 7", metavar="N"),
    ] = None,
    miss: Annotated[
        list[float] | None,
        typer.Option(
            help="probability of missing a label that applies; repeat to give each annotator a value; default: 0.15",
            metavar="P",
        ),
    ] = None,
    false_alarm: Annotated[
        list[float] | None,
        typer.Option(
            help="probability of selecting a label that does not apply; repeat it like --miss; default: 0.02",
            metavar="P",
        ),
    ] = None,
    skip: Annotated[float, typer.Option(help="probability of skipping a record", metavar="P")] = 0.02,
    records: Annotated[
        int, typer.Option(min=1, max=MOST_RECORDS, help="records to simulate, at most", metavar="N")
    ] = 1000,
    as_json: JsonOption = False,
) -> None:
    """Forecast label quality before you annotate. It simulates annotators with the error rates that you give.

    Reads plan.parquet or prompts.parquet. Writes nothing."""
    from marginalia.pipeline.annotating.quality_forecast import forecast, forecast_table, profiles_of

    overlaps = overlap or [1, 2, 3, 5, 7]
    if not 1 <= min(overlaps) <= max(overlaps) <= MOST_ANNOTATORS:
        given = ", ".join(map(str, overlaps))
        raise InputError(f"--overlap takes numbers from 1 to {MOST_ANNOTATORS}, saw {given[:80]}")
    opened = open_folder(run)
    profiles = profiles_of(miss or [0.15], false_alarm or [0.02], skip)
    forecasts = forecast(opened, profiles, opened.config.simulation.expert, overlaps, records=records)
    print(json_for_stdout([row.model_dump() for row in forecasts]) if as_json else forecast_table(forecasts))


def verify(
    run: RunOption,
    as_json: JsonOption = False,
) -> int:
    """Check a whole run. Hashes, schemas, journals and counts must agree; the exit code is 2 when they do not.

    Reads the run folder. Writes nothing."""
    from marginalia.pipeline.verification.verify import verify as check_run

    checks = check_run(open_folder(run))
    print(json_for_stdout(checks.data) if as_json else checks)
    return 2 if checks.failed else 0


def repair(run: RunOption, as_json: JsonOption = False) -> None:
    """Move unreadable lines out of a run's journals. They are kept in JOURNAL.damaged, nothing is deleted.

    Reads and writes the journals: annotations.jsonl, responses.jsonl, checks.jsonl, scores/*.journal.jsonl."""
    from marginalia.pipeline.verification.journal_repair import repair_journals

    journals = repair_journals(open_folder(run))
    rows = [
        {"journal": str(each.path), "moved": each.moved, "next": each.command if each.moved else None}
        for each in journals
    ]
    print(json_for_stdout(rows) if as_json else "\n".join(map(str, journals)) or "no journals yet")

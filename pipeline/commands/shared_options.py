"""What all commands share: options, opening the run, running a stage, and errors as one line."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer

from marginalia.schemas.exit_codes import run_command
from marginalia.schemas.key_approval import FLAG, FLAG_HELP, approve_hosts
from marginalia.schemas.terminal import json_for_stdout

if TYPE_CHECKING:
    from marginalia.pipeline.core.run import Run
    from marginalia.pipeline.core.stage_runner import Stage, StageRun
    from marginalia.schemas.manifest_json import Missing

Parameters = ParamSpec("Parameters")
MOST_RECORDS = 1_000_000_000  # that an option may ask for
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON instead of text")]
RunOption = Annotated[Path, typer.Option("--run", help="the run's folder, such as runs/refunds", metavar="FOLDER")]
ForceOption = Annotated[bool, typer.Option("--force", help="run although nothing has changed")]
ApproveKeyOption = Annotated[list[str] | None, typer.Option(FLAG, help=FLAG_HELP, metavar="HOST")]


@dataclass(frozen=True)
class Details:
    """What a command prints about a stage in addition to its counts: blocks of text, and keys of its JSON."""

    text: Iterable[str] = ()
    data: Mapping[str, Any] = field(default_factory=dict)


def with_error_messages(command: Callable[Parameters, int | None]) -> Callable[Parameters, None]:
    """Ends the command with an exit code, and its errors as one line on stderr (schemas/exit_codes.py)."""

    @functools.wraps(command)
    def wrapped(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        raise typer.Exit(run_command(lambda: command(*args, **kwargs)))

    return wrapped


def open_folder(folder: Path, key_hosts: Sequence[str] | None = None) -> Run:
    """The run in `folder`. `key_hosts`: the servers that --approve-key-host names.

    Raises InputError when it is not a run folder or its config is invalid."""
    approve_hosts(key_hosts or ())
    from marginalia.pipeline.core.run import open_run

    return open_run(folder)


def run_and_print(
    stage: Stage,
    run: Run,
    *,
    force: bool = False,
    as_json: bool = False,
    details: Callable[[StageRun], Details] | None = None,
) -> int:
    """Runs a stage and prints its outcome, as text or JSON, with the `details` that the command adds; on stderr, what
    is missing or the next command. Returns the exit code."""
    from marginalia.pipeline.core.run_overview import next_after
    from marginalia.pipeline.core.stage_runner import run_stage
    from marginalia.pipeline.core.stage_summary import data_of, describe

    done = run_stage(stage, run, force=force)
    command = next_after(run, stage.name) if not done.manifest.missing else None
    added = details(done) if details is not None else Details()
    if as_json:
        print(json_for_stdout({**data_of(done), **added.data, "next": command}))
    else:
        print(describe(done), *added.text, sep="\n")
    code = exit_code(done.manifest.missing)
    if command is not None:
        print(f"next: {command}", file=sys.stderr)
    return code


def exit_code(missing: Sequence[Missing]) -> int:
    """0 when nothing is missing; else 1, after printing what is missing and how to continue."""
    from marginalia.pipeline.core.stage_summary import incomplete

    if missing:
        print(incomplete(missing), file=sys.stderr)
    return 1 if missing else 0

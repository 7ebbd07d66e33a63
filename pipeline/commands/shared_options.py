"""What all commands share: options, opening the run, and errors as one line."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ParamSpec

import typer

from marginalia.schemas.exit_codes import run_command
from marginalia.schemas.key_approval import FLAG, FLAG_HELP, approve_hosts

if TYPE_CHECKING:
    from marginalia.pipeline.core.run import Run

Parameters = ParamSpec("Parameters")
RunOption = Annotated[Path, typer.Option("--run", help="the run's folder, such as runs/refunds", metavar="FOLDER")]
ForceOption = Annotated[bool, typer.Option("--force", help="run although nothing has changed")]
ApproveKeyOption = Annotated[list[str] | None, typer.Option(FLAG, help=FLAG_HELP, metavar="HOST")]


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

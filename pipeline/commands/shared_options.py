"""What all commands share: options, opening the run, and errors as one line."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ParamSpec

import typer

from marginalia.schemas.errors import InputError, MarginaliaError
from marginalia.schemas.extras import missing_extra
from marginalia.schemas.key_approval import FLAG, FLAG_HELP, approve_hosts

if TYPE_CHECKING:
    from marginalia.pipeline.core.run import Run

Parameters = ParamSpec("Parameters")
RunOption = Annotated[Path, typer.Option("--run", help="the run's folder, such as runs/refunds", metavar="FOLDER")]
ForceOption = Annotated[bool, typer.Option("--force", help="run although nothing has changed")]
ApproveKeyOption = Annotated[list[str] | None, typer.Option(FLAG, help=FLAG_HELP, metavar="HOST")]


def with_error_messages(command: Callable[Parameters, int | None]) -> Callable[Parameters, None]:
    """Prints a MarginaliaError as one line on stderr and exits with its code; Ctrl-C exits with 130."""

    @functools.wraps(command)
    def wrapped(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        try:
            code = command(*args, **kwargs)
        except MarginaliaError as error:
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(error.exit_code) from error
        except ModuleNotFoundError as error:
            if (missing := missing_extra(error)) is None:
                raise
            print(f"error: {missing}", file=sys.stderr)
            raise typer.Exit(missing.exit_code) from error
        except OSError as error:
            from marginalia.schemas.storage.files import cannot_open

            print(f"error: {cannot_open(error)}", file=sys.stderr)
            raise typer.Exit(InputError.exit_code) from error
        except KeyboardInterrupt:
            print("interrupted; run the same command to continue", file=sys.stderr)
            raise typer.Exit(130) from None
        raise typer.Exit(code or 0)

    return wrapped


def open_folder(folder: Path, key_hosts: Sequence[str] | None = None) -> Run:
    """The run in `folder`. `key_hosts`: the servers that --approve-key-host names.

    Raises InputError when it is not a run folder or its config is invalid."""
    approve_hosts(key_hosts or ())
    from marginalia.pipeline.core.run import open_run

    return open_run(folder)

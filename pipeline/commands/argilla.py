"""The commands `marginalia argilla …`, for the run's own server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from marginalia.pipeline.commands.shared_options import JsonOption, RunOption, open_folder, with_error_messages
from marginalia.schemas.terminal import json_for_stdout

argilla = typer.Typer(
    help="Control the run's own Argilla server.",
    epilog="Example: marginalia argilla up --run runs/refunds",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@argilla.command(epilog="Example: marginalia argilla up --run runs/refunds")
@with_error_messages
def up(
    run: RunOption,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="port; default: 6900, or a free one where that is taken")] = None,
) -> None:
    """Start the server and print the log-ins. The accounts of team and experts are created.

    Reads config.yaml. Writes the folder argilla/ in the run folder."""
    from marginalia.pipeline.annotating.annotator_logins import start_for_annotators

    print(start_for_annotators(open_folder(run), host=host, port=port))


@argilla.command(epilog="Example: marginalia argilla down --run runs/refunds")
@with_error_messages
def down(run: RunOption) -> None:
    """Stop the server. Its data are kept in the run folder.

    Reads the folder argilla/ in the run folder. Writes nothing."""
    from marginalia.annotation.server.server_control import down as stop

    print("stopped" if stop(open_folder(run).path("argilla")) else "not running")


@argilla.command("status", epilog="Example: marginalia argilla status --run runs/refunds")
@with_error_messages
def server_status(run: RunOption, as_json: JsonOption = False) -> int:
    """Show whether the server is running. The exit code is 1 when it is not.

    Reads the folder argilla/ in the run folder. Writes nothing."""
    from marginalia.annotation.server.server_control import status as running

    server = running(open_folder(run).path("argilla"))
    if as_json:
        where = {"url": server.url, "process": server.pid} if server else {"url": None, "process": None}
        print(json_for_stdout({"running": server is not None, **where}))
    else:
        print(f"running at {server.url} (process {server.pid})" if server else "not running")
    return 0 if server else 1


@argilla.command(epilog="Example: marginalia argilla users --run runs/refunds")
@with_error_messages
def users(run: RunOption, as_json: JsonOption = False) -> None:
    """Print the log-ins with their passwords.

    Reads the folder argilla/ in the run folder. Writes nothing."""
    from marginalia.pipeline.annotating.annotator_logins import log_in_data, log_ins

    opened = open_folder(run)
    print(json_for_stdout(log_in_data(opened)) if as_json else log_ins(opened))


@argilla.command(epilog="Example: marginalia argilla backup backups/monday --run runs/refunds")
@with_error_messages
def backup(to: Annotated[Path, typer.Argument(help="the folder to create")], run: RunOption) -> None:
    """Copy database and accounts into a folder. The server may be running.

    Reads the folder argilla/ in the run folder. Writes the new folder."""
    from marginalia.annotation.server.server_backup import backup as save

    print(save(open_folder(run).path("argilla"), to))


@argilla.command(epilog="Example: marginalia argilla restore backups/monday --run runs/refunds")
@with_error_messages
def restore(source: Annotated[Path, typer.Argument(help="a folder that backup wrote")], run: RunOption) -> None:
    """Restore a backup. The server must be stopped; the replaced data are kept in another folder.

    Reads a folder that backup wrote. Writes the folder argilla/ in the run folder."""
    from marginalia.annotation.server.server_backup import restore as put_back

    kept = put_back(open_folder(run).path("argilla"), source)
    print("restored" + (f"; the replaced data are in {kept}" if kept else ""))

"""`marginalia argilla …`: the run's own server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from marginalia.pipeline.commands.shared_options import RunOption, friendly, open_folder

argilla = typer.Typer(
    help="The run's own Argilla server, for people to annotate in.",
    epilog="Example: marginalia argilla up --run runs/refunds",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@argilla.command(epilog="Example: marginalia argilla up --run runs/refunds")
@friendly
def up(
    run: RunOption,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="port; default: 6900, or a free one where that is taken")] = None,
) -> None:
    """Start the server, make the team's accounts, and print address and log-ins."""
    from marginalia.pipeline.annotating.annotator_logins import start_for_annotators

    print(start_for_annotators(open_folder(run), host=host, port=port))


@argilla.command(epilog="Example: marginalia argilla down --run runs/refunds")
@friendly
def down(run: RunOption) -> None:
    """Stop the server. Nothing is lost: its data stay in the run's folder."""
    from marginalia.annotation.server.server_control import down as stop

    print("stopped" if stop(open_folder(run).path("argilla")) else "it was not running")


@argilla.command("status", epilog="Example: marginalia argilla status --run runs/refunds")
@friendly
def server_status(run: RunOption) -> int:
    """Say whether the server runs, and where. Exit code 1 when it does not."""
    from marginalia.annotation.server.server_control import status as running

    server = running(open_folder(run).path("argilla"))
    print(f"running at {server.url} (process {server.pid})" if server else "not running")
    return 0 if server else 1


@argilla.command(epilog="Example: marginalia argilla users --run runs/refunds")
@friendly
def users(run: RunOption) -> None:
    """Print the log-ins, passwords included."""
    from marginalia.pipeline.annotating.annotator_logins import log_ins

    print(log_ins(open_folder(run)))


@argilla.command(epilog="Example: marginalia argilla backup backups/monday --run runs/refunds")
@friendly
def backup(to: Annotated[Path, typer.Argument(help="the folder to write; must not exist yet")], run: RunOption) -> None:
    """Copy the server's database and accounts into a folder, also while it runs."""
    from marginalia.annotation.server.server_backup import backup as save

    print(save(open_folder(run).path("argilla"), to))


@argilla.command(epilog="Example: marginalia argilla restore backups/monday --run runs/refunds")
@friendly
def restore(source: Annotated[Path, typer.Argument(help="a folder that backup wrote")], run: RunOption) -> None:
    """Put a back-up in place; what it replaces is kept beside it. The server must be down."""
    from marginalia.annotation.server.server_backup import restore as put_back

    kept = put_back(open_folder(run).path("argilla"), source)
    print("restored" + (f"; what was there before is in {kept}" if kept else ""))

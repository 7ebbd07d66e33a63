"""Starts a run's own Argilla for its annotators, and prints its address and their log-ins."""

from __future__ import annotations

from marginalia.pipeline.core.run import Run
from marginalia.schemas.errors import InputError
from marginalia.schemas.terminal import table

HOME = "argilla"


def start_for_annotators(run: Run, *, host: str, port: int | None) -> str:
    """Starts the run's server, creates the accounts of team and experts, and returns the text that says how to log in.

    Raises InputError when annotation.url is set: then that server is used."""
    from marginalia.annotation.client.argilla_access import admit, connect
    from marginalia.annotation.server.server_control import exposure_warning, up

    section, home = run.config.annotation, run.path(HOME)
    if section.url is not None:
        raise InputError(
            f"this run's Argilla is {section.url}", hint="log in there; this command is for a local server only"
        )
    server = up(home, host=host, port=port)
    with connect(section, home) as connection:
        admit(connection, section, home)
    warning = exposure_warning(server.host)
    lines = [f"Argilla runs at {server.url} (process {server.pid})", *([f"warning: {warning}"] if warning else [])]
    if not section.team:
        lines.append(
            f"annotation.team is empty: add usernames in {run.folder / 'config.yaml'}, then run this command again"
        )
    stop = f"stop it with: marginalia argilla down --run {run.folder}"
    return "\n".join([*lines, log_ins(run), "", f"next: {run.command('push')}", stop])


def log_ins(run: Run) -> str:
    """A table of user names, roles and passwords of the run's own server."""
    rows = [(row["user"], row["role"], row["password"]) for row in log_in_data(run)]
    return "log-ins:\n" + table(["user", "role", "password"], rows)


def log_in_data(run: Run) -> list[dict[str, str]]:
    """The same for `--json`."""
    from marginalia.annotation.server.server_control import accounts

    known = accounts(run.path(HOME))
    return [{"user": account.username, "role": account.role, "password": account.password} for account in known]

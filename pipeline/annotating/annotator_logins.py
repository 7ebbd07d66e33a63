"""What people need to start annotating in a run's own Argilla: its address and their log-ins."""

from __future__ import annotations

from marginalia.pipeline.core.run import Run
from marginalia.schemas.errors import InputError

HOME = "argilla"


def open_for_people(run: Run, *, host: str, port: int | None) -> str:
    """Starts the run's server, makes the accounts of team and experts, and says where and how to log in."""
    from marginalia.annotation.client.argilla_access import admit, connect
    from marginalia.annotation.server.server_control import exposure_warning, up

    section, home = run.config.annotation, run.path(HOME)
    if section.url is not None:
        raise InputError(f"this run's Argilla is {section.url}", hint="log in there; only a local server is started")
    server = up(home, host=host, port=port)
    with connect(section, home) as connection:
        admit(connection, section, home)
    warning = exposure_warning(server.host)
    lines = [f"Argilla runs at {server.url} (process {server.pid})", *([f"warning: {warning}"] if warning else [])]
    if not section.team:
        lines.append(f"annotation.team is empty: name your annotators in {run.folder / 'config.yaml'}, then call again")
    stop = f"stop it with: marginalia argilla down --run {run.folder}"
    return "\n".join([*lines, log_ins(run), "", f"next: {run.command('push')}", stop])


def log_ins(run: Run) -> str:
    """A table of user names, roles and passwords of the run's own server."""
    from marginalia.annotation.server.server_control import accounts

    found = accounts(run.path(HOME))
    width = max((len(account.username) for account in found), default=0)
    rows = [f"  {account.username:{width}}  {account.role:9}  {account.password}" for account in found]
    return "\n".join(["log-ins (user, role, password):", *rows])

"""The connection to a run's Argilla: the server in its config, or its own local one, which is started if necessary."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from marginalia.annotation.client.connection import Connection, api_key_from
from marginalia.annotation.client.datasets import add_members, find_workspace
from marginalia.annotation.config import AnnotationSection
from marginalia.schemas.key_approval import check_key_approved


def connect(section: AnnotationSection, home: Path) -> Connection:
    """A connection as owner or admin. `home` is the local server's folder, used when annotation.url is not set.

    Raises InputError when the API key is not set or not approved for this server, ServiceError when the server does
    not answer or refuses."""
    if section.url is not None:
        key = api_key_from(dict(os.environ), section.api_key_env)
        setting = "annotation.allow_http"
        check_key_approved(section.api_key_env, section.url, allow_http=section.allow_http, setting=setting)
        return Connection(section.url, key, key_hint=f"check the environment variable {section.api_key_env}")
    from marginalia.annotation.server import server_control

    if server_control.status(home) is None:
        note = f"starting a local Argilla server in {home}, because annotation.url is not set; it keeps running:"
        print(f"{note} marginalia argilla down --run {home.parent} stops it", file=sys.stderr)
    server = server_control.up(home)
    owner = next(account for account in server_control.accounts(home) if account.role == "owner")
    return Connection(server.url, owner.api_key, key_hint=f"see {home / 'credentials.json'}", is_local=True)


def experts_workspace(section: AnnotationSection) -> str:
    """The experts' workspace. It is separate, so that an annotator's answer can never count as an expert's."""
    return f"{section.workspace}-experts" if section.experts else section.workspace


def admit(connection: Connection, section: AnnotationSection, home: Path) -> None:
    """Adds team and experts to their workspaces. On the local server missing accounts are created."""
    for names, workspace in ((section.team, section.workspace), (section.experts, experts_workspace(section))):
        if section.url is None and names:
            from marginalia.annotation.server import server_control

            server_control.add_annotators(home, names, workspace)
        elif names or workspace == section.workspace:
            add_members(connection, find_workspace(connection, workspace, make=True), names)

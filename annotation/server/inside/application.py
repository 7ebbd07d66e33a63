"""Argilla's application: migrate the database, make sure that the owner exists, serve until SIGTERM.

Import it only after `serve` has set the environment variables and `jobs` has replaced Redis.
"""

import asyncio
import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
import annotation_page
import argilla_server
import connections
import content_policy
import jobs
import own_answers
import search  # noqa: F401  registers the search engine
import uvicorn
from argilla_server._version import __version__ as ARGILLA_VERSION
from argilla_server.contexts import accounts
from argilla_server.database import ALEMBIC_CONFIG_FILE, AsyncSessionLocal
from argilla_server.models import User, UserRole
from argilla_server.settings import settings

GRACE = 5  # seconds that requests in progress get when the server stops


def run(listener: socket.socket, credentials: dict[str, Any]) -> None:
    """Serve on `listener` until SIGTERM. Requests in progress and background jobs are finished first."""
    connections.configure()
    migrate()
    connections.update_records_when_answered()
    own_answers.restrict()
    annotation_page.adapt(content_policy.ui_folder(argilla_server.app), settings.base_url)
    # After its shutdown uvicorn restores the previous handler and raises the signal again: with the default handler the
    # process would end there, before the jobs are finished.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    config = uvicorn.Config(
        content_policy.ContentPolicy(argilla_server.app),
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE,
    )
    config.setup_event_loop()
    asyncio.run(Server(config, credentials).serve(sockets=[listener]))


def migrate() -> None:
    """Create or upgrade the tables. This uses alembic's API without its ini file, whose logging section would disable
    all existing loggers."""
    config = alembic.config.Config()
    config.set_main_option("script_location", str(Path(ALEMBIC_CONFIG_FILE).parent / "alembic").replace("%", "%%"))
    alembic.command.upgrade(config, "head")


class Server(uvicorn.Server):
    """uvicorn, which writes `server.json`, with its address, as soon as it answers."""

    def __init__(self, config: uvicorn.Config, credentials: dict[str, Any]) -> None:
        super().__init__(config)
        self.credentials = credentials

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await ensure_owner(self.credentials)
        await super().startup(sockets)
        if sockets and not self.should_exit:
            host, port = sockets[0].getsockname()[:2]
            announce({"host": host, "port": port, "pid": os.getpid(), "version": ARGILLA_VERSION})

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        Path("server.json").unlink(missing_ok=True)
        await super().shutdown(sockets)
        await jobs.drain()


def announce(server: dict[str, Any]) -> None:
    """Write `server.json` atomically: a process that waits for it never reads half of it."""
    unfinished = Path("server.json.part")
    unfinished.write_text(json.dumps(server) + "\n", encoding="utf-8")
    unfinished.replace("server.json")


async def ensure_owner(credentials: dict[str, Any]) -> None:
    """Make sure that the owner exists and has the API key of `credentials.json`, also after an older database was
    restored.

    This writes to the database directly: the REST API cannot create the first user or set a key, and the CLI prints it.
    """
    owner = next(account for account in credentials["accounts"] if account["role"] == "owner")
    async with AsyncSessionLocal() as session:
        user = await User.get_by(session, username=owner["username"])
        if user is None:
            await User.create(
                session,
                first_name=owner["username"],
                username=owner["username"],
                role=UserRole.owner,
                api_key=owner["api_key"],
                password_hash=accounts.hash_password(owner["password"]),
            )
        elif user.api_key != owner["api_key"]:
            password_hash = accounts.hash_password(owner["password"])
            await user.update(session, api_key=owner["api_key"], password_hash=password_hash)

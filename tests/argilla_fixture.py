"""A real Argilla server for tests, one per session. Import both fixtures into a folder's conftest.py. All folders share
the home folder, and `up` returns the server that is already running."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from marginalia.annotation.server.server_control import RunningServer, down, up


def free_port() -> int:
    """A port of the loopback interface that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def argilla_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The home folder of the session's server; the server is stopped at the end."""
    home = tmp_path_factory.getbasetemp() / "argilla-home"
    yield home
    down(home)


@pytest.fixture(scope="session")
def argilla_server(argilla_home: Path) -> RunningServer:
    """The session's server, running."""
    return up(argilla_home, port=free_port())

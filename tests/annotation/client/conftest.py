from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from marginalia.annotation.server.server_control import RunningServer
from tests.annotation.runs import SimulatedRun, make_run
from tests.argilla_fixture import argilla_home, argilla_server

__all__ = ["argilla_home", "argilla_server"]


@pytest.fixture
def new_run(tmp_path: Path, argilla_home: Path, argilla_server: RunningServer) -> Callable[..., SimulatedRun]:
    """Makes a run whose local Argilla is the session's server, with a dataset of its own."""

    def make(**options: object) -> SimulatedRun:
        return make_run(tmp_path / "run", argilla_home, argilla_server.url, **options)

    return make

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.annotation.runs import SimulatedRun
from tests.hostile.fake_argilla import FakeArgilla


@pytest.fixture
def argilla() -> Iterator[FakeArgilla]:
    with FakeArgilla() as server:
        yield server


@pytest.fixture
def pushed(argilla: FakeArgilla, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., SimulatedRun]:
    """Makes a run whose three records r1, r2 and r3 are on the fake server."""

    def make(**options: Any) -> SimulatedRun:
        work = argilla.run(tmp_path, monkeypatch, **options)
        work.stage("push")
        return work

    return make

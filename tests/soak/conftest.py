from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.soak.__main__ import Services, services
from tests.soak.small_run import SmallLine


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    with services(tmp_path_factory.mktemp("soak")) as started:
        yield started


@pytest.fixture(scope="package")
def line(running: Services) -> Iterator[SmallLine]:
    with running.line() as laid_out:
        yield laid_out

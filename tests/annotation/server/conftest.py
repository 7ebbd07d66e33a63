from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from marginalia.annotation.server.server_control import RunningServer, accounts, add_annotators
from tests.annotation.server.rest import Dataset, connect, create_dataset
from tests.argilla_fixture import argilla_home, argilla_server

__all__ = ["argilla_home", "argilla_server"]


@pytest.fixture(scope="session")
def clients(argilla_home: Path, argilla_server: RunningServer) -> Iterator[dict[str, httpx.Client]]:
    """HTTP clients by username: owner, and the annotators ann and ben of the workspace `team`."""
    add_annotators(argilla_home, ["ann", "ben"], "team")
    shared = [account for account in accounts(argilla_home) if account.username in ("owner", "ann", "ben")]
    by_name = {account.username: connect(argilla_server.url, account) for account in shared}
    yield by_name
    for client in by_name.values():
        client.close()


@pytest.fixture(scope="session")
def owner(clients: dict[str, httpx.Client]) -> httpx.Client:
    return clients["owner"]


@pytest.fixture(scope="session")
def ann(clients: dict[str, httpx.Client]) -> httpx.Client:
    return clients["ann"]


@pytest.fixture(scope="session")
def ben(clients: dict[str, httpx.Client]) -> httpx.Client:
    return clients["ben"]


@pytest.fixture(scope="session")
def new_dataset(owner: httpx.Client) -> Callable[..., Dataset]:
    """Make a published dataset of its own for a test; see `rest.create_dataset`."""

    def create(texts: list[str], **options: object) -> Dataset:
        return create_dataset(owner, "team", texts, **options)  # type: ignore[arg-type]

    return create

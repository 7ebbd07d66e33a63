"""What the tests of the endpoint scorer share: one tiny guard, trained once, and servers over it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaForCausalLM

from marginalia.scoring.models.endpoint_model import EndpointModel
from marginalia.scoring.scorer import Result, Scorer, Settings
from tests.logprob_server import LogprobServer
from tests.scoring import tiny
from tests.scoring.endpoint.served import EXACT, HOSTILE, RECORDS, by_id, connect, write_guard


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_guard(tmp_path_factory.mktemp("endpoint"))


@pytest.fixture(scope="session")
def network(folder: Path) -> Any:
    return LlamaForCausalLM.from_pretrained(folder / "model").eval()


@pytest.fixture(scope="session")
def truth(folder: Path) -> dict[str, Result]:
    """Every record scored on this machine to the end."""
    local = Scorer.load(str(folder / "model"), str(folder / "guard.yaml"), settings=EXACT)
    return by_id(local.score_records([*RECORDS, HOSTILE]))


@pytest.fixture
def remote(folder: Path, network: Any) -> Iterator[Any]:
    """remote(settings, server options, **endpoint options) → (server, scorer)."""
    stack: list[LogprobServer] = []
    models: list[EndpointModel] = []

    def open_one(settings: Settings, server: dict[str, Any], **options: Any) -> tuple[LogprobServer, Scorer]:
        started = LogprobServer(network, tiny.tokenizer(), **server)
        stack.append(started.__enter__())
        return started, connect(folder, started, settings, models, **options)

    yield open_one
    for model in models:
        model.caller.close()
    for server in stack:
        server.__exit__(None, None, None)

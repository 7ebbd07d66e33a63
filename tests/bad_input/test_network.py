"""No network: no server listens, no name is resolved, the Hub is unreachable. The whole messages."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from marginalia.annotation.client import connection
from tests.bad_input.table import GOOD, Files, Row, check, jsonl, names
from tests.bad_input.test_artifacts import FRAMES, PLAN

CLOSED = "http://127.0.0.1:9/v1"  # the discard port, on which no server listens
NOWHERE = "http://nowhere.invalid/v1"


def generate(url: str) -> Files:
    endpoint = f"generate: {{endpoint: {{base_url: '{url}', model: m}}, retries: 0}}\n"
    return {"runs/r/config.yaml": f"taxonomy: support-tickets\n{endpoint}", "runs/r/plan.parquet": PLAN}


def annotate(url: str) -> Files:
    section = f"annotation: {{url: '{url}', api_key_env: ARGILLA_API_KEY}}\n"
    return {"runs/r/config.yaml": f"taxonomy: support-tickets\n{section}", "runs/r/prompts.parquet": FRAMES.prompts}


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """No name except localhost is resolved, and the Hub's client is offline."""
    import huggingface_hub.constants

    real = socket.getaddrinfo

    def resolve(host: Any, *arguments: Any, **named: Any) -> Any:
        if host in ("127.0.0.1", "localhost", None):
            return real(host, *arguments, **named)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", resolve)
        patch.setattr(connection, "RETRIES", 0)
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        patch.setenv("ARGILLA_API_KEY", "argilla-canary-0123456789")
        patch.delenv("HF_TOKEN", raising=False)
        yield


SCORE = "scoring r.jsonl --tokenizer bundled --retries 0"
ROWS: list[Row] = [
    (
        "generate, no server listens",
        generate(CLOSED),
        "generate --run runs/r",
        3,
        "http://127.0.0.1:9/v1: connection failed: [Errno 111] Connect call failed ('127.0.0.1', 9) "
        "(1 call) (is the server running? set generate.endpoint.base_url)",
    ),
    (
        "generate, no such name",
        generate(NOWHERE),
        "generate --run runs/r",
        3,
        "http://nowhere.invalid/v1: connection failed: [Errno -2] Name or service not known "
        "(1 call) (is the server running? set generate.endpoint.base_url)",
    ),
    (
        "score, no server listens",
        {"r.jsonl": jsonl(GOOD)},
        f"{SCORE} --model {CLOSED}",
        3,
        "http://127.0.0.1:9/v1: connection failed: [Errno 111] Connect call failed ('127.0.0.1', 9) (1 "
        "call) (is the server running at the address given as --model?)",
    ),
    (
        "score, no such name",
        {"r.jsonl": jsonl(GOOD)},
        f"{SCORE} --model {NOWHERE}",
        3,
        "http://nowhere.invalid/v1: connection failed: [Errno -2] Name or service not known (1 ca"
        "ll) (is the server running at the address given as --model?)",
    ),
    (
        "Argilla is down",
        annotate("http://127.0.0.1:9"),
        "push --run runs/r",
        3,
        "Argilla at http://127.0.0.1:9 does not answer (GET /me): ConnectError: [Errno 111] Conne"
        "ction refused (check annotation.url and that the server runs; the local one: marginalia "
        "argilla up)",
    ),
    (
        "Argilla has no such name",
        annotate("https://nowhere.invalid"),
        "push --run runs/r",
        3,
        "Argilla at https://nowhere.invalid does not answer (GET /me): ConnectError: [Errno -2] Na"
        "me or service not known (check annotation.url and that the server runs; the local one: m"
        "arginalia argilla up)",
    ),
    (
        "Argilla's key would travel unencrypted",
        annotate("http://nowhere.invalid"),
        "push --run runs/r",
        2,
        "http://nowhere.invalid: a key is not sent over plain http to another machine, where everyone on the way can "
        "read it (use https://, or set annotation.allow_http: true if the network is your own)",
    ),
    (
        "import, the Hub is out of reach",
        {},
        "import hub:owner/name --run runs/r",
        3,
        "cannot read owner/name (split train) from the Hub: Cannot reach https://huggingface.co/a"
        "pi/datasets/owner/name: offline mode is enabled. To disable it, please unset the `HF_HUB"
        "_OFFLINE` environment variable. (check the name, hub.config and hub.split of the mapping"
        ", the network, and HF_TOKEN for a gated set)",
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=names(ROWS))
def test_the_whole_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: Row) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MARGINALIA_APPROVE_KEY_HOST", "nowhere.invalid")
    with offline():
        check(tmp_path, row)

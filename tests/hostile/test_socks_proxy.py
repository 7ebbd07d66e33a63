"""A SOCKS proxy in the environment: every command that calls a server on another machine ends with one line."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from marginalia.pipeline.core.run import Run, open_run
from marginalia.schemas.push_json import Pushed
from marginalia.schemas.storage.files import write_json
from tests.scoring.tiny import save
from tests.test_canary import KEYS, PROXIES, command, run_of

SERVER = "https://server.invalid"
MESSAGE = "error: the environment names a proxy of kind socks5; only http proxies can be used (set HTTP_PROXY, "


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    for name, key in KEYS.items():
        monkeypatch.setenv(name, key)
    for name in (*PROXIES, "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MARGINALIA_APPROVE_KEY_HOST", "server.invalid")
    run = run_of(tmp_path / "run", SERVER, save(tmp_path / "model"))
    monkeypatch.setenv("ALL_PROXY", "socks5://x")
    return run


def test_no_command_uses_it(run: Run) -> None:
    pushed = Pushed(
        url=SERVER,
        workspace="argilla",
        dataset="tickets",
        dataset_id="1",
        round="annotate",
        records=1,
        annotators=1,
        taxonomy="support-tickets",
        labels=run.taxonomy.ids,
        taxonomy_sha256="0" * 64,
        suggestions=False,
        pushed_at=datetime.now(UTC),
    )
    write_json(run.path("push.json"), pushed.model_dump(mode="json"))
    for words in ("generate", "score", "pull", "push", "publish --push"):
        code, printed = command(open_run(run.folder), words)
        lines = [line for line in printed.splitlines() if line.startswith("error: ")]
        assert code == 2 and len(lines) == 1 and lines[0].startswith(MESSAGE), (words, printed)

"""Attack: a Hub whose uploads fail, whose answers have values of other types, or that repeats the token. Every failure
is a ServiceError (exit code 3), and nothing is taken for private or published that is not."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest

from marginalia.pipeline.importing.column_mapping import HubSource
from marginalia.pipeline.importing.hub_source import fetch
from marginalia.pipeline.release import hub_repository
from marginalia.schemas.errors import ServiceError
from tests.hub_server import TOKEN, HubServer
from tests.pipeline.release.test_publish import REPO, environment, publish, released  # noqa: F401 - a fixture
from tests.test_canary import parrot

# huggingface_hub's own way of sending a file
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload:DeprecationWarning")
DEEP: Any = []
for _ in range(900):
    DEEP = [DEEP]
STRANGE: list[Any] = [None, 7, True, [], [[1]], {}, {"a": 1}, "", "../../x", "x" * 100_000, DEEP]


@pytest.fixture
def server() -> Iterator[HubServer]:
    with HubServer().running() as running:
        yield running


def test_large_files_are_uploaded_separately(tmp_path: Path, server: HubServer) -> None:
    server.lfs = (".parquet",)
    run = released(tmp_path, server)
    publish(run)
    files = server.repositories[REPO].commits[-1].files
    assert files["data/gold/test.parquet"] == run.path("release/data/gold/test.parquet").read_bytes()
    assert server.count("upload") > 1


@pytest.mark.parametrize("call", ["batch", "upload"])
@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refused_upload_is_an_error_of_the_hub(tmp_path: Path, server: HubServer, call: str, status: int) -> None:
    server.lfs = (".parquet",)
    run = released(tmp_path, server)
    server.faults[call] = [status] * 20
    with pytest.raises(ServiceError, match=rf"the Hub refused to commit \(lab/tickets\): HTTP {status}"):
        publish(run)
    assert len(server.repositories[REPO].commits) == 1


@pytest.mark.parametrize("fault", [500, 503, "lost"])
def test_an_upload_that_fails_for_a_while_is_repeated(tmp_path: Path, server: HubServer, fault: int | str) -> None:
    server.lfs = (".parquet",)
    run = released(tmp_path, server)
    server.faults["upload"] = [fault] * 3
    publish(run)
    assert len(server.repositories[REPO].commits) == 2


def test_an_upload_that_hangs_ends_with_an_error_of_the_hub(
    tmp_path: Path, server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_repository, "ATTEMPTS", 1)
    monkeypatch.setattr("huggingface_hub.lfs.http_backoff", _without_repeating())
    server.lfs = (".parquet",)
    run = released(tmp_path, server, timeout=0.2)
    server.faults["upload"] = ["late"] * 20
    with pytest.raises(ServiceError, match="the Hub did not accept the commit"):
        publish(run)


def _without_repeating() -> Any:
    from functools import partial

    from huggingface_hub.utils import http_backoff

    return partial(http_backoff, max_retries=0)


@pytest.mark.parametrize(
    ("call", "key", "harmless"),
    [
        ("info", "sha", []),
        ("info", "private", [True]),
        ("commit", "commitOid", STRANGE),  # the commit was made, and is found by its title
        ("preupload", "files", []),
    ],
)
def test_values_of_another_type_are_errors_of_the_hub(
    tmp_path: Path, server: HubServer, call: str, key: str, harmless: list[Any]
) -> None:
    run = released(tmp_path, server)
    for strange in STRANGE:
        server.create(REPO)
        server.faults[call] = [{key: strange}] * 9
        if any(strange is value for value in harmless):
            publish(run)
            assert len(server.repositories[REPO].commits) == 2
        else:
            with pytest.raises(ServiceError):
                publish(run)
            assert len(server.repositories[REPO].commits) == 1, strange


@pytest.mark.parametrize("entry", [7, None, [], {}, {"type": "file", "path": 7, "oid": "0", "size": 1}])
def test_a_list_of_files_of_another_form_is_an_error_of_the_hub(tmp_path: Path, server: HubServer, entry: Any) -> None:
    run = released(tmp_path, server)
    server.create(REPO)
    server.faults["tree"] = [[entry]]
    with pytest.raises(ServiceError):
        publish(run)
    assert len(server.repositories[REPO].commits) == 1


def test_a_repository_is_private_only_if_the_hub_says_so(tmp_path: Path, server: HubServer) -> None:
    server.create(REPO, private=False)
    run = released(tmp_path, server)
    server.faults["info"] = [{"private": "false"}]
    with pytest.raises(ServiceError, match="does not say whether lab/tickets is private"):
        publish(run)
    assert len(server.repositories[REPO].commits) == 1


@pytest.mark.parametrize("sha", [None, 7, "main", ["a" * 40], "../x"])
def test_an_import_reads_a_commit_and_nothing_else(
    tmp_path: Path, server: HubServer, monkeypatch: pytest.MonkeyPatch, sha: Any
) -> None:
    from huggingface_hub import HfApi

    monkeypatch.setattr("huggingface_hub.HfApi", lambda: HfApi(endpoint=server.url))
    server.create(REPO, files={"a.jsonl": b"{}"})
    server.faults["info"] = [{"sha": sha}]
    with pytest.raises(ServiceError, match="the Hub's answer has no commit id"):
        fetch(REPO, HubSource(), tmp_path / "source.parquet")


WRITTEN = [
    str,
    str.upper,
    lambda key: "".join(f"&#{ord(letter)};" for letter in key),
    lambda key: base64.b64encode(f"Bearer {key}".encode()).decode(),
    lambda key: quote(key).replace("_", "%5F"),
    lambda key: html.escape(key).replace("_", "&#x5f;"),
]


@pytest.mark.parametrize("written", WRITTEN)
def test_a_hub_that_repeats_the_token_does_not_get_it_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: Any
) -> None:
    from huggingface_hub import HfApi

    shown = written(TOKEN)
    with parrot(lambda headers: (403, "application/json", b'{"error": "no: %b"}' % shown.encode())) as url:
        with monkeypatch.context() as patch:
            patch.setattr("huggingface_hub.HfApi", lambda: HfApi(endpoint=url))
            with pytest.raises(ServiceError) as caught:
                fetch(REPO, HubSource(), tmp_path / "source.parquet")
        assert shown not in str(caught.value) and caught.value.__cause__ is None
        run = released(tmp_path, SimpleNamespace(url=url))
        with pytest.raises(ServiceError) as caught:
            publish(run)
        assert "HTTP 403" in str(caught.value) and shown not in str(caught.value)

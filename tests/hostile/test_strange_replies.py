"""Replies of types that Argilla does not send: exit code 3 and the call that was answered strangely."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from marginalia.pipeline.commands.cli import app
from marginalia.schemas.errors import ServiceError
from tests.annotation.runs import SimulatedRun
from tests.hostile.fake_argilla import FakeArgilla

STRANGE: list[Any] = [
    None,
    "x",
    {},
    {"items": None, "users": None, "total": None, "id": None},
    {"items": {}, "users": {}, "total": "3", "id": 3},
    {"items": [None], "users": [None], "total": -1, "id": []},
    {"items": [{"id": 5}], "users": [{"completed": []}], "total": 1.5},
    {"items": [{"id": "\ud800", "name": "x", "username": "x"}], "total": None, "users": [{"pending": {"a": "b"}}]},
]
PULL = [("GET", "/records"), ("GET", "/users")]
LATER_PULL = [("POST", "/records/search"), ("GET", "/users/progress")]
PUSH = [
    ("GET", "/me/workspaces"),
    ("POST", "/workspaces"),
    ("GET", "/users"),
    ("GET", "/me/datasets"),
    ("POST", "/datasets"),
    ("GET", "/questions"),
    ("GET", "/records"),
]
SECOND_PUSH = [("GET", "/me/datasets"), ("GET", "/progress")]


def refused(argilla: FakeArgilla, work: SimulatedRun, stage: str, call: tuple[str, str]) -> None:
    """Runs the stage with each strange reply to this call, which the error must name."""
    method, end = call
    for reply in STRANGE:
        argilla.replace[call] = lambda true, reply=reply: reply
        before = len(argilla.calls)
        with pytest.raises(ServiceError) as caught:
            work.stage(stage)
        assert any(method == made and path.endswith(end) for made, path in argilla.calls[before:]), reply
        assert f"({method} /" in str(caught.value), (reply, caught.value)
        assert end in str(caught.value), (reply, caught.value)
    del argilla.replace[call]


@pytest.mark.parametrize("call", PULL, ids=" ".join)
def test_pull(argilla: FakeArgilla, pushed: Callable[..., SimulatedRun], call: tuple[str, str]) -> None:
    work = pushed()
    argilla.answer("r1", "ann", labels=["a"])
    refused(argilla, work, "pull", call)
    assert work.stage("pull").manifest.counts_out["answers"] == 1


@pytest.mark.parametrize("call", LATER_PULL, ids=" ".join)
def test_a_pull_that_continues(
    argilla: FakeArgilla, pushed: Callable[..., SimulatedRun], call: tuple[str, str]
) -> None:
    work = pushed()
    argilla.answer("r1", "ann", labels=["a"])
    work.stage("pull")
    refused(argilla, work, "pull", call)
    assert work.stage("pull").manifest.counts_out["answers"] == 1


@pytest.mark.parametrize("call", PUSH, ids=" ".join)
@pytest.mark.parametrize("reply", [{}, {"id": 5, "items": [{"id": 5}]}, {"id": "../..", "items": [None]}], ids=repr)
def test_push(
    argilla: FakeArgilla, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: tuple[str, str], reply: Any
) -> None:
    work = argilla.run(tmp_path, monkeypatch)
    argilla.replace[call] = lambda true: reply
    with pytest.raises(ServiceError) as caught:
        work.stage("push")
    assert f"({call[0]} /" in str(caught.value)
    assert f"{call[1]}): unexpected reply: " in str(caught.value)
    argilla.replace.clear()
    assert work.stage("push").manifest.counts_out["sent"] == 3


@pytest.mark.parametrize("call", SECOND_PUSH, ids=" ".join)
def test_a_push_that_has_nothing_to_send(
    argilla: FakeArgilla, pushed: Callable[..., SimulatedRun], call: tuple[str, str]
) -> None:
    work = pushed()
    refused(argilla, work, "push", call)
    assert work.stage("push").status == "up to date"


def test_the_user_of_the_key(argilla: FakeArgilla, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = argilla.run(tmp_path, monkeypatch)
    for reply in (*STRANGE, {"id": "id-of-owner", "username": "owner", "role": "owner"}):
        argilla.replace["GET", "/me"] = lambda true, reply=reply: reply
        with pytest.raises(ServiceError, match=r"\(GET /me\)"):
            work.stage("push")


def test_the_status_of_the_server(argilla: FakeArgilla, pushed: Callable[..., SimulatedRun]) -> None:
    work = pushed()
    argilla.answer("r1", "ann", labels=["a"])
    work.stage("pull")
    for reply in (None, [], "x", {"search_engine": "elasticsearch"}):
        argilla.replace["GET", "/status"] = lambda true, reply=reply: reply
        with pytest.raises(ServiceError, match=r"\(GET /status\): unexpected reply: "):
            work.stage("pull")


def test_the_command_line_prints_one_line_and_exits_with_3(
    argilla: FakeArgilla, pushed: Callable[..., SimulatedRun]
) -> None:
    work = pushed()
    argilla.replace["GET", "/records"] = lambda reply: {"items": [{"id": 1}], "total": 1}
    result = CliRunner().invoke(app, ["pull", "--run", str(work.folder)])
    assert result.exit_code == 3
    dataset = work.pushed()["dataset_id"]
    assert result.output.count("\n") == 1
    assert result.output.startswith(
        f"error: Argilla at {argilla.url} (GET /datasets/{dataset}/records): unexpected reply: items.0.id: "
    )

"""Control characters in what a server says: they do not reach the terminal."""

from __future__ import annotations

from collections.abc import Callable

from typer.testing import CliRunner

from marginalia.pipeline.commands.cli import app
from tests.annotation.runs import SimulatedRun
from tests.hostile.fake_argilla import FakeArgilla


def test_a_servers_words_cannot_control_the_terminal(argilla: FakeArgilla, pushed: Callable[..., SimulatedRun]) -> None:
    work = pushed()
    argilla.status = 403
    argilla.replace["GET", "/me"] = lambda reply: b"\x1b]0;title\x07\x1b[2J\xc2\x9b31m\r\xe2\x80\xaedenied"
    result = CliRunner().invoke(app, ["pull", "--run", str(work.folder)])
    assert result.exit_code == 3
    assert "HTTP 403" in result.output
    assert "denied" in result.output
    assert not any(character in result.output for character in "\x1b\x07\x9b\r\u202e")

"""A full disk in the commands that tests/soak/test_full_disk.py does not run, and for what a command prints."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from marginalia.pipeline.commands.cli import app
from tests.hostile.commands import ROOT
from tests.pipeline.synthetic_run import Synthetic, write_run
from tests.soak.test_full_disk import no_file_beyond

CONFIG = (
    "taxonomy: support-tickets\nevaluate: {resamples: 100, folds: 2}\n"
    "score: {guards: [{name: smollm2, guard: instruct, model: some/model}]}\n"
    "release: {repo_id: lab/x, license: cc-by-4.0}\n"
)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluated")
    write_run(folder, Synthetic(n=60, failed=0, unresolved=0))
    (folder / "config.yaml").write_text(CONFIG)
    assert CliRunner().invoke(app, ["evaluate", "--run", str(folder)]).exit_code == 0
    return folder


@pytest.mark.parametrize("command", ["audit", "report", "release", "compare", "new"])
def test_the_file_is_named_and_the_command_can_be_repeated(
    evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(evaluated, tmp_path / "r")
    words = {
        "compare": ["compare", "r", "r", "--out", "page.html"],
        "new": ["new", "another", "--taxonomy", "support-tickets"],
    }.get(command, [command, "--run", "r"])
    with no_file_beyond(100):
        done = CliRunner().invoke(app, words)
    assert done.exit_code == 2, done.stdout
    message = done.stderr.strip().split("\n")[-1]
    assert message.startswith("error: ") and ": cannot write: File too large (free some space" in message
    assert not (tmp_path / "page.html").exists() and not (tmp_path / "r/report.html").exists()
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.stderr


@pytest.mark.parametrize("words", [["marginalia", "config", "--explain"], ["marginalia", "status", "--run", "r"]])
def test_output_to_a_full_disk(evaluated: Path, tmp_path: Path, words: list[str]) -> None:
    shutil.copytree(evaluated, tmp_path / "r")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "PATH": ""},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (
        2,
        "error: no space left on the device that the output goes to (free some space)\n",
    )

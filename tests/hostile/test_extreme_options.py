"""Options with values that no model or machine can serve."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from marginalia.pipeline.commands.cli import app
from marginalia.scoring.command import main
from tests.scoring.tiny import save

DEVICES = "(--device (device of score.guards) takes auto, cpu, cuda, cuda:1 …)"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("model") / "tiny", 3)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--device", "meta", f"cannot use the device 'meta': it has no memory for numbers {DEVICES}"),
        ("--device", "meta:0", f"cannot use the device 'meta:0': it has no memory for numbers {DEVICES}"),
        ("--device", "hpu", f"cannot use the device 'hpu': No module named 'torch.hpu' {DEVICES}"),
        (
            "--answer-tokens",
            "100000",
            "answer_tokens is 100000, and the model's context has only 2048 tokens (give a smaller answer_tokens "
            "(--answer-tokens))",
        ),
    ],
)
def test_the_whole_message(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str], option: str, value: str, message: str
) -> None:
    records = tmp_path / "r.jsonl"
    records.write_text(json.dumps({"id": "a", "text": "My parcel is late"}) + "\n")
    words = [str(records), "--model", str(model), "--guard", "instruct", "--taxonomy", "support-tickets"]
    capsys.readouterr()
    assert main([*words, "--out", str(tmp_path / "o.parquet"), option, value]) == 2
    assert capsys.readouterr().err.split("\n")[-2] == f"error: {message}"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["simulate", "--overlap", "9" * 20], f"--overlap takes numbers from 1 to 100, saw {'9' * 20}"),
        (["audit", "--top", "9" * 20], "Invalid value for '--top'"),
        (["audit", "--control", "9" * 400], "Invalid value for '--control'"),
        (["push", "--more", "9" * 20], "Invalid value for '--more'"),
        (["simulate", "--records", "9" * 20], "Invalid value for '--records'"),
    ],
)
def test_a_number_that_no_run_has(tmp_path: Path, words: list[str], message: str) -> None:
    """Some of these never ended, others ended with an OverflowError."""
    (tmp_path / "config.yaml").write_text("taxonomy: support-tickets\n")
    done = CliRunner().invoke(app, [*words, "--run", str(tmp_path)])
    assert done.exit_code == 2 and message in done.stderr

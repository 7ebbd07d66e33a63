"""Journals with lines that cannot be read: `repair` moves these to a file next to the journal, and deletes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from marginalia.pipeline.commands.cli import app
from marginalia.pipeline.core.run import open_run
from marginalia.pipeline.generation.response_journal import AnswerLog, Reply, read_answers
from marginalia.pipeline.generation.unreadable_answers import UnreadableAnswers
from marginalia.pipeline.generation.writer_requests import WriterRequest
from marginalia.pipeline.paper.run_strategies import _published
from marginalia.schemas.errors import ArtifactError
from marginalia.schemas.storage.journal import Journal, checked_line, read_journal, repair_journal
from marginalia.schemas.storage.run_lock import run_lock
from marginalia.scoring.score_files import latest_keys
from tests.annotation.runs import SimulatedRun
from tests.hostile.fake_argilla import FakeArgilla

ANSWER: dict[str, Any] = {
    "key": "k",
    "slot_id": "s",
    "attempt": 1,
    "created_at": "2026-11-01T00:00:00+00:00",
    "endpoint": "e",
    "request": {"messages": [{"role": "user", "content": "x"}]},
    "model": "m",
    "text": "t",
    "refused": None,
    "finish_reason": "stop",
    "reasoning": False,
    "prompt_tokens": 1,
    "completion_tokens": 1,
    "seconds": 0.1,
}
SCORE: dict[str, Any] = {
    "id": "r1",
    "key": "k",
    "rows": ["a"],
    "scores": {"marginal": [[0.5], [0.4], [0.6]]},
    "answer": "a",
    "predicted": ["a"],
    "off_language": 0.0,
    "unexplored": 0.0,
    "nodes": 1,
    "forward_passes": 1,
    "seconds": 0.1,
    "error": None,
}


def test_a_journal_with_an_odd_answer_of_an_earlier_version_is_repaired_and_pulled_again(
    argilla: FakeArgilla, pushed: Callable[..., SimulatedRun]
) -> None:
    work = pushed()
    argilla.answer("r1", "ann", labels=["a"])
    argilla.answer("r2", "ann", labels=["b"])
    work.stage("pull")
    journal = work.folder / "annotations.jsonl"
    odd = checked_line({**next(read_journal(journal)), "record_id": "r3", "labels": "a"})
    journal.write_bytes(journal.read_bytes() + odd)
    for arguments in (["pull"], ["pull", "--force"]):
        result = CliRunner().invoke(app, [*arguments, "--run", str(work.folder)])
        assert result.exit_code == 2
        assert "line 3: " in result.output
        assert "marginalia repair --run FOLDER" in result.output
    result = CliRunner().invoke(app, ["repair", "--run", str(work.folder)])
    assert (result.exit_code, result.output) == (
        0,
        f"{journal}: moved 1 line that cannot be read to annotations.jsonl.damaged; "
        f"next: marginalia pull --run {work.folder}\n",
    )
    assert (work.folder / "annotations.jsonl.damaged").read_bytes() == odd
    assert work.stage("pull").manifest.counts_out["answers"] == 2
    result = CliRunner().invoke(app, ["repair", "--run", str(work.folder)])
    assert result.output == f"{journal}: every line can be read\n"


DAMAGE = [
    b'{"n":1\n',
    b"not JSON\n",
    b"[]\n",
    b"\xff\xfe\n",
    b"[" * 100_000 + b"\n",
    b'{"key": 5}\n',
    b"\n",
]


@pytest.mark.parametrize(
    ("name", "good", "read"),
    [
        ("responses.jsonl", ANSWER, lambda path: len(read_answers(path))),
        ("checks.jsonl", ANSWER, lambda path: len(read_answers(path))),
        (
            "responses.unreadable.jsonl",
            {"prompt_bytes": 3},
            lambda path: len(UnreadableAnswers(path.with_name("responses.jsonl")).prompt_bytes),
        ),
        ("scores/guard.journal.jsonl", SCORE, lambda path: len(latest_keys(path))),
        ("scores/guard.shards/1-of-2/guard.journal.jsonl", SCORE, lambda path: len(latest_keys(path))),
    ],
)
def test_every_journal_of_a_run(tmp_path: Path, name: str, good: Any, read: Callable[[Path], int]) -> None:
    (tmp_path / "config.yaml").write_text('{"taxonomy": "support-tickets"}')
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    line = checked_line(good)
    damaged = [*DAMAGE, line.replace(b'"crc":"', b'"crc":"0'), b'{"torn": ']
    path.write_bytes(line + b"".join(damaged[:-1]) + line + damaged[-1])
    path.chmod(0o640)
    with pytest.raises(ArtifactError, match="marginalia repair"):
        read(path)
    result = CliRunner().invoke(app, ["repair", "--run", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert f"{path}: moved {len(damaged)} lines" in result.output
    assert ("; next: marginalia score " in result.output) == name.startswith("scores/")
    assert result.output.rstrip().endswith("--force") == name.startswith("scores/"), "score alone would be up to date"
    assert path.read_bytes() == line + line
    assert read(path) >= 1
    aside = path.with_name(path.name + ".damaged")
    assert aside.read_bytes() == b"".join(damaged) + b"\n"
    assert {file.stat().st_mode & 0o777 for file in (path, aside)} == {0o640}


def test_an_answer_that_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    reply = Reply("text", None, "stop", 7, 1, 1, 0.1)  # type: ignore[arg-type]
    with Journal(tmp_path / "responses.jsonl") as journal:
        log = AnswerLog(journal, "endpoint")
        question = WriterRequest("s", 1, "k", {"messages": [{"role": "user", "content": "x"}]}, [])
        with pytest.raises(ValueError, match="model is not text"):
            log.keep(question, reply, on_disk=lambda answer: None)
    assert (tmp_path / "responses.jsonl").read_bytes() == b""


def test_the_journal_of_the_papers_strategies_names_a_line_without_an_id(tmp_path: Path) -> None:
    path = tmp_path / "published.journal.jsonl"
    path.write_bytes(checked_line({"key": "k"}))
    with pytest.raises(ArtifactError, match="line 1: damaged: it has no 'id'"):
        _published(SimpleNamespace(fingerprint="f"), [], path)  # type: ignore[arg-type]


def test_a_repair_that_is_cut_short_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.jsonl"
    before = checked_line({"n": 1}) + b"bad\n" + checked_line({"n": 2})
    path.write_bytes(before)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("os.replace", _interrupt)
        repair_journal(path)
    assert path.read_bytes() == before
    assert repair_journal(path) == 1
    assert list(read_journal(path)) == [{"n": 1}, {"n": 2}]
    assert b"bad\n" in path.with_name("journal.jsonl.damaged").read_bytes()


def _interrupt(*paths: object) -> None:
    raise KeyboardInterrupt


def test_a_run_in_use_is_not_repaired(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(json.dumps({"taxonomy": "support-tickets"}))
    with run_lock(open_run(tmp_path).folder, "marginalia pull"):
        result = CliRunner().invoke(app, ["repair", "--run", str(tmp_path)])
    assert result.exit_code == 4

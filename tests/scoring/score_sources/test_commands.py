"""The scoring command, its shards, and requests for other machines, with a guard that gives numbers itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from marginalia.schemas.errors import InputError
from marginalia.scoring.command import main
from marginalia.scoring.engines.portable_request import portable
from marginalia.scoring.score_request import ScoreRequest
from marginalia.scoring.scorer import Scorer
from tests.number_server import NumberServer
from tests.scoring.score_sources.numbers import LABELS, QUESTIONS, TEXTS, write_guard


@pytest.fixture
def server() -> Iterator[NumberServer]:
    with NumberServer("systemone") as started:
        yield started


@pytest.fixture
def command(tmp_path: Path, server: NumberServer) -> list[str]:
    records = tmp_path / "records.jsonl"
    records.write_text("".join(json.dumps({"id": f"r{n}", "text": text}) + "\n" for n, text in enumerate(TEXTS)))
    guard = write_guard(tmp_path, "systemone", **QUESTIONS)
    return [str(records), "--model", server.url, "--guard", str(guard), "--out", str(tmp_path / "scores.parquet")]


def test_the_command_writes_the_only_estimator(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 0
    assert "5 records × 1 estimator × 3 labels" in (printed := capsys.readouterr()).out
    assert "note: no bounds: the probabilities are the own numbers of tiny-guard at an endpoint" in printed.err
    scores = pl.read_parquet(tmp_path / "scores.parquet")
    assert scores["estimator"].unique().to_list() == ["server"]
    assert scores["label"].unique(maintain_order=True).to_list() == [*LABELS, "unsafe"]


def test_other_estimators_are_refused(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--estimator", "marginal"]) == 2
    assert "--estimator marginal: the guard my-systemone only has server" in capsys.readouterr().err


def test_shards_make_the_same_table(command: list[str], tmp_path: Path) -> None:
    assert main(command) == 0
    whole = pl.read_parquet(tmp_path / "scores.parquet")
    for shard in ("1/2", "2/2"):
        assert main([*command, "--shard", shard]) == 0
    assert main(["merge", command[0], "--out", command[-1]]) == 0
    assert pl.read_parquet(tmp_path / "scores.parquet").equals(whole)


def test_there_is_nothing_to_explain(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", *command[:5]]) == 2
    assert "gives numbers and no answers to explain" in capsys.readouterr().err


def test_little_probability_on_the_answers_is_noted(
    command: list[str], server: NumberServer, capsys: pytest.CaptureFixture[str]
) -> None:
    def halved(answer: dict) -> dict:
        for diagnostics in answer["diagnostics"].values():
            diagnostics["label_mass"] = 0.5
        return answer

    server.altered = halved
    assert main(command) == 0
    assert "on average 50.0% of the model's probability is on other words" in capsys.readouterr().err


def test_a_request_travels_with_the_file(tmp_path: Path, server: NumberServer) -> None:
    path = write_guard(tmp_path, "systemone", **QUESTIONS)
    sent = portable(ScoreRequest(model=server.url, guard=str(path)))
    expected = Scorer.load(server.url, path).score("hello")
    path.unlink()
    (tmp_path / "taxonomy.yaml").unlink()
    scorer = Scorer.from_request(sent)
    assert scorer.guard.name == "my-systemone"
    assert dict(scorer.score("hello")) == dict(expected)


def test_a_search_is_refused(tmp_path: Path, server: NumberServer) -> None:
    scorer = Scorer.load(server.url, write_guard(tmp_path, "systemone", **QUESTIONS))
    with pytest.raises(InputError, match="gives numbers and no answers to explain"):
        scorer.search([{"role": "user", "content": "hello"}])


def test_scores_print_without_brackets_of_certainty(tmp_path: Path, server: NumberServer) -> None:
    scorer = Scorer.load(server.url, write_guard(tmp_path, "systemone", **QUESTIONS))
    scores = scorer.score("hello")
    assert "(server; no bounds: the source's own numbers)" in str(scores)
    assert scores.to_dict()["answer"] is None
    assert scorer.score_frame(pl.DataFrame({"text": ["hello"]}))["estimator"].unique().to_list() == ["server"]
    assert scorer.score_frame(pl.DataFrame({"text": ["hello"]}), wide=True).columns[:3] == [
        "record_id",
        "unsafe",
        "hate",
    ]

"""Records that could not be scored: said, exit code 1, tried again by the next call, and never an end of the run."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from typer.testing import CliRunner

from marginalia.pipeline.commands.cli import app
from marginalia.pipeline.core.run import open_run
from marginalia.pipeline.core.run_overview import overview
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.importing.import_stage import STAGE as IMPORT
from marginalia.pipeline.importing.import_stage import prepare
from marginalia.schemas.retries import RetryPolicy
from marginalia.schemas.storage.journal import Journal
from marginalia.scoring.command import main
from marginalia.scoring.engines.shards import Shard
from tests.logprob_server import LogprobServer
from tests.scoring import tiny

TEXTS = {"r0": "hello", "r1": "Where is my parcel?", "r2": "a zebra", "r3": "I want my money back"}
MakeFolder = Callable[..., Path]


@pytest.fixture
def server(network: Any) -> Iterator[LogprobServer]:
    with LogprobServer(network, tiny.tokenizer(), asked_ids=True) as started:
        yield started


@pytest.fixture
def make(folder: Path, server: LogprobServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeFolder:
    """A run of gold records, to be scored over the server."""
    monkeypatch.setattr("marginalia.scoring.models.endpoint_calls.POLICY", RetryPolicy(first_backoff=0.001))

    def make(**texts: str) -> Path:
        for name in ("guard.yaml", "taxonomy.yaml"):
            shutil.copy(folder / name, tmp_path / name)
        guard = {"name": "tiny", "guard": "guard.yaml", "model": server.url, "tokenizer": str(folder / "model")}
        section = {"guards": [{**guard, "retries": 1}], "tolerance": 0.1, "estimators": ["marginal"]}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump({"taxonomy": "taxonomy.yaml", "score": section}))
        rows = [{"id": name, "text": text, "labels": ["l0"]} for name, text in {**TEXTS, **texts}.items()]
        (tmp_path / "source.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        run = open_run(tmp_path)
        prepare(run, str(tmp_path / "source.jsonl"), "records")
        run_stage(IMPORT, run)
        return tmp_path

    return make


def call(command: str, folder: Path, *more: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [command, "--run", str(folder), *more])
    return done.exit_code, done.stdout, re.sub(r"(?m)^next: .*\n", "", done.stderr)


def state(folder: Path, stage: str) -> tuple[str, str | None, str | None]:
    found = overview(open_run(folder))
    return next((one.state, one.why, found.next) for one in found.stages if one.stage == stage)


def scored(folder: Path) -> set[str]:
    return set(pl.read_parquet(folder / "scores/tiny.parquet")["record_id"])


def _poison(server: LogprobServer) -> None:
    """From now on calls about r2 fail."""
    server.poison = tiny.tokenizer()("z", add_special_tokens=False)["input_ids"][0]


def test_a_record_without_an_answer_is_tried_again_by_the_next_call(make: MakeFolder, server: LogprobServer) -> None:
    folder = make()
    _poison(server)
    code, said, left = call("score", folder)
    assert code == 1
    assert said.startswith("score: 3 scored by tiny, 1 failed with tiny")
    assert "incomplete: 1 of 4 records were not scored by tiny, the first 'r2': " in left
    assert "status 500: upstream trouble (2 calls)" in left
    assert left.endswith(f"  to continue: marginalia score --run {folder}\n")
    assert scored(folder) == TEXTS.keys() - {"r2"}
    name, why, following = state(folder, "score")
    assert (name, following) == ("incomplete", f"marginalia score --run {folder}")
    assert why is not None and why.startswith("1 of 4 records were not scored by tiny")
    server.poison = None
    before = len(server.requests)
    code, said, left = call("score", folder)
    assert (code, left) == (0, "")
    assert "retries what was missing" in said
    assert scored(folder) == TEXTS.keys()
    rare = str(tiny.tokenizer()("z", add_special_tokens=False)["input_ids"][0])
    about = [json.dumps(body["prompt"]) for body in server.requests[before:]]
    assert len({text for text in about if rare not in text}) == 1  # the question that greets the server
    assert state(folder, "score")[0] == "up to date"
    assert call("score", folder)[1].startswith("score: up to date")


def test_a_record_that_no_retry_can_score_does_not_hold_up_the_run(make: MakeFolder) -> None:
    folder = make(long="x " * 6000)
    for _ in range(2):  # an explicit call tries it again
        code, said, left = call("score", folder)
        assert (code, said.startswith("score: 4 scored by tiny, 1 failed with tiny")) == (1, True)
        assert "incomplete: 1 of 5 records cannot be scored by tiny, the first 'long': too long: " in left
        assert f"then: marginalia score --run {folder}; evaluate leaves these records out" in left
    name, why, following = state(folder, "score")
    assert (name, following) == ("up to date", f"marginalia evaluate --run {folder}")
    assert why is not None and "too long" in why


def test_shards_and_their_merge_say_which_to_score_again(make: MakeFolder, server: LogprobServer) -> None:
    folder = make()
    _poison(server)
    bad = 1 if Shard(1, 2).holds("r2") else 2
    codes = {number: call("score", folder, "--shard", f"{number}/2") for number in (1, 2)}
    again = f"marginalia score --run {folder} --shard {bad}/2"
    assert {number: code for number, (code, _, _) in codes.items()} == {bad: 1, 3 - bad: 0}
    assert codes[bad][2].endswith(f"  to continue: {again}\n")
    following = f"{again}, then marginalia merge --run {folder}"
    for _ in range(2):
        code, _, left = call("merge", folder)
        assert (code, left.endswith(f"  to continue: {following}\n")) == (1, True)
        assert state(folder, "score")[::2] == ("incomplete", following)
    server.poison = None
    assert call("score", folder, "--shard", f"{bad}/2")[0] == 0
    code, _, left = call("merge", folder)
    assert (code, left) == (0, "")
    assert scored(folder) == TEXTS.keys()


def test_a_journal_of_an_older_version_counts_as_passing(make: MakeFolder, server: LogprobServer) -> None:
    folder = make()
    _poison(server)
    call("score", folder)
    path = folder / "scores/tiny.journal.jsonl"
    entries = [json.loads(line) for line in path.read_bytes().splitlines()]
    path.unlink()
    with Journal(path) as journal:
        journal.extend([{k: v for k, v in each.items() if k not in ("crc", "passing")} for each in entries])
    assert call("score", folder, "--force")[0] == 1
    assert state(folder, "score")[0] == "incomplete"


def test_the_scorers_own_merge_names_the_shards(
    make: MakeFolder, folder: Path, server: LogprobServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make()
    _poison(server)
    records, out = tmp_path / "records.jsonl", tmp_path / "out.parquet"
    records.write_text("".join(json.dumps({"id": name, "text": text}) + "\n" for name, text in TEXTS.items()))
    options = ["--model", server.url, "--guard", str(folder / "guard.yaml"), "--tokenizer", str(folder / "model")]
    options += ["--out", str(out), "--tolerance", "0.1", "--retries", "0", "--estimator", "marginal"]
    bad = 1 if Shard(1, 2).holds("r2") else 2
    codes = {number: main([str(records), *options, "--shard", f"{number}/2"]) for number in (1, 2)}
    assert codes == {bad: 1, 3 - bad: 0}
    capsys.readouterr()
    assert main(["merge", str(records), "--out", str(out)]) == 1
    assert f"score these shards again, then merge: --shard {bad}/2\n" in capsys.readouterr().err

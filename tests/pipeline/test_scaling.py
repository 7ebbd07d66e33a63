"""score spread over shards inside a run, and the engine's settings."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest

from marginalia.pipeline.commands.stage_commands import score as score_command
from marginalia.pipeline.core.run import Run, open_run
from marginalia.pipeline.core.stage_runner import config_hash, run_stage, staleness
from marginalia.pipeline.evaluation.score_stage import MERGE, STAGE, score_shard, with_engine_options
from marginalia.schemas.errors import InputError
from marginalia.schemas.storage.files import write_frame
from marginalia.schemas.tables import GoldRecord
from marginalia.scoring.engines.shards import Shard
from tests.scoring.tiny import save

CONFIG = """taxonomy: support-tickets
score:
  guards: [{name: tiny, guard: instruct, model: MODEL}]
  estimators: [marginal, joint]
  tolerance: 0.05
  node_budget: 20
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    folder = tmp_path / "run"
    folder.mkdir()
    model = save(tmp_path / "model", 4, sharpness=3.0)
    (folder / "config.yaml").write_text(CONFIG.replace("MODEL", str(model)))
    gold = {"status": "final", "labels": [], "soft_labels": [], "votes": [], "n_annotators": 1, "agreement": None}
    gold |= {"method": "majority", "adjudicated": False, "split": "test"}
    rows = [{"id": f"r{n}", "messages": [{"role": "user", "content": f"Where is it {n}?"}], **gold} for n in range(7)]
    write_frame(folder / "gold.parquet", GoldRecord.frame(rows), GoldRecord)
    return open_run(folder)


def score(folder: Path) -> None:
    assert score_command(folder) == 0


def test_shards_of_a_run_merge_into_the_stage(run: Run) -> None:
    run_stage(STAGE, run)
    whole = pl.read_parquet(run.path("scores/tiny.parquet"))
    run.path("scores/tiny.parquet").unlink()
    with pytest.raises(InputError, match=r"contains no shards .*marginalia score --run .* --shard 1/4"):
        run_stage(MERGE, run)
    assert [score_shard(run, Shard(number, 2))[0].endswith("0 failed") for number in (1, 2)] == [True, True]
    done = run_stage(MERGE, run)
    assert done.manifest.counts_out == {"scored by tiny": 7, "failed with tiny": 0}
    assert done.manifest.facts["tiny"]["shards"] == 2
    merged = pl.read_parquet(run.path("scores/tiny.parquet"))
    assert merged.drop("probability", "lower", "upper").equals(whole.drop("probability", "lower", "upper"))
    assert (merged["probability"] - whole["probability"]).abs().max() <= 1e-4
    assert staleness(STAGE, run) is None


def test_the_command_says_how_much_is_outside_the_format(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Also when it is asked again and has nothing to do. A random model never keeps to the format."""
    for _ in range(2):
        score(run.folder)
        summary, first, *others = capsys.readouterr().out.rstrip("\n").split("\n")
        assert summary.startswith("score: ")
        assert_off_format(first, others)


def test_a_shard_says_how_much_is_outside_the_format(run: Run) -> None:
    summary, *lines = score_shard(run, Shard(1, 1))
    first, *others = "\n".join(lines).split("\n")
    assert re.match(r"score --shard 1/1: 7 scored by tiny, 0 failed", summary)
    assert_off_format(first, others)


def assert_off_format(first: str, others: list[str]) -> None:
    assert re.match(
        r"  warning: tiny: on average \d+\.\d% of the probability is on answers outside the guard's format", first
    )
    assert others
    assert all(re.match(r"      \d+ × '", line) for line in others)


def test_where_it_runs_does_not_make_the_stage_stale(run: Run) -> None:
    elsewhere = with_engine_options(run, "ray", {"address": "head:6379", "actors": 8, "cpus": None, "gpus": None})
    assert (elsewhere.config.score.engine, elsewhere.config.score.ray.actors) == ("ray", 8)
    assert config_hash(STAGE, elsewhere) == config_hash(STAGE, run)


@pytest.mark.parametrize(
    ("engine", "actors", "option"), [("spark", None, "--engine: Input should be"), (None, 0, "--actors: Input should")]
)
def test_wrong_options_are_named(run: Run, engine: str | None, actors: int | None, option: str) -> None:
    with pytest.raises(InputError, match=option):
        with_engine_options(run, engine, {"actors": actors})

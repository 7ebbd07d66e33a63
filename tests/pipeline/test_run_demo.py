"""The whole line on real parts, small: a real LLM endpoint, a real Argilla, a real model, every stage, twice."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import polars as pl
import pytest
import yaml

from marginalia.pipeline.core.stage_order import STAGES
from marginalia.pipeline.demo import run_demo
from marginalia.schemas.errors import InputError
from marginalia.schemas.storage.files import read_frame
from marginalia.schemas.tables import (
    Answer,
    GoldRecord,
    LabelScore,
    PlannedSlot,
    PromptRecord,
    RejectedAttempt,
    ScoredRecord,
)

pytestmark = pytest.mark.slow
STAGES_RUN = sorted(set(STAGES) - {"import", "adjudicate", "audit"})


TABLES = {
    "plan.parquet": PlannedSlot,
    "prompts.parquet": PromptRecord,
    "rejected.parquet": RejectedAttempt,
    "annotations.parquet": Answer,
    "gold.parquet": GoldRecord,
}


@pytest.mark.parametrize("name", TABLES)
def test_every_table_is_as_promised(demo_run: Path, name: str) -> None:
    frame = read_frame(demo_run / name, TABLES[name], made_by="test")
    assert frame.height or name == "rejected.parquet"


def test_the_numbers_add_up(demo_run: Path) -> None:
    counts = {
        stage: json.loads((demo_run / f"manifests/{stage}.json").read_text())["counts_out"] for stage in STAGES_RUN
    }
    assert counts["plan"]["planned"] == 8
    assert counts["generate"]["accepted"] + counts["generate"]["open"] == 8
    records = counts["generate"]["accepted"] + 24
    prompts = pl.read_parquet(demo_run / "prompts.parquet")
    assert counts["generate"]["included"] == 24 and prompts.height == records
    assert counts["push"]["sent"] == records
    answers = pl.read_parquet(demo_run / "annotations.parquet").filter(pl.col("round") == "annotate")
    assert answers.height == 3 * records
    gold = pl.read_parquet(demo_run / "gold.parquet")
    assert sorted(gold["id"]) == sorted(prompts["id"])
    assert counts["score"] == {next(iter(counts["score"])): records, list(counts["score"])[1]: 0}


def test_every_gold_record_has_every_estimator_and_label(demo_run: Path) -> None:
    (guard,) = yaml.safe_load((demo_run / "config.yaml").read_text())["score"]["guards"]
    scores = read_frame(demo_run / f"scores/{guard['name']}.parquet", LabelScore, made_by="test")
    records = read_frame(demo_run / f"scores/{guard['name']}.records.parquet", ScoredRecord, made_by="test")
    gold = pl.read_parquet(demo_run / "gold.parquet")
    assert sorted(records["record_id"]) == sorted(gold["id"])
    per_record = scores.group_by("record_id", "estimator").len()
    assert set(per_record["len"]) == {13}
    assert {"marginal", "conditional", "joint"} <= set(scores["estimator"])
    within = scores.filter((pl.col("lower") <= pl.col("probability")) & (pl.col("probability") <= pl.col("upper")))
    assert within.height == scores.height


def test_everything_says_simulated(demo_run: Path) -> None:
    assert "SIMULATED" in (demo_run / "report.html").read_text()
    assert "simulated" in (demo_run / "release/README.md").read_text().lower()
    assert json.loads((demo_run / "evaluation.json").read_text())["simulated"] is True


def test_annotators_are_pseudonyms_outside_the_key(demo_run: Path) -> None:
    assert set(pl.read_parquet(demo_run / "annotations.parquet")["annotator"]) <= {"A01", "A02", "A03", "A04"}
    released = b"".join(path.read_bytes() for path in (demo_run / "release").rglob("*") if path.is_file())
    assert not [name for name in (b"chris", b"dora") if name in released]
    assert (demo_run / "annotators.key.json").stat().st_mode & 0o777 == 0o600


def test_the_release_loads(demo_run: Path, tmp_path: Path) -> None:
    loaded = datasets.load_dataset(str(demo_run / "release"), "gold", cache_dir=str(tmp_path))
    assert (
        sum(split.num_rows for split in loaded.values())
        == pl.read_parquet(demo_run / "gold.parquet").filter(pl.col("status") == "final").height
    )


def test_a_second_run_does_nothing_and_says_so(demo_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    untouched = {path for path in demo_run.rglob("*") if path.is_file() and path.name not in (".lock", "log.jsonl")}
    before = {path: path.stat().st_mtime_ns for path in untouched}
    run_demo.run_demo(fresh=False, root=demo_run.parent)
    out = capsys.readouterr().out
    assert "nothing to do: every stage is up to date" in out
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_folder_of_somebody_else_is_not_taken_for_the_demo(tmp_path: Path) -> None:
    other = tmp_path / "demo"
    other.mkdir()
    (other / "config.yaml").write_text("taxonomy: support-tickets\n")
    with pytest.raises(InputError, match="is not a demo"):
        run_demo.run_demo(fresh=True, root=tmp_path)
    assert (other / "config.yaml").exists()

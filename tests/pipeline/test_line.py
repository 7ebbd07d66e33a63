"""The whole line on real parts, small: a real LLM endpoint, a real Argilla, a real model, every stage, twice."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import polars as pl
import pytest
import yaml

from pipeline.demo import line
from pipeline.line import STAGES
from schemas.artifacts import Answer, GoldRecord, LabelScore, PlannedSlot, PromptRecord, RejectedAttempt, ScoredRecord
from schemas.errors import InputError
from schemas.files import read_frame

pytestmark = pytest.mark.slow
STAGES_RUN = sorted(set(STAGES) - {"import", "adjudicate"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo run with 8 written and 24 included records."""
    root = tmp_path_factory.mktemp("line")
    config = yaml.safe_load(line.CONFIG.read_text())
    config["plan"] |= {"records": 8, "min_per_label": 0}
    config["score"] |= {"node_budget": 40}
    config["reconcile"] = {"bootstrap": 100}
    config["evaluate"] = {**config.get("evaluate", {}), "resamples": 200}
    small = root / "config.yaml"
    small.write_text(yaml.safe_dump(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line, "CONFIG", small)
        few = line.held_out_examples()[:24]
        patch.setattr(line, "held_out_examples", lambda: few)
        line.run_demo(fresh=False, root=root / "runs")
    return root / "runs" / "demo"


TABLES = {
    "plan.parquet": PlannedSlot,
    "prompts.parquet": PromptRecord,
    "rejected.parquet": RejectedAttempt,
    "annotations.parquet": Answer,
    "gold.parquet": GoldRecord,
}


@pytest.mark.parametrize("name", TABLES)
def test_every_table_is_as_promised(folder: Path, name: str) -> None:
    frame = read_frame(folder / name, TABLES[name], made_by="test")
    assert frame.height or name == "rejected.parquet"


def test_the_numbers_add_up(folder: Path) -> None:
    counts = {stage: json.loads((folder / f"manifests/{stage}.json").read_text())["counts_out"] for stage in STAGES_RUN}
    assert counts["plan"]["planned"] == 8
    assert counts["generate"]["accepted"] + counts["generate"]["open"] == 8
    records = counts["generate"]["accepted"] + 24
    prompts = pl.read_parquet(folder / "prompts.parquet")
    assert counts["generate"]["included"] == 24 and prompts.height == records
    assert counts["push"]["sent"] == records
    answers = pl.read_parquet(folder / "annotations.parquet").filter(pl.col("round") == "annotate")
    assert answers.height == 3 * records
    gold = pl.read_parquet(folder / "gold.parquet")
    assert sorted(gold["id"]) == sorted(prompts["id"])
    assert counts["score"] == {next(iter(counts["score"])): records, list(counts["score"])[1]: 0}


def test_every_gold_record_has_every_estimator_and_label(folder: Path) -> None:
    (guard,) = yaml.safe_load((folder / "config.yaml").read_text())["score"]["guards"]
    scores = read_frame(folder / f"scores/{guard['name']}.parquet", LabelScore, made_by="test")
    records = read_frame(folder / f"scores/{guard['name']}.records.parquet", ScoredRecord, made_by="test")
    gold = pl.read_parquet(folder / "gold.parquet")
    assert sorted(records["record_id"]) == sorted(gold["id"])
    per_record = scores.group_by("record_id", "estimator").len()
    assert set(per_record["len"]) == {13}
    assert {"marginal", "conditional", "joint"} <= set(scores["estimator"])
    within = scores.filter((pl.col("lower") <= pl.col("probability")) & (pl.col("probability") <= pl.col("upper")))
    assert within.height == scores.height


def test_everything_says_simulated(folder: Path) -> None:
    assert "SIMULATED" in (folder / "report.html").read_text()
    assert "simulated" in (folder / "release/README.md").read_text().lower()
    assert json.loads((folder / "evaluation.json").read_text())["simulated"] is True


def test_annotators_are_pseudonyms_outside_the_key(folder: Path) -> None:
    assert set(pl.read_parquet(folder / "annotations.parquet")["annotator"]) <= {"A01", "A02", "A03", "A04"}
    released = b"".join(path.read_bytes() for path in (folder / "release").rglob("*") if path.is_file())
    assert not [name for name in (b"chris", b"dora") if name in released]
    assert (folder / "annotators.key.json").stat().st_mode & 0o777 == 0o600


def test_the_release_loads(folder: Path, tmp_path: Path) -> None:
    loaded = datasets.load_dataset(str(folder / "release"), "gold", cache_dir=str(tmp_path))
    assert (
        sum(split.num_rows for split in loaded.values())
        == pl.read_parquet(folder / "gold.parquet").filter(pl.col("status") == "final").height
    )


def test_a_second_run_does_nothing_and_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    line.run_demo(fresh=False, root=folder.parent)
    out = capsys.readouterr().out
    assert "nothing to do: every stage is up to date" in out
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_folder_of_somebody_else_is_not_taken_for_the_demo(tmp_path: Path) -> None:
    other = tmp_path / "demo"
    other.mkdir()
    (other / "config.yaml").write_text("taxonomy: support-tickets\n")
    with pytest.raises(InputError, match="is not a demo"):
        line.run_demo(fresh=True, root=tmp_path)
    assert (other / "config.yaml").exists()

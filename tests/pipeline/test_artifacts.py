"""The table of a run's files: one entry for each, one reader of scores, and no file that nothing accounts for."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from marginalia.pipeline.core.artifacts import (
    ARTIFACTS,
    CALIBRATION,
    GOLD,
    PROMPTS,
    SCORED_RECORDS,
    SCORES,
    Document,
    Table,
    artifact_of,
    artifacts_of,
)
from marginalia.pipeline.core.checked_tables import outside_bounds
from marginalia.pipeline.core.run import Run, open_run
from marginalia.pipeline.core.stage_order import STAGES, load_stage, stages_before
from marginalia.pipeline.verification.check_results import Verification
from marginalia.pipeline.verification.counts_from_gold import check_scores
from marginalia.pipeline.verification.manifest_hashes import check_manifests
from marginalia.pipeline.verification.run_contents import Contents
from marginalia.schemas.calibration_json import CalibrationFile
from marginalia.schemas.errors import ArtifactError
from marginalia.schemas.json_schemas import MODELS
from marginalia.schemas.tables import LabelScore, ScoredRecord

CONFIG = """taxonomy: support-tickets
score: {guards: [{name: g, guard: bundled-guard, model: bundled-guard}]}
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "config.yaml").write_text(CONFIG)
    return open_run(tmp_path)


def test_every_file_has_one_entry_and_a_stage() -> None:
    names = [entry.name for entry in ARTIFACTS]
    assert len(set(names)) == len(names)
    for entry in ARTIFACTS:
        assert artifact_of(entry.of("tickets").name) is entry
        assert entry.stage in STAGES
    assert artifact_of("config.yaml") is None


def test_every_json_schema_is_that_of_a_file() -> None:
    schemas = {entry.schema for entry in ARTIFACTS if isinstance(entry, Table | Document) and not entry.private}
    assert schemas == {f"{name}.schema.json" for name in MODELS if name not in ("taxonomy", "manifest", "profile")}


def test_every_stage_of_the_table_loads_under_its_name(run: Run) -> None:
    assert [load_stage(name).name for name in STAGES] == list(STAGES)
    assert "score" in stages_before("evaluate") and "evaluate" not in stages_before("evaluate")


def test_a_stage_writes_only_files_of_the_table(run: Run) -> None:
    for name in STAGES:
        for output in load_stage(name).outputs(run):
            known = artifact_of(output)
            assert known is not None and (known.stage == name or known.imported), output


def test_one_entry_for_each_guard(run: Run) -> None:
    names = {entry.name for entry in artifacts_of(run)}
    assert {"scores/g.parquet", "scores/g.records.parquet", "scores/g.journal.jsonl"} <= names


def test_the_command_that_makes_a_file(run: Run) -> None:
    assert (PROMPTS.maker(run), GOLD.maker(run)) == ("generate", "reconcile")
    (run.folder / "import.yaml").touch()
    assert (PROMPTS.maker(run), GOLD.maker(run)) == ("import", "import")
    (run.folder / "manifests").mkdir()
    (run.folder / "manifests/reconcile.json").touch()  # imported records that people labelled
    assert (PROMPTS.maker(run), GOLD.maker(run)) == ("import", "reconcile")
    with pytest.raises(
        ArtifactError, match=rf"prompts\.parquet: no such file \(run marginalia import --run {run.folder}"
    ):
        PROMPTS.read(run)


def test_a_file_that_no_manifest_names_is_stray(run: Run) -> None:
    """calibration.json too, which was forgotten in a list of its own."""
    CALIBRATION.write(run, CalibrationFile(calibrations=[]))
    (run.folder / "scores").mkdir()
    (run.folder / "scores/removed.parquet").touch()
    (run.folder / "annotators.key.json").touch()  # no manifest lists private files and journals
    (run.folder / "responses.jsonl").touch()
    checks = Verification(str(run.folder))
    check_manifests(run, checks)
    failures = [(check.stage, check.problem, check.fix) for check in checks.failed if check.subject == "manifest"]
    assert failures == [
        ("score", "no manifest lists scores/removed.parquet", f"rm {run.folder / 'scores/removed.parquet'}"),
        ("evaluate", "no manifest lists calibration.json", run.command("evaluate")),
    ]


def score(lower: float) -> pl.DataFrame:
    row = {"record_id": "r", "estimator": "marginal", "label": "unsafe", "probability": 0.1, "upper": 0.2}
    return pl.DataFrame([{**row, "lower": lower}], schema=LabelScore.polars_schema())


@pytest.mark.parametrize(("lower", "accepted"), [(0.0, True), (-1e-12, True), (-1e-6, False)])
def test_readers_and_verify_agree_on_rounding(run: Run, lower: float, accepted: bool) -> None:
    """Evaluate, release, compare and audit use this reader; verify uses the same rule."""
    scores = score(lower)
    SCORES.of("g").write(run, scores)
    if accepted:
        assert SCORES.of("g").read(run).equals(scores)
    else:
        with pytest.raises(ArtifactError, match="expected 0 ≤ lower ≤ probability"):
            SCORES.of("g").read(run)
    assert outside_bounds(scores).is_empty() == accepted
    checks = Verification(str(run.folder))
    check_scores(_contents(run, scores), checks)
    assert [check.ok for check in checks.checks if check.subject == "counts"] == [accepted]


def test_verify_names_an_unknown_label_of_scores(run: Run) -> None:
    checks = Verification(str(run.folder))
    check_scores(_contents(run, score(0.0).with_columns(label=pl.lit("rudeness"))), checks)
    assert [check.problem for check in checks.failed] == ["unknown label 'rudeness'"]


def _contents(run: Run, scores: pl.DataFrame) -> Contents:
    entry = {"record_id": "r", "nodes": 1, "forward_passes": 1, "seconds": 0.1}
    records = pl.DataFrame([entry], schema_overrides=ScoredRecord.polars_schema())
    for name in ScoredRecord.polars_schema():
        if name not in records.columns:
            records = records.with_columns(pl.lit(None).alias(name))
    gold = pl.DataFrame({"id": ["r"]})
    tables = {GOLD.name: gold, SCORES.of("g").name: scores, SCORED_RECORDS.of("g").name: records}
    return Contents(run, {}, tables)

"""The evaluate and report stages on a run folder."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from marginalia.pipeline.core.run import Run, open_run
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.core.stage_summary import describe
from marginalia.pipeline.evaluation.evaluate_stage import STAGE as EVALUATE
from marginalia.pipeline.release.release_stage import STAGE as RELEASE
from marginalia.pipeline.report.report_stage import STAGE as REPORT
from marginalia.pipeline.verification.verify import verify
from marginalia.schemas.calibration_json import CalibrationFile
from marginalia.schemas.errors import ArtifactError
from marginalia.schemas.evaluation_json import Evaluation
from marginalia.schemas.storage.files import read_model
from marginalia.schemas.thresholds_json import ThresholdsFile
from tests.pipeline.synthetic_run import Synthetic, write_run

CONFIG = """\
taxonomy: support-tickets
simulated: {simulated}
score:
  guards:
    - {{name: smollm2, guard: instruct, model: bundled}}
evaluate:
  resamples: 100
"""


def make_run(folder: Path, *, whole: bool) -> Run:
    write_run(folder, Synthetic(n=40), whole=whole, simulated=whole)
    (folder / "config.yaml").write_text(CONFIG.format(simulated=str(whole).lower()), encoding="utf-8")
    return open_run(folder)


def test_a_whole_run_is_evaluated_and_reported_once(tmp_path: Path) -> None:
    run = make_run(tmp_path, whole=True)
    for stage in (EVALUATE, REPORT):
        assert run_stage(stage, run).status == "ran"
        assert run_stage(stage, run).status == "up to date"
    evaluation = read_model(run.path("evaluation.json"), Evaluation, made_by="evaluate")
    assert evaluation.simulated
    assert read_model(run.path("thresholds.json"), ThresholdsFile, made_by="evaluate").guards.keys() == {"smollm2"}
    names = [
        fitted.estimator
        for fitted in read_model(run.path("calibration.json"), CalibrationFile, made_by="x").calibrations
    ]
    assert names[0] == evaluation.guards[0].recommended
    assert "SIMULATED ANNOTATORS" in run.path("report.html").read_text(encoding="utf-8")


def test_an_imported_run_needs_gold_and_scores_only(tmp_path: Path) -> None:
    run = make_run(tmp_path, whole=False)
    run_stage(EVALUATE, run)
    run_stage(REPORT, run)
    assert "SIMULATED" not in run.path("report.html").read_text(encoding="utf-8")


def test_gold_of_an_older_version_with_texts_in_several_splits_is_reported(tmp_path: Path) -> None:
    """Nine texts in 36 records, in several splits: the gold is still read, with warnings about these texts."""
    texts = ["one", "two", "three", *(f"text {number}" for number in range(6))]
    write_run(tmp_path, Synthetic(n=36, texts=texts), whole=False, simulated=False)
    (tmp_path / "config.yaml").write_text(CONFIG.format(simulated="false"), encoding="utf-8")
    run = open_run(tmp_path)
    outcome = run_stage(EVALUATE, run)
    equal = read_model(run.path("evaluation.json"), Evaluation, made_by="evaluate").gold.equal_texts
    gold = pl.read_parquet(run.path("gold.parquet")).with_columns(text=pl.col("messages").list[0].struct["content"])
    splits = gold.group_by("text").agg(pl.col("split").n_unique())["split"]
    label_sets = gold.drop_nulls("labels").group_by("text").agg(pl.col("labels").list.sort().unique())["labels"]
    assert equal is not None
    assert (equal.texts, equal.records) == (9, 36)
    assert equal.across_splits == (splits > 1).sum() > 0
    assert equal.conflicting == (label_sets.list.len() > 1).sum() > 0
    assert outcome.manifest.warnings == equal.warnings != []
    assert f"{equal.across_splits} texts are in more than one split" in describe(outcome)
    run_stage(REPORT, run)
    page = " ".join(run.path("report.html").read_text(encoding="utf-8").split())
    assert "36 records share 9 texts" in page
    assert f"{equal.across_splits} texts are in more than one split" in page
    run_stage(RELEASE, run)
    card = (run.path("release") / "README.md").read_text(encoding="utf-8")
    assert f"{equal.across_splits} in more than one split" in " ".join(card.split())
    problem = next(
        check.problem for check in verify(run).failed if (check.stage, check.subject) == ("reconcile", "counts")
    )
    assert f"{equal.across_splits} texts are in more than one split" in str(problem)


def test_missing_scores_name_the_command_that_makes_them(tmp_path: Path) -> None:
    run = make_run(tmp_path, whole=False)
    run.path("scores/smollm2.parquet").unlink()
    with pytest.raises(ArtifactError, match=r"smollm2.parquet: no such file"):
        run_stage(EVALUATE, run)


def test_the_same_run_gives_the_same_files(tmp_path: Path) -> None:
    texts = []
    for name in ("one", "two"):
        run = make_run(tmp_path / name, whole=False)
        run_stage(EVALUATE, run)
        texts.append(run.path("evaluation.json").read_bytes())
    assert texts[0] == texts[1]

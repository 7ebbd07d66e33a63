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
from marginalia.schemas.storage.files import read_model, write_frame
from marginalia.schemas.tables import GoldRecord
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


def test_cells_without_a_judgement_are_counted_in_one_line(tmp_path: Path) -> None:
    run = make_run(tmp_path, whole=False)
    gold = pl.read_parquet(run.path("gold.parquet"))
    complete = run_stage(EVALUATE, run)
    assert complete.manifest.warnings == []
    masks = [
        ["refund", "return"] if number % 4 == 0 and not labels else None
        for number, labels in enumerate(gold["labels"].to_list())
    ]
    partly = [mask for mask, status in zip(masks, gold["status"], strict=True) if mask and status == "final"]
    write_frame(
        run.path("gold.parquet"), gold.with_columns(judged=pl.Series(masks, dtype=pl.List(pl.String))), GoldRecord
    )
    outcome = run_stage(EVALUATE, run)
    assert len(partly) > 1
    assert outcome.manifest.warnings == [
        f"{len(partly)} of 37 records are partly judged: {10 * len(partly)} of 444 cells (record × label) are left out"
        f"; for {len(partly)} records it is not known whether any label applies"
    ]
    assert describe(outcome).count("partly judged") == 1


def test_few_records_are_reported_with_their_numbers(tmp_path: Path) -> None:
    write_run(tmp_path, Synthetic(n=12, skill=0.6, unresolved=0, failed=0), whole=False, simulated=False)
    (tmp_path / "config.yaml").write_text(CONFIG.format(simulated="false"), encoding="utf-8")
    outcome = run_stage(EVALUATE, open_run(tmp_path))
    best = read_model(tmp_path / "evaluation.json", Evaluation, made_by="evaluate").guards[0].estimators[0]
    f1, auc = best.metrics["micro_f1"], best.metrics["macro_roc_auc"].value
    assert best.estimator == "marginal"
    assert f1.low is not None
    assert f1.high is not None
    assert outcome.manifest.warnings == [
        "guard smollm2 was evaluated on only 12 records, so its numbers are imprecise: macro ROC AUC "
        f"{auc:.2f} without an interval (too few records with and without each label for an interval); micro F1 "
        f"{f1.value:.2f} (95% interval {f1.low:.2f} to {f1.high:.2f}); 12 of 12 labels have fewer than 5 positives or "
        "negatives, so no interval"
    ]


def test_gold_without_a_final_record_gives_one_message(tmp_path: Path) -> None:
    """The scores are there, of records that have lost their labels since."""
    frames = write_run(tmp_path, Synthetic(n=12, unresolved=0, failed=0), whole=False, simulated=False)
    open_again = frames.gold.with_columns(status=pl.lit("needs_answers"), labels=pl.lit(None, pl.List(pl.String)))
    write_frame(tmp_path / "gold.parquet", open_again, GoldRecord)
    (tmp_path / "config.yaml").write_text(CONFIG.format(simulated="false"), encoding="utf-8")
    run = open_run(tmp_path)
    missing = run_stage(EVALUATE, run).manifest.missing
    assert [item.what for item in missing] == [
        "nothing is evaluated: none of the 12 gold records is final (12 needs_answers)"
    ]
    assert missing[0].how == run.command("status")


def test_gold_without_scores_is_one_message_for_each_guard(tmp_path: Path) -> None:
    run = make_run(tmp_path, whole=False)
    gold = pl.read_parquet(run.path("gold.parquet")).with_columns(id=pl.concat_str(pl.lit("other"), "id"))
    write_frame(run.path("gold.parquet"), gold, GoldRecord)
    missing = run_stage(EVALUATE, run).manifest.missing
    assert [item.what for item in missing] == ["37 of 37 final records are not judged for smollm2 (37 not scored)"]

"""A run folder of version 0.1 can still be used: nothing in it counts as damaged, and each offline stage runs on it."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest

from marginalia.pipeline.core.run import Run, open_run
from marginalia.pipeline.core.stage_order import load_stage
from marginalia.pipeline.core.stage_runner import run_stage, staleness
from marginalia.pipeline.evaluation.score_stage import _request
from marginalia.pipeline.verification.verify import verify
from marginalia.schemas.storage.files import read_frame
from marginalia.schemas.tables import GoldRecord
from marginalia.scoring.score_files import latest_keys, record_key, scorer_fingerprint
from marginalia.scoring.scorer import Scorer

ARCHIVE = Path(__file__).parent / "old_runs/version-0.1.tar.gz"
RECORDS, FINAL = 54, 54


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder / "demo"


@pytest.fixture
def run(unpacked: Path, tmp_path: Path) -> Run:
    return open_run(Path(shutil.copytree(unpacked, tmp_path / "demo")))


def test_verify_passes_except_for_stages_whose_config_has_new_keys(run: Run) -> None:
    """These stages would give other numbers now (intervals, ranges, tests), so they must run again."""
    failed = verify(run).failed
    assert [(check.stage, check.subject) for check in failed] == [
        (name, "config") for name in ("reconcile", "evaluate", "report")
    ]
    assert [check.fix for check in failed] == [run.command(check.stage) for check in failed]


@pytest.mark.parametrize("name", ["plan", "reconcile", "evaluate", "report", "release"])
def test_a_stage_that_ran_in_that_version_runs_now(name: str, run: Run) -> None:
    counts = run_stage(load_stage(name), run, force=True).manifest.counts_out
    assert staleness(load_stage(name), run) is None
    assert counts


def test_no_record_is_lost_from_its_answers_to_a_release(run: Run) -> None:
    before = read_frame(run.path("gold.parquet"), GoldRecord, made_by="reconcile")
    for name in ("reconcile", "evaluate", "report", "release"):
        run_stage(load_stage(name), run, force=True)
    after = read_frame(run.path("gold.parquet"), GoldRecord, made_by="reconcile")
    assert after.height == RECORDS
    assert after["labels"].drop_nulls().len() == FINAL
    assert after.select("id", "labels", "status").equals(before.select("id", "labels", "status"))
    assert [(check.stage, check.subject, check.problem) for check in verify(run).failed if check.stage != "score"] == []


def test_its_scores_are_current_and_its_journal_can_be_continued(run: Run) -> None:
    assert staleness(load_stage("score"), run) is None
    (guard,) = run.config.score.guards
    fingerprint = scorer_fingerprint(Scorer.from_request(_request(run, guard)))
    gold = read_frame(run.path("gold.parquet"), GoldRecord, made_by="reconcile")
    expected = {row["id"]: record_key(fingerprint, row["messages"]) for row in gold.iter_rows(named=True)}
    assert latest_keys(run.path("scores/tickets.journal.jsonl")) == expected

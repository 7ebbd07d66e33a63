"""Commands that end with something missing: what it is, how to go on, exit code 1, and the same when called again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from marginalia.pipeline.commands.cli import app
from marginalia.pipeline.core.run import open_run
from marginalia.pipeline.core.run_overview import overview
from marginalia.pipeline.core.stage_order import load_stage
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.schemas.manifest_json import Manifest, Missing
from marginalia.schemas.storage.files import write_frame, write_json
from marginalia.schemas.tables import Answer
from tests.annotation.answers import answers
from tests.pipeline.evaluation.test_stages import make_run


def call(command: str, folder: Path, *more: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, [command, "--run", str(folder), *more])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, re.sub(r"(?m)^next: .*\n", "", done.stderr)


def test_evaluate_says_which_records_it_could_not_judge(tmp_path: Path) -> None:
    make_run(tmp_path, whole=True)
    for _ in range(2):
        assert call("evaluate", tmp_path) == (
            1,
            "incomplete: 1 of 37 final records are not judged for smollm2 (1 scoring failed)\n"
            f"  to continue: marginalia score --run {tmp_path}, then: marginalia evaluate --run {tmp_path}\n",
        )
    assert call("report", tmp_path) == (0, "")


def test_audit_says_which_records_it_could_not_look_at(tmp_path: Path) -> None:
    make_run(tmp_path, whole=True)
    code, stderr = call("audit", tmp_path)
    assert code == 1
    assert stderr.startswith("incomplete: 1 of 37 final records has no score by smollm2 and could not be audited\n")


def test_a_stage_that_did_all_its_work_is_complete_whatever_is_left_to_other_people(tmp_path: Path) -> None:
    """Open records are counted and `status` names the next command; a make of several stages goes on."""
    run = make_run(tmp_path, whole=True)
    given = {"r00000": {"A01": ["refund"], "A02": []}, "r00001": {"A01": []}, "r00002": {"A01": [], "A02": []}}
    write_frame(run.path("annotations.parquet"), answers(given), Answer)
    run.path("manifests/pull.json").unlink()
    assert call("reconcile", tmp_path, "--force") == (0, "")


@pytest.mark.parametrize(("retry", "blocks"), [(True, True), (True, False), (False, True), (False, False)])
def test_a_missing_item_is_retried_and_blocks_as_it_says(tmp_path: Path, retry: bool, blocks: bool) -> None:
    (tmp_path / "config.yaml").write_text("taxonomy: support-tickets\n")
    run, plan = open_run(tmp_path), load_stage("plan")
    manifest = run_stage(plan, run).manifest
    how = f"marginalia plan --run {tmp_path} --force"
    missing = Missing(what="half of it", how=how, retry=retry, blocks=blocks)
    changed = manifest.model_copy(update={"missing": [missing]})
    write_json(tmp_path / "manifests/plan.json", changed.model_dump(mode="json"))
    progress = overview(run)
    assert (progress.stages[0].state, progress.stages[0].why) == (
        "incomplete" if blocks else "up to date",
        "half of it",
    )
    assert progress.next == (how if blocks else f"marginalia generate --run {tmp_path}")
    assert call("plan", tmp_path) == ((0, "") if retry else (1, f"incomplete: half of it\n  to continue: {how}\n"))


def test_a_manifest_of_an_older_version_is_read() -> None:
    manifest = {"stage": "plan", "inputs": {}, "outputs": {}, "config_sha256": "", "counts_in": {}, "counts_out": {}}
    more = {"seconds": 0, "versions": {}, "finished_at": "2026-01-01T00:00:00Z"}
    assert Manifest.model_validate({**manifest, **more}).missing == []
    old = Manifest.model_validate({**manifest, **more, "facts": {"method": "majority", "warnings": ["two are equal"]}})
    assert (old.facts, old.warnings) == ({"method": "majority"}, ["two are equal"])

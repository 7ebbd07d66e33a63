"""`marginalia status`: how far the run is, what is stale and why, and the next command."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from marginalia.pipeline.annotating.annotation_status import annotation
from marginalia.pipeline.core.artifacts import ANSWERS, PUSHED
from marginalia.pipeline.core.run import open_run
from marginalia.pipeline.core.run_log import log_event
from marginalia.pipeline.core.run_overview import Overview, StageState, next_after, next_command, overview
from marginalia.pipeline.core.stage_order import load_stage
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.core.stage_summary import counted
from marginalia.schemas.push_json import Pushed
from marginalia.schemas.storage.run_lock import lock_holder, run_lock
from marginalia.schemas.tables import Answer
from tests.pipeline.test_cli import marginalia
from tests.scoring.tiny import save

CONFIG = "taxonomy: support-tickets\nplan: {records: 12, min_per_label: 0}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text(CONFIG)
    return tmp_path


def states(progress: Overview) -> dict[str, tuple[str, str | None]]:
    return {stage.stage: (stage.state, stage.why) for stage in progress.stages}


def test_a_new_run_begins_with_the_plan(folder: Path) -> None:
    progress = overview(open_run(folder))
    assert progress.next == f"marginalia plan --run {folder}"
    assert states(progress)["plan"] == ("not run", None)
    assert states(progress)["generate"] == ("not run", "plan.parquet does not exist yet")
    assert "import" not in states(progress)
    assert not (folder / ".lock").exists()


def test_a_changed_config_makes_its_stage_and_all_after_it_stale(folder: Path) -> None:
    run_stage(load_stage("plan"), open_run(folder))
    progress = overview(open_run(folder))
    assert (states(progress)["plan"], progress.next) == (("up to date", None), f"marginalia generate --run {folder}")
    assert progress.stages[0].age_seconds is not None and progress.stages[0].counts["planned"] == 12
    (folder / "config.yaml").write_text(CONFIG.replace("12", "13"))
    progress = overview(open_run(folder))
    assert states(progress)["plan"] == ("stale", "config changed (plan, seed, taxonomy or simulated)")
    assert progress.next == f"marginalia plan --run {folder}"


def test_a_complete_stage_prints_the_next_command(folder: Path) -> None:
    for _ in range(2):  # also when nothing has changed
        done = marginalia("plan", "--run", str(folder))
        assert done.stderr == f"next: marginalia generate --run {folder}\n"
    assert "next:" not in done.stdout


def test_the_usual_order_of_stages(folder: Path) -> None:
    run = open_run(folder)
    assert next_after(run, "push") == f"marginalia pull --run {folder}"
    assert next_after(run, "reconcile") == f"marginalia score --run {folder}"  # no record waits for an expert
    assert next_after(run, "release") == f"marginalia publish --run {folder}"
    assert next_after(run, "publish") is None


def test_the_next_command_replaces_a_damaged_manifest(folder: Path) -> None:
    run_stage(load_stage("plan"), open_run(folder))
    manifest = folder / "manifests/plan.json"
    manifest.write_text("{")
    progress = overview(open_run(folder))
    assert progress.next == f"marginalia plan --run {folder} --force"
    assert "not JSON" in (states(progress)["plan"][1] or "")
    done = marginalia(*progress.next.split()[1:])
    assert done.returncode == 0, done.stderr
    assert overview(open_run(folder)).next == f"marginalia generate --run {folder}"


def test_a_killed_stage_is_shown_as_broken_off(folder: Path) -> None:
    run = open_run(folder)
    run_stage(load_stage("plan"), run)
    log_event(run, "generate", "started", why="not run yet")
    assert states(overview(run))["generate"] == (
        "broken off",
        "the last call was interrupted; run the same command to continue",
    )


def test_a_stage_at_work_is_shown_as_running(folder: Path) -> None:
    run = open_run(folder)
    assert lock_holder(folder) is None
    with run_lock(folder, "marginalia plan"):
        log_event(run, "plan", "started")
        progress = overview(run)
        assert progress.working is not None and progress.working.startswith(
            f"process {os.getpid()} (marginalia plan, since "
        )
        assert states(progress)["plan"] == ("running", None)
    assert overview(run).working is None


def test_a_lock_of_a_dead_process_holds_nothing(folder: Path) -> None:
    child = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    (folder / ".lock").write_text(f"process {int(child.stdout)} (marginalia plan, since 2026-01-01)")
    assert lock_holder(folder) is None


def test_an_import_shows_no_generation(folder: Path) -> None:
    (folder / "r.jsonl").write_text('{"id": "r1", "text": "late", "labels": ["late_delivery"]}\n' * 1)
    done = marginalia("import", str(folder / "r.jsonl"), "--run", str(folder))
    assert done.returncode == 0, done.stderr
    assert next(iter(states(overview(open_run(folder))))) == "import"
    assert not {"plan", "generate"} & states(overview(open_run(folder))).keys()


def test_the_command_prints_stages_without_a_server(folder: Path) -> None:
    done = marginalia("status", "--run", str(folder), "--json")
    assert done.returncode == 0, done.stderr
    progress = json.loads(done.stdout)
    assert (progress["next"], progress["annotation"]) == (f"marginalia plan --run {folder}", [])
    assert marginalia("status", "--run", str(folder)).stdout.split("\n")[0] == str(folder)


@pytest.mark.slow
def test_a_finished_run(demo_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    shutil.copytree(demo_run, folder, ignore=shutil.ignore_patterns("argilla"))
    progress = overview(open_run(folder))
    assert {stage.state for stage in progress.stages} <= {"up to date", "not needed"}
    assert (progress.next, progress.report) == (None, str(folder / "report.html"))
    (folder / "gold.parquet").unlink()
    progress = overview(open_run(folder))
    assert states(progress)["reconcile"] == ("stale", "gold.parquet is missing")
    assert states(progress)["report"] == ("stale", "gold.parquet does not exist yet")
    done = marginalia("status", "--run", str(folder))
    assert done.returncode == 0
    assert done.stdout.endswith(
        f"annotation: the run's Argilla is not running (marginalia argilla up --run {folder})\n"
    )


def test_a_count_of_one_is_in_the_singular() -> None:
    counts = {"accepted": 3, "rejected attempts": 1, "records_judged": 1, "rejected: refused": 1, "files": 2}
    assert counted(counts) == "3 accepted, 1 rejected attempt, 1 record judged, 1 rejected: refused, 2 files"
    assert counted(counts, 1) == "3 accepted"
    assert counted({"with 1 labels": 3, "with 3 labels": 1}) == "3 with 1 label, 1 with 3 labels"
    assert counted({"torn_bytes": 0, "rows": 1}) == "1 row"
    assert counted({"torn_bytes": 7}) == "7 bytes of an incomplete journal line removed"
    assert counted({"guard_seen": 1, "control_changed": 2}) == "1 disputed record reviewed, 2 random records changed"
    assert counted({"needs_answers": 1, "needs_adjudication": 1}) == "1 needs answers, 1 needs adjudication"
    assert counted({"needs_answers": 0, "needs_adjudication": 2}) == "0 need answers, 2 need adjudication"


def test_a_new_run_shows_both_ways_to_records(folder: Path) -> None:
    assert str(overview(open_run(folder))).endswith(
        f"next: marginalia plan --run {folder}\n"
        "  plan has not run yet; to use records of your own instead: marginalia import FILE "
        f"--run {folder} --mapping MAPPING"
    )


def test_a_run_with_records_of_ones_own_begins_with_their_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next commands lead from `new` to the report, without a plan."""
    monkeypatch.chdir(tmp_path)
    rows = [{"id": f"r{n}", "text": f"Where is it {n}?", "labels": [["refund"], []][n % 2]} for n in range(60)]
    Path("data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    save(tmp_path / "model", 4, sharpness=3.0)
    done = marginalia("new", "own", "--taxonomy", "support-tickets", "--data", "data.jsonl")
    assert done.returncode == 0, done.stderr
    first = "marginalia import --run runs/own --suggest"
    assert done.stdout == f"runs/own: edit runs/own/config.yaml, then: {first}\n"
    config = Path("runs/own/config.yaml")
    settings = (
        f"  guards: [{{name: tiny, guard: instruct, model: {tmp_path / 'model'}}}]\n"
        "  tolerance: 0.3\n  node_budget: 8\n"
    )
    config.write_text(re.sub(r"(?m)^  guards:(.*\n)(?:  - .*\n|    .*\n)*", settings, config.read_text()))
    followed = []
    while (progress := overview(open_run(Path("runs/own")))).next is not None:
        assert progress.because and len(followed) < 10
        followed.append(progress.next)
        done = marginalia(*progress.next.split()[1:])
        assert done.returncode == 0, done.stderr
    assert followed == [
        first,
        "marginalia import --run runs/own --mapping runs/own/mapping.yaml",
        *(f"marginalia {stage} --run runs/own" for stage in ("score", "evaluate", "report", "release", "publish")),
    ]
    assert str(progress).endswith("all stages are complete; the report: runs/own/report.html")
    shown = json.loads(marginalia("status", "--run", "runs/own", "--json").stdout)
    assert (shown["next"], shown["because"], shown["report"]) == (None, None, "runs/own/report.html")


def test_data_that_do_not_exist_leave_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for data, message in (("nothing.csv", "nothing.csv: no such file"), ("hub:a/b", "--data hub:a/b: expected files")):
        done = marginalia("new", "own", "--taxonomy", "support-tickets", "--data", data)
        assert done.returncode == 2
        assert message in done.stderr
    assert not list(Path("runs").iterdir())


def test_a_failed_import_is_tried_again(folder: Path) -> None:
    (folder / "r.jsonl").write_text('{"id": "r1", "text": "late", "labels": ["unknown"]}\n')
    assert marginalia("import", str(folder / "r.jsonl"), "--run", str(folder)).returncode == 2
    assert overview(open_run(folder)).next == f"marginalia import --run {folder}"


def test_the_reason_of_each_state(folder: Path) -> None:
    run = open_run(folder)
    run_stage(load_stage("plan"), run)
    assert overview(run).because == "generate has not run yet"
    log_event(run, "generate", "started")
    assert overview(run).because == "generate was interrupted; it continues where it stopped"
    (folder / "config.yaml").write_text(CONFIG.replace("12", "13"))
    assert (overview(open_run(folder)).because or "").startswith("plan is out of date: config changed (plan, ")
    with run_lock(folder, "marginalia plan"):
        waiting = overview(open_run(folder))
        assert waiting.next is None
        assert (waiting.because or "").startswith(f"wait until process {os.getpid()} (marginalia plan, since ")


@pytest.mark.parametrize(
    ("given", "because"),
    [
        (None, "how many answers are missing is not known: the run's Argilla is not running"),
        (3, "3 answers are missing; pull them when people have answered; address and log-ins: "),
    ],
)
def test_without_a_server_the_missing_answers_are_counted_in_the_file(
    folder: Path, given: int | None, because: str
) -> None:
    """Two records that need three answers each; a skipped record counts as answered."""
    run = open_run(folder)
    pushed = Pushed(
        url="http://127.0.0.1:1",
        workspace="w",
        dataset="d",
        dataset_id="i",
        round="annotate",
        records=2,
        annotators=3,
        taxonomy="support-tickets",
        labels=[],
        taxonomy_sha256="",
        suggestions=False,
        pushed_at=datetime.now(UTC),
    )
    PUSHED.write(run, pushed)
    if given is not None:
        states = {
            ("r1", "A01"): "submitted",
            ("r1", "A02"): "discarded",
            ("r2", "A01"): "submitted",
            ("r2", "A02"): "draft",
        }
        ANSWERS.write(run, Answer.frame([answer(*key, status) for key, status in states.items()]))
    missing = annotation(run).missing
    todo = StageState("pull", "stale", None, None, None, None, {})
    command, why = next_command(run, todo, missing, tried=True)
    assert command == f"marginalia pull --run {folder}"
    assert why.startswith(because)


def answer(record: str, annotator: str, status: str) -> dict[str, Any]:
    moment = datetime.now(UTC)
    given = {"labels": [] if status == "submitted" else None, "status": status, "note": None}
    times = {"submitted_at": moment if status == "submitted" else None, "pulled_at": moment}
    return {"record_id": record, "annotator": annotator, **given, **times, "round": "annotate"}

"""The machine's clock is set back: the order of stages comes from the manifests, and no age is negative."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from marginalia.pipeline.core.run import Run, open_run
from marginalia.pipeline.core.run_overview import overview
from marginalia.pipeline.core.stage_order import load_stage
from marginalia.pipeline.core.stage_runner import Stage, StageOutcome, manifest_path, run_stage
from marginalia.schemas.errors import LockedError
from marginalia.schemas.storage.files import write_json
from marginalia.schemas.storage.run_lock import run_lock

NEXT_YEAR = datetime.now(UTC) + timedelta(days=365)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "config.yaml").write_text("taxonomy: support-tickets\nplan: {records: 12, min_per_label: 0}\n")
    return open_run(tmp_path)


def writer(name: str, value: int) -> Stage:
    """A stage that writes scores.json, as both score and merge write the scores."""

    def work(run: Run) -> StageOutcome:
        write_json(run.path("scores.json"), value)
        return StageOutcome({}, {})

    return Stage(name, lambda run: [], lambda run: ["scores.json"], (), work)


READER = Stage("evaluate", lambda run: ["scores.json"], lambda run: [], (), lambda run: StageOutcome({}, {}))


def finished(run: Run, stage: str, moment: datetime) -> None:
    path = manifest_path(run, stage)
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "finished_at": moment.isoformat()}))


def test_the_stage_that_wrote_a_file_last_is_still_known(run: Run) -> None:
    """By the clock, score wrote the file a year after merge did: evaluate refused what merge had written."""
    run_stage(writer("score", 1), run)
    finished(run, "score", NEXT_YEAR)
    run_stage(writer("merge", 2), run)
    assert run_stage(READER, run).status == "ran"


def test_a_damaged_manifest_of_another_stage_does_not_stop_a_stage_at_its_end(run: Run) -> None:
    run_stage(writer("score", 1), run)
    manifest_path(run, "score").write_text("{")
    assert run_stage(writer("merge", 2), run).status == "ran"


def test_a_manifest_from_the_future_is_up_to_date_and_has_no_negative_age(run: Run) -> None:
    run_stage(load_stage("plan"), run)
    finished(run, "plan", NEXT_YEAR)
    assert run_stage(load_stage("plan"), run).status == "up to date"
    (line,) = [line for line in str(overview(run)).split("\n") if "plan" in line and "up to date" in line]
    assert "in the future: check the clock" in line and " ago" not in line


def test_a_lock_from_the_future_is_free_once_its_process_has_ended(run: Run) -> None:
    content = f"process 999999999 (marginalia score, since {NEXT_YEAR.isoformat(timespec='seconds')})"
    (run.folder / ".lock").write_text(content)
    assert run_stage(load_stage("plan"), run).status == "ran"


def test_the_holder_of_a_lock_is_named_with_its_time_in_the_future(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ahead(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return NEXT_YEAR

    with monkeypatch.context() as patch:
        patch.setattr("marginalia.schemas.storage.run_lock.datetime", Ahead)
        lock = run_lock(run.folder, "marginalia score")
        lock.__enter__()
    with pytest.raises(LockedError, match=f"marginalia score, since {NEXT_YEAR.year}"):
        run_stage(load_stage("plan"), run)
    lock.__exit__(None, None, None)

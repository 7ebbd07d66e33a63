"""SIGTERM and SIGHUP end every stage as Ctrl-C does: what is done is kept, a line says how to continue, the log has an
entry, and no child process remains."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from marginalia.pipeline.core.run import open_run
from marginalia.pipeline.core.run_log import read_log
from marginalia.pipeline.core.stage_order import load_stage
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.schemas.stop_signals import StopSignal, stop_signals
from marginalia.scoring.rendering import Renderer
from tests.hostile.commands import Command, silent_server
from tests.pipeline.release.labelled_run import make_run
from tests.pipeline.synthetic_run import Synthetic, write_run
from tests.scoring.tiny import save

SERVERS = """\
taxonomy: support-tickets
plan: {{records: 12, min_per_label: 0}}
generate: {{endpoint: {{base_url: "{url}/v1", model: m}}}}
annotation: {{url: "{url}", workspace: w, dataset: d, team: [ann, ben], annotators: 2}}
release: {{repo_id: lab/tickets, license: cc-by-4.0}}
score:
  guards:
    - {{name: policy-guard, guard: instruct, model: "{url}/v1", tokenizer: "{model}"}}
"""
GUARDS = "score: {guards: [{name: smollm2, guard: instruct, model: some/model}]}\n"
PUSHED = {
    "workspace": "w",
    "dataset": "d",
    "dataset_id": "1",
    "round": "annotate",
    "records": 6,
    "annotators": 2,
    "taxonomy": "support-tickets",
    "labels": ["refund"],
    "taxonomy_sha256": "",
    "suggestions": False,
    "pushed_at": "2026-01-02T00:00:00Z",
}
CONTINUE = "run the same command to continue"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("model") / "tiny", 3)


@pytest.mark.parametrize(
    ("stage", "number"),
    [("generate", signal.SIGTERM), ("push", signal.SIGHUP), ("pull", signal.SIGTERM), ("score", signal.SIGHUP)],
    ids=str,
)
def test_a_stage_that_waits_for_a_server(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, stage: str, number: signal.Signals
) -> None:
    monkeypatch.setenv("ARGILLA_API_KEY", "a.key.for.argilla")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-a-key-for-the-llm")
    with silent_server() as (url, heard):
        run = make_run(tmp_path)
        (run.folder / "config.yaml").write_text(SERVERS.format(url=url, model=model))
        run_stage(load_stage("plan"), open_run(run.folder))
        (run.folder / "push.json").write_text(json.dumps({**PUSHED, "url": url}))
        command = Command(("marginalia", stage, "--run", str(run.folder)), tmp_path)
        command.wait_until(lambda: bool(heard))
        assert command.stop(number) == (128 + number, f"stopped by {number.name}; {CONTINUE}")
    assert command.left_behind() == []
    last = list(read_log(run.folder))[-1]
    assert (last["stage"], last["event"], last["signal"]) == (stage, "interrupted", number.name)


def test_score_keeps_what_is_done(tmp_path: Path, model: Path) -> None:
    rows = [{"id": f"r{at}", "text": f"My parcel {at} is late"} for at in range(40)]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ("marginalia.scoring", "r.jsonl", "--model", str(model), "--guard", "instruct", "--taxonomy")
    words += ("support-tickets", "--out", "s.parquet", "--batch-records", "1", "--node-budget", "20")
    command = Command(words, tmp_path)
    journal = tmp_path / "s.journal.jsonl"
    command.wait_until(lambda: journal.exists() and journal.stat().st_size > 0)
    assert command.stop() == (143, f"stopped by SIGTERM; {CONTINUE}")
    assert command.left_behind() == []
    lines = journal.read_bytes()
    assert lines.endswith(b"\n") and 0 < lines.count(b"\n") < 40


def test_a_stage_that_computes(tmp_path: Path) -> None:
    write_run(tmp_path, Synthetic(n=300))
    (tmp_path / "config.yaml").write_text("taxonomy: support-tickets\nevaluate: {resamples: 20000}\n" + GUARDS)
    command = Command(("marginalia", "evaluate", "--run", str(tmp_path)), tmp_path)
    command.wait_until(lambda: any(entry["event"] == "started" for entry in read_log(tmp_path)))
    time.sleep(0.2)
    assert command.stop() == (143, f"stopped by SIGTERM; {CONTINUE}")
    assert list(read_log(tmp_path))[-1]["event"] == "interrupted"
    assert not (tmp_path / "manifests" / "evaluate.json").exists()


def test_the_process_that_renders_templates_ends_with_the_command_only() -> None:
    """A closed terminal sends SIGHUP to both. Ended first, it would make a record fail that has no fault."""
    renderer = Renderer()
    try:
        assert renderer.render("{{ one }}", {"one": "1"}) == "1"
        process = renderer._process
        assert process is not None
        for number in (signal.SIGTERM, signal.SIGHUP):
            process.send_signal(number)
        assert renderer.render("{{ one }}", {"one": "2"}) == "2"
        assert renderer._process is process
    finally:
        renderer.close()


def test_a_signal_that_nohup_ignores_remains_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_signals():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_signal_at_once_does_not_interrupt_the_cleaning_up() -> None:
    """As systemd stops a service: SIGTERM, then SIGHUP."""
    cleaned_up = False
    with stop_signals(), pytest.raises(StopSignal, match="SIGTERM"):
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGHUP)
            cleaned_up = True
    assert cleaned_up

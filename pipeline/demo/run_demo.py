"""`marginalia demo`: every stage on this machine, offline, with small bundled models and simulated annotators."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from marginalia.pipeline.core.artifacts import EVALUATION
from marginalia.pipeline.core.run import RUNS, Run, open_run
from marginalia.pipeline.core.stage_order import load_stage
from marginalia.pipeline.core.stage_runner import StageRun, read_manifest, run_stage, staleness
from marginalia.pipeline.core.stage_summary import describe
from marginalia.schemas.errors import InputError
from marginalia.schemas.source_rows import read_rows
from marginalia.schemas.storage.files import write_jsonl, write_text
from marginalia.schemas.taxonomy import taxonomy_path
from marginalia.schemas.terminal import wrapped

CONFIG = Path(__file__).parent / "config.yaml"
EXAMPLES = Path(__file__).parent / "examples.jsonl"
TAXONOMY = "support-tickets"
ARGILLA_HOME = "argilla"


def run_demo(*, fresh: bool, root: Path = RUNS) -> None:
    """Runs the stages that are not up to date in `root/demo`; prints counts, headline numbers and the report's path.

    `fresh` first deletes an existing demo. Raises InputError if the folder is not a demo."""
    started = time.monotonic()
    folder = root / "demo"
    if fresh:
        _remove(folder)
    run = _lay_out(folder)
    try:
        ran = [_stage(run, "plan"), _stage(run, "generate"), *_annotation(run)]
    finally:
        _stop_argilla(run)
    ran += [_stage(run, name) for name in ("score", "evaluate", "report", "release")]
    if any(done.status == "ran" for done in ran):
        _dry_run(run)
    _print_summary(run, ran, time.monotonic() - started)


def _lay_out(folder: Path) -> Run:
    if not (folder / "config.yaml").exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "taxonomy.yaml", taxonomy_path(TAXONOMY).read_text(encoding="utf-8"))
        write_jsonl(folder / "examples.jsonl", held_out_examples())
        write_text(folder / "config.yaml", CONFIG.read_text(encoding="utf-8"))
    run = open_run(folder)
    if not run.config.simulated:
        hint = "rename the folder; the demo then creates its own"
        raise InputError(f"{folder} is not a demo: its config.yaml lacks 'simulated: true'", hint=hint)
    return run


def held_out_examples() -> list[dict[str, Any]]:
    """The examples that the demo guard was not trained on."""
    rows = [row for _, row in read_rows(EXAMPLES)]
    return [{name: row[name] for name in ("id", "text", "labels")} for row in rows if row["split"] == "held_out"]


def _remove(folder: Path) -> None:
    if folder.exists():
        from marginalia.annotation.server.server_control import down

        _lay_out(folder)  # raises an error if the folder is not a demo, so that nobody's work is deleted
        down(folder / ARGILLA_HOME)
        shutil.rmtree(folder)


def _stage(run: Run, name: str) -> StageRun:
    done = run_stage(load_stage(name), run)
    print(describe(done), flush=True)
    return done


def _annotation(run: Run) -> list[StageRun]:
    """Runs push, pull, reconcile and adjudicate.

    Skips them all if push and reconcile are up to date: otherwise pull and adjudicate would start Argilla each time."""
    if _annotated(run):
        return [_up_to_date(run, name) for name in ("push", "pull", "adjudicate", "reconcile")]
    ran = [_stage(run, "push"), *_answers(run, "annotate"), _stage(run, "reconcile")]
    if ran[-1].manifest.counts_out.get("needs_adjudication"):
        ran += [_stage(run, "adjudicate"), *_answers(run, "adjudicate"), _stage(run, "reconcile")]
    return ran


def _answers(run: Run, round: str) -> list[StageRun]:
    from marginalia.pipeline.annotating.simulated_annotators import annotate

    for annotator in annotate(run, run.config.simulation, round=round):
        counts = f"{annotator.submitted} submitted, {annotator.discarded} discarded"
        print(f"simulated annotator {annotator.username}: {counts}", flush=True)
    return [_stage(run, "pull")]


def _annotated(run: Run) -> bool:
    if any(read_manifest(run, name) is None for name in ("push", "pull", "reconcile")):
        return False
    return all(staleness(load_stage(name), run) is None for name in ("push", "reconcile"))


def _up_to_date(run: Run, name: str) -> StageRun:
    manifest = read_manifest(run, name) or read_manifest(run, "reconcile")
    assert manifest is not None
    done = StageRun(name, "up to date", "", manifest)
    print(describe(done), flush=True)
    return done


def _stop_argilla(run: Run) -> None:
    from marginalia.annotation.server.server_control import down

    if run.config.annotation.url is None:
        down(run.path(ARGILLA_HOME))


def _dry_run(run: Run) -> None:
    done = _stage(run, "publish")
    facts = done.manifest.facts
    print(f"  dry run: nothing was uploaded; it would be {len(facts['files'])} files, {facts['bytes']:,} bytes")


def _print_summary(run: Run, ran: list[StageRun], seconds: float) -> None:
    from marginalia.pipeline.report.terminal_summary import headline

    evaluation = EVALUATION.read(run)
    print()
    print(wrapped("\n".join(headline(evaluation))))
    if all(done.status == "up to date" for done in ran):
        print("\nnothing to do: every stage is up to date (make demo FRESH=1 starts over)")
    print(f"\nreport: {run.path('report.html').resolve()}")
    print(f"data set: {run.path('release')} (total time {seconds:.0f} s)")
    print(f"to see what annotators see: make argilla RUN={run.name}")

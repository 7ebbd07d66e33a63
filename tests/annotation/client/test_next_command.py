"""The next command of `marginalia status` while people annotate, on a real Argilla."""

from __future__ import annotations

from collections.abc import Callable

from marginalia.pipeline.annotating.annotation_status import annotation
from marginalia.pipeline.core.run_overview import Overview, overview
from marginalia.pipeline.core.stage_order import load_stage
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.importing.import_stage import prepare
from tests.annotation.runs import SimulatedRun


def shown(work: SimulatedRun) -> Overview:
    return overview(work.run, annotation(work.run).missing)


def imported(work: SimulatedRun, *records: str) -> SimulatedRun:
    """The run with records that were imported without labels."""
    data, mapping = work.folder / "data.jsonl", work.folder / "mapping.yaml"
    data.write_text("".join(f'{{"id": "{record}", "text": "text {record}"}}\n' for record in records))
    mapping.write_text("title: texts\nid: id\ntext: text\n")
    prepare(work.run, str(data), str(mapping))
    run_stage(load_stage("import"), work.run)
    return work


def test_status_says_how_many_answers_people_still_have_to_give(new_run: Callable[..., SimulatedRun]) -> None:
    work = imported(new_run(), "r1", "r2", "r3")
    pull, wait = (
        f"marginalia pull --run {work.folder}",
        (f"pull them when people have answered; address and log-ins: marginalia argilla up --run {work.folder}"),
    )
    work.stage("push")
    waiting = shown(work)
    assert (waiting.next, waiting.because) == (pull, f"6 answers are missing; {wait}")
    work.answer("ann", {"r1": ["a"], "r2": ["a"], "r3": ["none"]})
    work.answer("ben", {"r1": ["a"], "r2": ["b"]})
    assert shown(work).because == f"1 answer is missing; {wait}"
    work.stage("pull")
    assert shown(work).next == f"marginalia reconcile --run {work.folder}"
    work.stage("reconcile")
    # the record on which they disagree goes to the expert
    assert shown(work).next == f"marginalia adjudicate --run {work.folder}"
    work.stage("adjudicate")
    waiting = shown(work)
    assert (waiting.next, waiting.because) == (pull, f"2 answers are missing; {wait}")
    work.answer("eva", {"r2": ["b"]}, file="adjudicate.json")
    work.answer("ben", {"r3": ["none"]})
    assert shown(work).because == "people have given all answers"
    work.stage("pull")
    work.stage("reconcile")
    complete = shown(work)
    assert complete.next == f"marginalia score --run {work.folder}"
    assert complete.because == "score has not run yet"


def test_pulled_answers_that_are_too_few_are_waited_for(new_run: Callable[..., SimulatedRun]) -> None:
    work = imported(new_run(), "r1", "r2")
    work.stage("push")
    work.answer("ann", {"r1": ["a"], "r2": ["a"]})
    work.answer("ben", {"r1": ["a"]})
    work.stage("pull")
    work.stage("reconcile")
    waiting = shown(work)
    assert waiting.next == f"marginalia pull --run {work.folder}"
    assert (waiting.because or "").startswith("1 answer is missing; ")
    work.answer("ben", {"r2": None}, status="discarded")  # skipped: it may never get all the answers that it needs
    work.stage("pull")
    work.stage("reconcile")
    assert shown(work).next == f"marginalia score --run {work.folder}"

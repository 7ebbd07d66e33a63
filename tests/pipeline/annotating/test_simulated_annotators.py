from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from marginalia.annotation.client.connection import Connection
from marginalia.annotation.server.server_control import RunningServer
from marginalia.annotation.simulated.annotator_profiles import AnnotatorProfile, SimulationSection
from marginalia.pipeline.annotating.simulated_annotators import AnnotatorCounts, annotate, simulated_answer
from marginalia.schemas.errors import InputError
from tests.annotation.runs import SimulatedRun, make_run
from tests.argilla_fixture import argilla_home, argilla_server

__all__ = ["argilla_home", "argilla_server"]

LABELS = ["a", "b", "c"]
PERFECT = AnnotatorProfile(miss=0, false_alarm=0, skip=0, note=0, unsure=0)
TEXTS = {f"r{at:03}": f"text {at}" for at in range(130)}
INTENDED = {record: LABELS[: at % 3] for at, record in enumerate(TEXTS)}


def labels_of(answer: dict[str, Any]) -> list[str]:
    labels: list[str] = answer["values"]["labels"]["value"]
    return labels


def answer(
    record: str, intended: list[str], profile: AnnotatorProfile, *, who: str = "ann", seed: int = 1
) -> dict[str, Any]:
    return simulated_answer(intended, LABELS, profile, seed=seed, annotator=who, record=record)


@pytest.fixture
def work(tmp_path: Path, argilla_home: Path, argilla_server: RunningServer) -> SimulatedRun:
    run = make_run(tmp_path / "run", argilla_home, argilla_server.url, texts=TEXTS, intended=INTENDED, simulated=True)
    run.stage("push")
    return run


def test_without_errors_the_intended_labels_come_back() -> None:
    assert labels_of(answer("r", ["a", "c"], PERFECT)) == ["a", "c"]
    assert labels_of(answer("r", [], PERFECT)) == ["none"]


def test_errors_come_at_the_rates_of_the_profile() -> None:
    profile = PERFECT.model_copy(update={"miss": 0.2, "false_alarm": 0.1, "label_miss": {"b": 0.6}})
    label_sets = [labels_of(answer(f"r{at}", ["a", "b"], profile)) for at in range(4000)]
    rates = [sum(label in labels for labels in label_sets) / 4000 for label in LABELS]
    assert rates == pytest.approx([0.8, 0.4, 0.1], abs=0.025)
    shy = PERFECT.model_copy(update={"skip": 0.3})
    assert sum(answer(f"r{at}", [], shy)["status"] == "discarded" for at in range(4000)) == pytest.approx(1200, abs=100)


def test_an_answer_depends_on_annotator_record_and_seed_alone() -> None:
    profile = AnnotatorProfile(miss=0.5, false_alarm=0.5)
    records = [f"r{at}" for at in range(50)]
    once = {record: answer(record, ["a"], profile) for record in records}
    again = {record: answer(record, ["a"], profile) for record in reversed(records)}
    assert once == again
    assert once != {record: answer(record, ["a"], profile, who="ben") for record in records}
    assert once != {record: answer(record, ["a"], profile, seed=2) for record in records}


def test_they_refuse_a_run_that_is_not_simulated(work: SimulatedRun) -> None:
    config = work.folder / "config.yaml"
    config.write_text(config.read_text().replace('"simulated": true', '"simulated": false'))
    with pytest.raises(InputError, match="answer only in a run with 'simulated: true'"):
        annotate(work.run, SimulationSection())


def test_they_refuse_an_argilla_other_than_the_runs_own(work: SimulatedRun) -> None:
    config = work.folder / "config.yaml"
    config.write_text(config.read_text().replace('"annotation": {', f'"annotation": {{"url": "{work.url}", '))
    with pytest.raises(InputError, match="only in the run's own local Argilla"):
        annotate(work.run, SimulationSection())


def test_they_answer_every_record_once_and_continue_after_a_kill(
    work: SimulatedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    post, calls = Connection.post, []

    def breaks(self: Connection, path: str, body: Any, **parameters: Any) -> Any:
        if path.endswith("bulk"):
            calls.append(path)
            if len(calls) == 2:
                raise KeyboardInterrupt
        return post(self, path, body, **parameters)

    with monkeypatch.context() as patched:
        patched.setattr(Connection, "post", breaks)
        with pytest.raises(KeyboardInterrupt):
            annotate(work.run, SimulationSection(profiles=[PERFECT]))
    done = annotate(work.run, SimulationSection(profiles=[PERFECT]))
    assert done == [AnnotatorCounts("ann", 30, 0), AnnotatorCounts("ben", 130, 0)]
    assert annotate(work.run, SimulationSection()) == [AnnotatorCounts("ann", 0, 0), AnnotatorCounts("ben", 0, 0)]
    work.stage("pull")
    answers = work.annotations()
    assert answers.height == 260
    ticked = dict(zip(answers["record_id"], answers["labels"].list.sort().to_list(), strict=True))
    assert ticked == INTENDED


def test_a_simulated_expert_answers_the_adjudication(work: SimulatedRun) -> None:
    wrong = PERFECT.model_copy(update={"miss": 1.0})
    annotate(work.run, SimulationSection(profiles=[PERFECT, wrong]))
    for stage in ("pull", "reconcile", "adjudicate"):
        work.stage(stage)
    assert annotate(work.run, SimulationSection(expert=PERFECT), round="adjudicate") == [AnnotatorCounts("eva", 86, 0)]
    work.stage("pull")
    counts = work.stage("reconcile").manifest.counts_out
    assert (counts["final"], counts["adjudicated"]) == (130, 86)

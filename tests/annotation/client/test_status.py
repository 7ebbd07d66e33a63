from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta

import polars as pl
import pytest

from marginalia.annotation.client.annotation_progress import summary
from marginalia.pipeline.annotating.annotation_status import StatusReport, report
from marginalia.schemas.errors import InputError
from marginalia.schemas.push_json import Pushed
from tests.annotation.answers import NOW, answers
from tests.annotation.runs import SimulatedRun

NewRun = Callable[..., SimulatedRun]


def test_status_counts_the_answers_on_the_server(new_run: NewRun) -> None:
    work = new_run()
    work.stage("push")
    work.answer("ann", {"r1": ["a"], "r2": ["none", "a"]})
    work.answer("ben", {"r1": ["a"]})
    work.answer("ben", {"r2": ["a"]}, status="discarded")
    status = report(work.run)
    (progress,) = status.rounds
    assert (progress.records, progress.done, progress.started, progress.untouched) == (3, 1, 0, 2)
    assert (progress.answers_needed, progress.rejected) == (4, 1)
    annotators = {
        annotator.username: (annotator.submitted, annotator.discarded, annotator.draft)
        for annotator in progress.annotators
    }
    assert annotators == {"ann": (1, 0, 1), "ben": (1, 1, 0)}
    assert "1 of 3 done" in str(status)
    assert "on 1 record with two or more answers" in str(status)
    assert "to correct: 1 answer ticks nothing, or none together with a label" in str(status)
    (pair,) = progress.pairs
    assert (pair.first, pair.second, pair.records, pair.exact) == ("ann", "ben", 1, 1.0)
    assert json.loads(json.dumps(status.data))[0]["answers_needed"] == 4
    assert not (work.folder / "annotations.jsonl").exists()


def test_status_before_a_push_names_the_command(new_run: NewRun) -> None:
    with pytest.raises(InputError, match="marginalia push"):
        report(new_run().run)


def test_pace_excludes_breaks_and_gives_the_remaining_time(new_run: NewRun) -> None:
    work = new_run()
    work.stage("push")
    pushed = Pushed.model_validate(work.pushed())
    ids = [f"r{at}" for at in range(10)]
    given = answers({record: {"ann": "a"} for record in ids[:4]})
    # 30 and 50 seconds of work, with a pause of an hour between
    times: list[datetime] = [NOW + timedelta(seconds=s) for s in (0, 30, 3630, 3680)]
    frame = given.with_columns(submitted_at=pl.Series(times, dtype=pl.Datetime("us", "UTC")))
    progress = summary(ids, frame, pushed, work.run.taxonomy)
    assert progress.annotators[0].seconds_per_answer == pytest.approx(40)
    assert progress.answers_needed == 16
    assert progress.hours_left == pytest.approx(16 * 40 / 3600)
    assert progress.hours_left_each == progress.hours_left


def test_the_pairs_that_disagree_most_come_first(new_run: NewRun) -> None:
    work = new_run()
    work.stage("push")
    pushed = Pushed.model_validate(work.pushed())
    ids = [f"r{at}" for at in range(8)]
    frame = answers(
        {r: {"ann": "a" * (at % 2), "ben": "a" * (at % 2), "carl": "a" * (at < 4)} for at, r in enumerate(ids)}
    )
    progress = summary(ids, frame, pushed, work.run.taxonomy)
    # ann and carl: of 24 cells 2 both, 2 and 2 one of them, 18 neither; (20/24 - 416/576) / (160/576)
    assert [(pair.first, pair.second) for pair in progress.pairs[:2]] == [("ann", "carl"), ("ben", "carl")]
    assert progress.pairs[0].kappa == pytest.approx(0.4)
    assert (progress.pairs[2].kappa, progress.pairs[2].exact) == (1.0, 1.0)
    assert "ann and carl" in str(StatusReport([progress]))

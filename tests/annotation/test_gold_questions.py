from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from marginalia.annotation.config import AnnotationSection
from marginalia.annotation.gold.gold_questions import accuracy, choose, mixed, wilson
from marginalia.pipeline.annotating.annotation_status import report
from marginalia.schemas.errors import InputError
from marginalia.schemas.taxonomy import load_taxonomy
from tests.annotation.answers import answers, row
from tests.annotation.client.conftest import argilla_home, argilla_server, new_run
from tests.annotation.runs import TAXONOMY, SimulatedRun

__all__ = ["argilla_home", "argilla_server", "new_run"]

QUESTIONS = [{"id": f"q{at}", "text": f"question {at}", "labels": ["a", "b"][: at % 3]} for at in range(6)]


def write_questions(folder: Path, questions: list[dict[str, object]] = QUESTIONS) -> Path:
    path = folder / "known.jsonl"
    path.write_text("".join(json.dumps(question) + "\n" for question in questions))
    return path


def test_accuracy_equals_the_one_computed_by_hand() -> None:
    # X: q1 right, q2 one of two labels and one wrong one. 1 of 2 exact; ticks 1 + 2, of them right 1 + 1; known 1 + 2
    frame = pl.concat(
        [
            answers({"q1": {"X": "a", "Y": "a"}, "q2": {"X": "ac", "Y": "ab"}}, round="gold_question"),
            skipped_question("q3", "X"),
            answers({"q1": {"Z": "b"}, "r1": {"X": "b"}}),  # answers to records do not count
        ]
    )
    first, second = accuracy(frame, {"q1": ["a"], "q2": ["a", "b"], "q3": []})
    assert (first.annotator, first.skipped, first.exact.value, first.exact.n) == ("X", 1, 0.5, 2)
    assert (first.precision, first.recall) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert (second.annotator, second.exact.value, second.precision, second.recall) == ("Y", 1.0, 1.0, 1.0)


def skipped_question(record: str, annotator: str) -> pl.DataFrame:
    from marginalia.schemas.tables import Answer

    return Answer.frame([row(record, annotator, None, status="discarded", round="gold_question")])


def test_the_interval_is_wilsons() -> None:
    # Newcombe 1998, table I, method 3: 81 of 263 has 0.2553 to 0.3662, 0 of 20 has 0 to 0.1611
    estimate = wilson(81, 263)
    assert (estimate.low, estimate.high) == (pytest.approx(0.2553, abs=5e-5), pytest.approx(0.3662, abs=5e-5))
    assert wilson(0, 20).high == pytest.approx(0.1611, abs=5e-5)
    assert wilson(0, 0).value is None


def test_a_seeded_share_is_chosen_and_more_records_only_add(tmp_path: Path) -> None:
    (tmp_path / "taxonomy.yaml").write_text(TAXONOMY)
    taxonomy = load_taxonomy("taxonomy.yaml", relative_to=tmp_path)
    path = write_questions(tmp_path)
    few = choose(path, taxonomy, [f"r{at}" for at in range(11)], 0.2, 1).questions
    many = choose(path, taxonomy, [f"r{at}" for at in range(25)], 0.2, 1).questions
    assert (len(few), len(many)) == (3, 5)
    assert list(many)[:3] == list(few)
    with pytest.raises(InputError, match=r"has 6 gold questions, but a share of 0.2 of 100 records needs 20"):
        choose(path, taxonomy, [f"r{at}" for at in range(100)], 0.2, 1)
    partly = [{"id": "q", "text": "t", "labels": [], "judged": taxonomy.ids[1:]}]
    write_questions(tmp_path, partly)
    with pytest.raises(InputError, match=f"record 'q': the label '{taxonomy.ids[0]}' was not judged"):
        choose(path, taxonomy, ["r"], 0.2, 1)
    write_questions(tmp_path, [{"id": "q", "text": "t"}])
    with pytest.raises(InputError, match="record 'q' has no labels"):
        choose(path, taxonomy, ["r"], 0.2, 1)


def test_questions_are_mixed_among_the_records_whose_order_stays() -> None:
    order = mixed(list("abcdefgh"), ["1", "2"], 3)
    assert [item for item in order if item.isalpha()] == list("abcdefgh")
    assert sorted(order)[:2] == ["1", "2"]
    assert order != mixed(list("abcdefgh"), ["1", "2"], 4)


def test_suggestions_without_a_control_would_give_the_questions_away() -> None:
    with pytest.raises(ValueError, match="annotators could recognise them"):
        AnnotationSection(gold_questions="known.jsonl", suggestions=True, control_share=0)


def test_they_measure_annotators_and_do_not_count_for_gold(new_run: Callable[..., SimulatedRun]) -> None:
    work = new_run(annotation={"gold_questions": "known.jsonl", "gold_share": 0.5})  # two among three records
    write_questions(work.folder)
    assert work.stage("push").manifest.counts_in == {"records": 3, "asked": 3, "gold_questions": 2}
    path = work.folder / "gold_questions.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    known = {
        record: question["labels"] or ["none"] for record, question in json.loads(path.read_text())["questions"].items()
    }
    shown = work.on_server()
    assert {record["external_id"] for record in shown} == {"r1", "r2", "r3", *known}
    assert len({tuple(sorted(record)) for record in shown}) == 1  # a question has the same keys as a record
    assert {tuple(record["fields"]) for record in shown} == {("record",)}
    assert not any(record["metadata"] for record in shown if "metadata" in record)
    wrong, right = list(known)
    work.answer("ann", {"r1": ["a"], "r2": ["b"], right: known[right], wrong: ["c"]})
    work.answer("ben", {"r1": ["a"], "r2": ["b"], **known})
    for stage in ("pull", "reconcile"):
        done = work.stage(stage)
    assert done.manifest.counts_in["answers_to_gold_questions"] == 4
    assert done.manifest.counts_in["answers_elsewhere"] == 0
    rounds = dict(work.annotations()["round"].value_counts().iter_rows())
    assert rounds == {"annotate": 4, "gold_question": 4}
    assert pl.read_parquet(work.folder / "gold.parquet")["id"].to_list() == ["r1", "r2", "r3"]
    agreement = json.loads((work.folder / "agreement.json").read_bytes())
    exact = {annotator["annotator"]: annotator["exact"]["value"] for annotator in agreement["gold_questions"]}
    assert exact == {work.pseudonym("ann"): 0.5, work.pseudonym("ben"): 1.0}
    assert agreement["answers"] == 4
    (round,) = report(work.run).rounds
    assert {annotator.username: (annotator.gold_questions, annotator.gold_exact) for annotator in round.annotators} == {
        "ann": (2, 0.5),
        "ben": (2, 1.0),
    }
    assert round.exact.value == 1.0
    assert "50% of 2" in str(report(work.run))

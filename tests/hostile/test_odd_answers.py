"""Answers that Argilla would not give: counted and named, never written to the journal."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from typer.testing import CliRunner

from marginalia.annotation.client.answer_journal import latest
from marginalia.pipeline.commands.cli import app
from tests.annotation.runs import SimulatedRun
from tests.hostile.fake_argilla import FakeArgilla

Pushed = Callable[..., SimulatedRun]
ODD: dict[str, dict[str, Any]] = {
    "a lone surrogate in the note": {"labels": ["a"], "note": "\ud800"},
    "a note that is a list": {"labels": ["a"], "note": ["x"]},
    "a note that is not a number": {"labels": ["a"], "note": float("nan")},
    "labels as a string": {"labels": "a"},
    "labels as numbers": {"labels": [1]},
    "an unknown label": {"labels": ["zzz"]},
    "a label twice": {"labels": ["a", "a"]},
    "an unknown status": {"labels": ["a"], "status": "approved"},
    "a status that is a list": {"labels": ["a"], "status": ["submitted"]},
    "a date that is none": {"labels": ["a"], "updated_at": "2026-13-45"},
    "a date before year 1": {"labels": ["a"], "updated_at": "0001-01-01T00:00:00+23:00"},
    "a date that is a number": {"labels": ["a"], "updated_at": 5},
    "a user id that is a number": {"labels": ["a"], "user_id": 7},
    "a user id that is null": {"labels": ["a"], "user_id": None},
    "a severity that is a word": {"labels": ["a"], "severity_a": "mild"},
    "a severity of an unknown label": {"labels": ["a"], "severity_zzz": "1"},
    "a severity beyond 64 bits": {"labels": ["a"], "severity_a": "9" * 30},
}


SHAPES: list[Any] = [
    None,
    "x",
    [],
    {},
    {"user_id": "u", "status": "submitted", "updated_at": "2026-01-01", "values": {"labels": 1}},
]


def test_odd_answers_are_named_and_all_others_are_pulled(argilla: FakeArgilla, pushed: Pushed) -> None:
    work = pushed(texts={"good": "a text"} | {f"r{at}": f"text {at}" for at in range(len(ODD))})
    argilla.answer("good", "ann", labels=["a"])
    for at, parts in enumerate(ODD.values()):
        argilla.answer(f"r{at}", "ann", labels=["b"])
        argilla.answer(f"r{at}", "ben", **parts)
    result = CliRunner().invoke(app, ["pull", "--run", str(work.folder)])
    assert result.exit_code == 1, result.output
    for at, kind in enumerate(ODD):
        assert f"warning: not read: the answer to record 'r{at}'" in result.output, kind
    assert f"incomplete: {len(ODD)} answers on the server could not be read" in result.output
    good = {("good", "A01"), *((f"r{at}", "A01") for at in range(len(ODD)))}
    assert {(entry["record_id"], entry["annotator"]) for entry in work.journal()} == good
    assert set(work.annotations().select("record_id", "annotator").iter_rows()) == good
    manifest = json.loads((work.folder / "manifests/pull.json").read_bytes())
    assert (manifest["counts_out"]["unreadable"], len(manifest["warnings"])) == (len(ODD), len(ODD))

    for record in argilla.records_of(0):
        record["responses"] = [item for item in record["responses"] if item["user_id"] == "id-of-ann"]
    argilla.answer("r0", "ben", labels=["c"])
    result = CliRunner().invoke(app, ["pull", "--run", str(work.folder)])
    assert result.exit_code == 0, result.output
    assert "unreadable" not in result.output
    assert len(latest(work.folder / "annotations.jsonl")) == len(good) + 1


def test_answers_of_another_shape(argilla: FakeArgilla, pushed: Pushed) -> None:
    work = pushed()
    argilla.answer("r1", "ann", labels=["a"])
    argilla.records_of(0)[1]["responses"] = SHAPES
    argilla.replace["GET", "/users/progress"] = lambda reply: {"users": []}
    result = CliRunner().invoke(app, ["pull", "--run", str(work.folder)])
    assert result.exit_code == 1, result.output
    assert f"incomplete: {len(SHAPES)} answers" in result.output
    assert [entry["record_id"] for entry in work.journal()] == ["r1"]


def test_an_answer_that_becomes_odd_keeps_its_earlier_state(argilla: FakeArgilla, pushed: Pushed) -> None:
    work = pushed()
    argilla.answer("r1", "ann", labels=["a"])
    work.stage("pull")
    argilla.answer("r1", "ann", labels=["b"], note="\udfff")
    for _ in range(2):  # a later pull reports it again, although nothing has changed on the server
        manifest = work.stage("pull").manifest
        assert (manifest.counts_out["unreadable"], manifest.counts_out["gone"]) == (1, 0)
        assert work.annotations()["labels"].to_list() == [["a"]]
    argilla.answer("r1", "ann", labels=["b"])
    assert work.stage("pull").manifest.counts_out["edited"] == 1


def test_status_counts_an_odd_answer_and_shows_the_rest(argilla: FakeArgilla, pushed: Pushed) -> None:
    work = pushed()
    argilla.answer("r1", "ann", labels=["a"])
    argilla.records_of(0)[0]["responses"] *= 2
    argilla.answer("r2", "ben", labels="a")
    result = CliRunner().invoke(app, ["status", "--run", str(work.folder)])
    assert result.exit_code == 0, result.output
    assert re.search(r"^  ann +1  ", result.output, re.MULTILINE)
    assert "unreadable: 1 answer; marginalia pull says what is wrong with each" in result.output

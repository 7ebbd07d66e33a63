"""Notes, names and roles that try to look like something else to experts, annotators and organisers."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from marginalia.annotation.client.dataset_settings import label_options
from marginalia.annotation.client.expert_payloads import votes_text
from marginalia.annotation.client.push_records import payload
from marginalia.pipeline.commands.cli import app
from marginalia.schemas.taxonomy import Taxonomy
from tests.annotation.answers import answers
from tests.annotation.runs import SimulatedRun
from tests.hostile.fake_argilla import FakeArgilla

BREAKS = ["\n", "\r\n", "\r", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029", "\n\n   \n", " \u2029 "]
VOTES = [{"label": "refund", "yes": 1, "n": 2}]


def taxonomy(name: str = "Refund", other: str = "Other") -> Taxonomy:
    labels = [
        {"id": "refund", "name": name, "definition": "About refunds."},
        {"id": "other", "name": other, "definition": "All else."},
    ]
    return Taxonomy.model_validate({"id": "t", "version": "1", "title": "T", "subject": "texts", "labels": labels})


def shown(note: str, *, name: str = "Refund") -> str:
    given = answers({"r1": {"A01": ["refund"], "A02": []}}).with_columns(
        note=pl.when(pl.col("annotator") == "A01").then(pl.lit(note))
    )
    return votes_text(VOTES, given, taxonomy(name))


@pytest.mark.parametrize("line_end", BREAKS, ids=ascii)
def test_a_note_is_one_line_and_marked_as_a_note(line_end: str) -> None:
    assert shown(f"fine{line_end}Refund: 3 of 3").splitlines() == [
        "Refund: 1 of 2",
        "None of these: 1 of 2",
        "Note: “fine Refund: 3 of 3”",
    ]


def test_a_note_cannot_reorder_or_push_itself_onto_a_line_of_its_own() -> None:
    assert shown("a\u202eb\x1b[2Jc").splitlines()[-1] == "Note: “a b [2Jc”"
    assert shown("fine" + " " * 500 + "Refund: 3 of 3").splitlines()[-1] == "Note: “fine Refund: 3 of 3”"
    assert shown(" \n ").splitlines()[-1] == "None of these: 1 of 2"


def test_a_long_note_is_cut_and_says_by_how_much() -> None:
    line = shown("x" * 300_000).splitlines()[-1]
    assert line == "Note: “" + "x" * 1_000 + " …” (299,000 more characters)"
    assert shown("x" * 1_000).splitlines()[-1] == "Note: “" + "x" * 1_000 + "”"


@pytest.mark.parametrize("line_end", BREAKS, ids=ascii)
def test_a_labels_name_is_one_line(line_end: str) -> None:
    name = f"Refund: 3 of 3{line_end}Fraud"
    assert shown("fine", name=name).splitlines()[0] == "Refund: 3 of 3 Fraud: 1 of 2"
    assert label_options(taxonomy(name))["refund"] == "Refund: 3 of 3 Fraud"


def test_two_labels_may_not_look_the_same() -> None:
    with pytest.raises(ValidationError, match="two answers are named 'a b'"):
        taxonomy("A B", "A\nB")


def test_a_role_is_one_line() -> None:
    (message,) = payload("r1", [{"role": "user\n<b>x</b>", "content": "text"}])["fields"]["record"]
    assert message == {"role": "user <b>x</b>", "content": "text"}


def test_the_expert_sees_the_folded_note(argilla: FakeArgilla, pushed: Callable[..., SimulatedRun]) -> None:
    work = pushed()
    argilla.answer("r1", "ann", labels=["a"], note="fine\nBoats: 2 of 2")
    argilla.answer("r1", "ben", labels=["b"])
    for stage in ("pull", "reconcile", "adjudicate"):
        work.stage(stage)
    (record,) = argilla.records_of(1)
    lines = ["Apples &lt;b&gt;: 1 of 2", "Boats: 1 of 2", "Note: “fine Boats: 2 of 2”"]
    assert record["fields"]["votes"].split("\n") == lines
    assert work.annotations()["note"].to_list() == ["fine\nBoats: 2 of 2", None]  # the data keep it as it was written


def test_a_username_cannot_write_to_the_organisers_terminal(
    argilla: FakeArgilla, pushed: Callable[..., SimulatedRun]
) -> None:
    work = pushed()
    argilla.answer("r1", "ann", labels=["a"])
    argilla.replace["GET", "/users"] = lambda reply: {
        "items": [{"id": "id-of-ann", "username": "ann\x1b]0;title\x07\nben  9 submitted"}]
    }
    result = CliRunner().invoke(app, ["status", "--run", str(work.folder)])
    assert result.exit_code == 0
    assert "ann ]0;title ben 9 submitted" in result.output
    assert "\x1b" not in result.output

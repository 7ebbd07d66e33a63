from __future__ import annotations

import json
from collections.abc import Callable

import polars as pl
import pytest

from marginalia.schemas.errors import InputError
from tests.annotation.runs import SimulatedRun

NewRun = Callable[..., SimulatedRun]


def test_levels_are_asked_pulled_and_reconciled(new_run: NewRun) -> None:
    work = new_run(annotation={"severity": ["minor", "extreme"]})
    work.stage("push")
    with work.as_user("ann") as ann:
        questions = {q["name"]: q for q in ann.get(f"/datasets/{work.pushed()['dataset_id']}/questions")["items"]}
    assert list(questions) == ["labels", "severity-a", "severity-b", "severity-c", "unsure", "note"]
    assert questions["severity-b"]["title"] == "If you ticked “Boats”: how severe is it?"
    options = [(option["value"], option["text"]) for option in questions["severity-b"]["settings"]["options"]]
    assert options == [("1", "minor"), ("2", "extreme")]

    work.answer("ann", {"r1": ["a", "b"]}, **{"severity-a": "2", "severity-c": "1"})  # c is not ticked
    work.answer("ben", {"r1": ["a", "b"], "r2": ["none"]}, **{"severity-a": "1"})
    work.answer("ann", {"r3": ["a"]}, status="draft", **{"severity-a": "1"})
    assert work.stage("pull").manifest.counts_out["levels"] == 2
    columns = ("record_id", "annotator", "label", "level")
    given = pl.read_parquet(work.folder / "severity.parquet").select(columns).rows()
    assert sorted(given) == [("r1", "A01", "a", 2), ("r1", "A02", "a", 1)]
    work.stage("reconcile")
    gold = pl.read_parquet(work.folder / "gold_severity.parquet")
    assert gold.rows() == [("r1", "a", 1.5, 2, False)]
    severity = json.loads((work.folder / "agreement.json").read_bytes())["severity"]
    assert severity["levels"] == ["minor", "extreme"]
    assert severity["per_label"][0]["counts"] == [1, 1]

    work.answer("ann", {"r1": ["a", "b"]}, **{"severity-a": "1"})
    counts = work.stage("pull").manifest.counts_out
    assert (counts["edited"], counts["levels"]) == (1, 2)


def test_changed_optional_questions_are_refused(new_run: NewRun) -> None:
    work = new_run()
    work.stage("push")
    config = work.folder / "config.yaml"
    for change in ({"severity": ["minor", "extreme"]}, {"note": False}):
        settings = json.loads(config.read_text())
        config.write_text(json.dumps({**settings, "annotation": {**settings["annotation"], **change}}))
        key = next(iter(change))
        with pytest.raises(InputError, match=rf"annotation\.{key} changed.*annotation\.dataset to a new name"):
            work.stage("push")
        config.write_text(json.dumps(settings))

"""Labels that annotators are shown pre-ticked: whose they are, and how far they draw answers to them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from marginalia.pipeline.annotating import push_stage
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.schemas.errors import ArtifactError, InputError
from marginalia.schemas.storage.files import write_frame
from marginalia.schemas.tables import CheckedRecord
from tests.annotation.runs import SimulatedRun

NewRun = Callable[..., SimulatedRun]


def test_suggestions_are_off_unless_asked_for_and_leave_out_the_control_share(new_run: NewRun) -> None:
    texts = {f"r{at:03}": f"text {at}" for at in range(100)}
    intended = {record: ["a"] for record in texts}
    plain = new_run(texts=texts, intended=intended)
    plain.stage("push")
    assert not any(_suggested(plain))
    shown = new_run(texts=texts, intended=intended, annotation={"suggestions": True, "control_share": 0.3})
    shown.stage("push")
    suggested = _suggested(shown)
    assert 55 <= sum(value == ["a"] for value in suggested) <= 85
    assert sum(value is None for value in suggested) == 100 - sum(value == ["a"] for value in suggested)


def _suggested(work: SimulatedRun) -> list[list[str] | None]:
    with work.as_user("owner") as owner:
        path = f"/datasets/{work.pushed()['dataset_id']}/records"
        items = owner.get(path, limit=1000, include="suggestions")["items"]
    return [item["suggestions"][0]["value"] if item["suggestions"] else None for item in items]


def test_anchoring_is_measured_where_suggestions_were_shown(new_run: NewRun) -> None:
    texts = {f"r{at:02}": f"text {at}" for at in range(40)}
    intended = {record: ["a"] for record in texts}
    work = new_run(texts=texts, intended=intended, annotation={"suggestions": True, "control_share": 0.5})
    work.stage("push")
    suggested = [value is not None for value in _suggested(work)]
    # ann follows every suggestion that she sees, and says 'b' otherwise
    work.answer("ann", {record: ["a"] if shown else ["b"] for record, shown in zip(texts, suggested, strict=True)})
    work.stage("pull")
    work.stage("reconcile")
    anchoring = json.loads((work.folder / "agreement.json").read_bytes())["anchoring"]
    assert (anchoring["suggested"]["value"], anchoring["control"]["value"], anchoring["difference"]["value"]) == (
        1.0,
        0.0,
        1.0,
    )
    assert (anchoring["suggested"]["n"], anchoring["control"]["n"]) == (sum(suggested), 40 - sum(suggested))


def _checks(work: SimulatedRun, labels: dict[str, list[str] | None]) -> None:
    rows = [
        {
            "record_id": record,
            "intended_labels": ["a"],
            "labels": given,
            "status": "unreadable" if given is None else "differs",
            "detail": "hm" if given is None else None,
        }
        for record, given in labels.items()
    ]
    write_frame(work.folder / "checks.parquet", CheckedRecord.frame(rows), CheckedRecord)


def _config(work: SimulatedRun, **annotation: Any) -> None:
    path = work.folder / "config.yaml"
    config = json.loads(path.read_text())
    config["annotation"] |= annotation
    config["generate"] = {"check": {"enabled": True}}
    path.write_text(json.dumps(config))


def test_the_blind_checks_labels_can_be_suggested(new_run: NewRun) -> None:
    texts = {f"r{at:02}": f"text {at}" for at in range(40)}
    work = new_run(texts=texts, intended={record: ["a"] for record in texts})
    _config(work, suggestions="check", control_share=0.5)
    given = {record: None if record == "r07" else [] if record < "r20" else ["b", "c"] for record in texts}
    with pytest.raises(ArtifactError, match=r"checks\.parquet: no such file; push reads it"):
        work.stage("push")
    _checks(work, given)
    work.stage("push")
    assert work.pushed()["suggestions"] == "check"
    seen = dict(zip(texts, _suggested(work), strict=True))
    record_of = {row["record_id"]: row for row in _suggestions(work)}
    for record, value in seen.items():
        row = record_of[record]
        assert (row["source"], row["labels"], row["shown"]) == ("check", given[record], value is not None)
        assert value in (None, ["none"] if record < "r20" else ["b", "c"])
    assert 8 < sum(value is not None for value in seen.values()) < 32
    assert seen["r07"] is None
    # ann follows every suggestion that she sees, and says 'a', what was intended, otherwise
    work.answer("ann", {record: value or ["a"] for record, value in seen.items()})
    work.stage("pull")
    work.stage("reconcile")
    anchoring = json.loads((work.folder / "agreement.json").read_bytes())["anchoring"]
    assert anchoring["sources"] == ["check"]
    assert (anchoring["suggested"]["value"], anchoring["control"]["value"]) == (1.0, 0.0)
    n_shown = sum(value is not None for value in seen.values())
    assert (anchoring["suggested"]["n"], anchoring["control"]["n"]) == (n_shown, 39 - n_shown)


def test_anchoring_knows_what_was_shown_when_the_config_has_changed_since(new_run: NewRun) -> None:
    """Three kinds of records: pushed without suggestions, with the intended ones, and with the check's."""
    texts = {f"r{at:02}": f"text {at}" for at in range(12)}
    work = new_run(texts=texts, intended={record: ["a"] for record in texts}, annotation={"first": 4})
    work.stage("push")
    assert not (work.folder / "suggestions.parquet").exists()
    _checks(work, {record: ["b"] for record in texts})
    _config(work, suggestions=True, control_share=0.0)
    run_stage(push_stage.stage(more=4), work.run)
    _config(work, suggestions="check")
    run_stage(push_stage.stage(more=4), work.run)
    external = [item["external_id"] for item in work.on_server()]
    seen = dict(zip(external, _suggested(work), strict=True))
    assert {row["record_id"]: row["labels"] if row["shown"] else None for row in _suggestions(work)} == seen
    assert sorted(map(str, seen.values())) == sorted(["None"] * 4 + ["['a']"] * 4 + ["['b']"] * 4)
    _config(work, suggestions=False)
    work.stage("push", force=True)
    assert {row["record_id"]: row["labels"] if row["shown"] else None for row in _suggestions(work)} == seen
    work.answer("ann", {record: value or ["c"] for record, value in seen.items()})
    work.stage("pull")
    work.stage("reconcile")
    anchoring = json.loads((work.folder / "agreement.json").read_bytes())["anchoring"]
    assert (anchoring["sources"], anchoring["suggested"]["value"], anchoring["suggested"]["n"]) == (
        ["check", "intended"],
        1.0,
        8,
    )


def _suggestions(work: SimulatedRun) -> list[dict[str, Any]]:
    return pl.read_parquet(work.folder / "suggestions.parquet").to_dicts()


def test_suggestions_of_a_check_that_is_off_are_refused(new_run: NewRun) -> None:
    work = new_run(annotation={"suggestions": "check"})
    with pytest.raises(InputError, match=r"check requires generate\.check\.enabled: true"):
        work.stage("push")

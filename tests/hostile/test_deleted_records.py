"""Records or datasets that somebody deletes on the server: push sends them again, pulled answers stay."""

from __future__ import annotations

from collections.abc import Callable

from tests.annotation.runs import SimulatedRun
from tests.hostile.fake_argilla import FakeArgilla


def test_push_sends_deleted_records_again(argilla: FakeArgilla, pushed: Callable[..., SimulatedRun]) -> None:
    work = pushed()
    argilla.answer("r1", "ann", labels=["a"])
    argilla.answer("r2", "ann", labels=["b"])
    work.stage("pull")
    assert work.stage("push").status == "up to date"
    argilla.delete_record("r1")
    done = work.stage("push")
    assert (done.status, done.why) == ("ran", "2 of 3 records are on the server")
    assert done.manifest.counts_out == {"sent": 1, "already_there": 2, "on_server_only": 0}
    assert sorted(record["external_id"] for record in argilla.records_of(0)) == ["r1", "r2", "r3"]
    counts = work.stage("pull").manifest.counts_out
    assert (counts["answers"], counts["gone"]) == (2, 1)
    assert work.annotations()["labels"].to_list() == [["a"], ["b"]]
    assert work.stage("push").status == "up to date"


def test_push_creates_a_deleted_dataset_again(argilla: FakeArgilla, pushed: Callable[..., SimulatedRun]) -> None:
    work = pushed()
    argilla.answer("r1", "ann", labels=["a"])
    work.stage("pull")
    argilla.datasets.clear()
    argilla.records.clear()
    done = work.stage("push")
    assert (done.status, done.why) == ("ran", "the dataset is not on the server any more")
    assert done.manifest.counts_out["sent"] == 3
    assert work.pushed()["dataset_id"] == next(iter(argilla.datasets))
    argilla.answer("r1", "ann", labels=["c"])
    argilla.answer("r2", "ben", labels=["b"])
    counts = work.stage("pull").manifest.counts_out
    assert (counts["new"], counts["edited"], counts["gone"]) == (1, 1, 0)
    assert work.annotations()["labels"].to_list() == [["c"], ["b"]]


def test_a_push_that_has_nothing_to_send_asks_for_the_number_only(
    argilla: FakeArgilla, pushed: Callable[..., SimulatedRun]
) -> None:
    work = pushed()
    argilla.calls.clear()
    assert work.stage("push").status == "up to date"
    dataset = work.pushed()["dataset_id"]
    assert argilla.calls == [("GET", "/me"), ("GET", "/me/datasets"), ("GET", f"/datasets/{dataset}/progress")]

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from tests.annotation.runs import SimulatedRun

NewRun = Callable[..., SimulatedRun]


def test_an_expert_settles_what_annotators_could_not(new_run: NewRun) -> None:
    work = new_run()
    work.stage("push")
    work.answer("ann", {"r1": ["a", "b"], "r2": ["b"], "r3": ["none"]}, note="<i>hm</i>")
    work.answer("ben", {"r1": ["b"], "r2": ["b"], "r3": ["c"]})
    work.stage("pull")
    work.stage("reconcile")
    assert work.stage("adjudicate").manifest.counts_out == {"sent": 2, "updated": 0, "already_there": 0}

    shown = {record["external_id"]: record["fields"] for record in work.on_server("adjudicate.json")}
    assert set(shown) == {"r1", "r3"}
    assert shown["r1"]["votes"] == "Boats: 2 of 2\nApples &lt;b&gt;: 1 of 2\nNote: “&lt;i&gt;hm&lt;/i&gt;”"
    assert shown["r3"]["votes"] == "Cats: 1 of 2\nNone of these: 1 of 2\nNote: “&lt;i&gt;hm&lt;/i&gt;”"
    assert shown["r1"]["record"] == [{"role": "user", "content": "one"}]
    assert not any(name in str(shown) for name in ("ann", "ben", "A01", "A02"))

    work.answer("eva", {"r1": ["b"], "r3": ["none"]}, file="adjudicate.json")
    assert work.stage("pull").manifest.counts_out["new"] == 2
    rounds = work.annotations().group_by("round").len().sort("round")
    assert rounds.rows() == [("adjudicate", 2), ("annotate", 6)]
    assert work.stage("reconcile").manifest.counts_out["adjudicated"] == 2
    gold = pl.read_parquet(work.folder / "gold.parquet").sort("id")
    assert gold["labels"].to_list() == [["b"], ["b"], []]
    assert gold["adjudicated"].to_list() == [True, False, True]
    assert gold["n_annotators"].to_list() == [2, 2, 2]


def test_an_annotator_cannot_give_a_verdict(new_run: NewRun) -> None:
    work = new_run()
    work.stage("push")
    work.answer("ann", {"r1": ["a"]})
    work.answer("ben", {"r1": ["b"]})
    for stage in ("pull", "reconcile", "adjudicate"):
        work.stage(stage)
    with work.as_user("ann") as ann:
        seen = {dataset["id"] for dataset in ann.get("/me/datasets")["items"]}
    assert work.pushed()["dataset_id"] in seen
    assert work.pushed("adjudicate.json")["dataset_id"] not in seen


def test_a_later_round_adds_records_and_refreshes_the_votes(new_run: NewRun) -> None:
    work = new_run()
    work.stage("push")
    work.answer("ann", {"r1": ["a"]})
    work.answer("ben", {"r1": ["b"]})
    for stage in ("pull", "reconcile", "adjudicate"):
        work.stage(stage)
    work.answer("ann", {"r1": ["c"], "r2": ["c"]})
    work.answer("ben", {"r2": ["a"]})
    for stage in ("pull", "reconcile"):
        work.stage(stage)
    assert work.stage("adjudicate").manifest.counts_out == {"sent": 1, "updated": 1, "already_there": 0}
    votes = {record["external_id"]: record["fields"]["votes"] for record in work.on_server("adjudicate.json")}
    assert votes["r1"] == "Boats: 1 of 2\nCats: 1 of 2"

"""A whole round in which everybody answers every record at the same moment: nothing is lost, nothing counts twice."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier

import polars as pl

from marginalia.annotation.client.connection import Connection
from tests.annotation.runs import SimulatedRun

TEXTS = {f"r{at:02}": f"text {at}" for at in range(12)}


def labels_of(username: str, record: str) -> list[str]:
    """'a' on even records, 'b' on all; ben adds 'c' to every third."""
    at = int(record[1:])
    return [*(["a"] if at % 2 == 0 else []), "b", *(["c"] if username == "ben" and at % 3 == 0 else [])]


def answer_at_once(work: SimulatedRun) -> None:
    """Each annotator in a thread, all three on the same record at a time; every answer is sent twice, as by a double
    click."""
    ids = {record["external_id"]: record["id"] for record in work.on_server()}
    barrier = Barrier(3)

    def submit(connection: Connection, username: str) -> None:
        for record in TEXTS:
            item = {
                "record_id": ids[record],
                "status": "submitted",
                "values": {"labels": {"value": labels_of(username, record)}},
            }
            barrier.wait(timeout=60)
            for _ in range(2):
                (answer,) = connection.post("/me/responses/bulk", {"items": [item]})["items"]
                assert answer["error"] is None

    with ExitStack() as stack:
        annotators = {username: stack.enter_context(work.as_user(username)) for username in ("ann", "ben", "carl")}
        pool = stack.enter_context(ThreadPoolExecutor(len(annotators)))
        for job in [pool.submit(submit, connection, username) for username, connection in annotators.items()]:
            job.result()


def test_three_annotators_on_every_record_at_the_same_time(new_run: Callable[..., SimulatedRun]) -> None:
    work = new_run(texts=TEXTS, annotation={"team": ["ann", "ben", "carl"], "annotators": 3})
    work.stage("push")
    answer_at_once(work)
    assert {record["status"] for record in work.on_server()} == {"completed"}
    counts = work.stage("pull").manifest.counts_out
    assert (counts["answers"], counts["new"], counts["submitted"]) == (36, 36, 36)
    assert len(work.journal()) == 36
    given = {(row["record_id"], row["annotator"]): row["labels"] for row in work.annotations().iter_rows(named=True)}
    annotators = {username: work.pseudonym(username) for username in ("ann", "ben", "carl")}
    assert given == {
        (record, annotators[username]): labels_of(username, record) for record in TEXTS for username in annotators
    }
    work.stage("reconcile")
    gold = {row["id"]: row for row in pl.read_parquet(work.folder / "gold.parquet").iter_rows(named=True)}
    for record, row in gold.items():
        assert (row["status"], row["n_annotators"], row["labels"]) == ("final", 3, labels_of("ann", record))
        assert row["votes"][2] == {"label": "c", "yes": int(record[1:]) % 3 == 0, "n": 3}

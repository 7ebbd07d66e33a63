from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.annotation.server.rest import LABELS, Dataset, answer_body, post, respond


def test_progress_counts_records_and_the_users_own_responses(
    owner: httpx.Client, ann: httpx.Client, ben: httpx.Client, new_dataset: Callable[..., Dataset]
) -> None:
    dataset = new_dataset(["a", "b", "c", "d"])
    respond(ann, dataset.records[0], [LABELS[0]])
    respond(ben, dataset.records[0], [LABELS[1]])
    respond(ann, dataset.records[1], [LABELS[0]], "draft")
    respond(ann, dataset.records[2], [LABELS[0]], "discarded")
    progress = owner.get(f"/datasets/{dataset.id}/progress").json()
    assert (progress["total"], progress["completed"], progress["pending"]) == (4, 1, 3)
    of_ann = ann.get(f"/me/datasets/{dataset.id}/metrics").json()["responses"]
    assert of_ann == {"total": 4, "submitted": 1, "draft": 1, "discarded": 1, "pending": 1}


def test_bulk_responses_take_the_good_and_name_the_bad(ann: httpx.Client, new_dataset: Callable[..., Dataset]) -> None:
    dataset = new_dataset(["a", "b", "c"])
    answers = [{"record_id": record, **answer_body([LABELS[2]])} for record in dataset.records]
    answers[1]["values"] = answer_body(["no such label"])["values"]
    items = post(ann, "/me/responses/bulk", {"items": answers})["items"]
    assert [item["error"] is None for item in items] == [True, False, True]
    assert ann.get(f"/me/datasets/{dataset.id}/metrics").json()["responses"]["submitted"] == 2


def test_a_second_answer_of_the_same_annotator_replaces_the_first(
    ann: httpx.Client, owner: httpx.Client, new_dataset: Callable[..., Dataset]
) -> None:
    dataset = new_dataset(["a"])
    for labels in ([LABELS[1]], [LABELS[2], LABELS[3]]):
        post(ann, "/me/responses/bulk", {"items": [{"record_id": dataset.records[0], **answer_body(labels)}]})
    record = owner.get(f"/datasets/{dataset.id}/records", params={"include": "responses"}).json()["items"][0]
    assert [next(iter(r["values"].values()))["value"] for r in record["responses"]] == [[LABELS[2], LABELS[3]]]


def test_two_annotators_answer_the_same_records_at_the_same_time(
    ann: httpx.Client, ben: httpx.Client, owner: httpx.Client, new_dataset: Callable[..., Dataset]
) -> None:
    """Both answers are kept, and every record counts as completed, in whatever order the requests interleave."""
    dataset = new_dataset([f"text {number}" for number in range(15)], min_submitted=2)
    with ThreadPoolExecutor(4) as pool:
        jobs = [
            pool.submit(respond, client, record, [label])
            for record in dataset.records
            for client, label in ((ann, LABELS[1]), (ben, LABELS[2]))
        ]
        for job in jobs:
            job.result()
    records = owner.get(f"/datasets/{dataset.id}/records", params={"include": "responses"}).json()["items"]
    assert [len(record["responses"]) for record in records] == [2] * 15
    assert {record["status"] for record in records} == {"completed"}


def test_forty_searches_at_once_do_not_wait_for_each_other(
    ann: httpx.Client, new_dataset: Callable[..., Dataset]
) -> None:
    """More than there are connections in a pool: a search inside a request must not need a second one of the same."""
    dataset = new_dataset(["a", "b"])
    with ThreadPoolExecutor(40) as pool:
        answers = pool.map(lambda _: ann.post(f"/me/datasets/{dataset.id}/records/search", json={}), range(40))
        assert {answer.status_code for answer in answers} == {200}

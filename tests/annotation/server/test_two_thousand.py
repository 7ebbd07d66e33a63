"""Two thousand records through the routes that the web UI calls, signed in with name and password as in the UI."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.filled_argilla import fill
from marginalia.annotation.server.server_control import RunningServer, accounts
from marginalia.annotation.server.server_home import DATABASE
from tests.annotation.server.rest import LABELS, Dataset, answer_body, post

RECORDS = 2000
PAGE = 100
NEEDLE = "a needle in every fortieth"


@pytest.fixture(scope="module")
def dataset(new_dataset: Callable[..., Dataset], argilla_home: Path) -> Dataset:
    """2,000 records: 1,999 more than the one that the dataset was created with."""
    made = new_dataset(["the first one"], min_submitted=1)
    texts = [{"text": f"text {at} {NEEDLE if at % 40 == 0 else ''}", "context": []} for at in range(1, RECORDS)]
    fill(argilla_home / DATABASE, made.id, texts)
    return made


@pytest.fixture(scope="module")
def browser(argilla_home: Path, argilla_server: RunningServer, ann: httpx.Client) -> Iterator[httpx.Client]:
    """Ann, with the token that the UI's sign-in gets."""
    password = next(account.password for account in accounts(argilla_home) if account.username == "ann")
    with httpx.Client(base_url=f"{argilla_server.url}/api/v1", timeout=60, trust_env=False) as client:
        token = client.post("/token", data={"username": "ann", "password": password}).json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        yield client


def queue(browser: httpx.Client, dataset: Dataset, status: str, offset: int, text: str | None = None) -> dict[str, Any]:
    """One page of what the UI shows under this status."""
    conditions = [{"type": "terms", "scope": {"entity": "response", "property": "status"}, "values": [status]}]
    if status == "pending":
        conditions.append({"type": "terms", "scope": {"entity": "record", "property": "status"}, "values": ["pending"]})
    body: dict[str, Any] = {"query": {}, "filters": {"and": conditions}}
    if text is not None:
        body["query"] = {"text": {"q": text}}
    page = {"include": ["responses", "suggestions"], "offset": offset, "limit": PAGE}
    answer = browser.post(f"/me/datasets/{dataset.id}/records/search", json=body, params=page)
    assert answer.is_success, answer.text
    content: dict[str, Any] = answer.json()
    return content


def ids(browser: httpx.Client, dataset: Dataset, status: str, text: str | None = None) -> list[str]:
    first = queue(browser, dataset, status, 0, text)
    pages = [first] + [queue(browser, dataset, status, at, text) for at in range(PAGE, first["total"], PAGE)]
    assert {page["total"] for page in pages} == {first["total"]}
    return [item["record"]["id"] for page in pages for item in page["items"]]


def test_two_thousand_records_are_listed_found_answered_and_counted(
    browser: httpx.Client, ben: httpx.Client, dataset: Dataset
) -> None:
    pending = ids(browser, dataset, "pending")
    assert (len(pending), len(set(pending))) == (RECORDS, RECORDS)
    found = ids(browser, dataset, "pending", f'"{NEEDLE}" -text')
    assert found == []
    found = ids(browser, dataset, "pending", f'"{NEEDLE}"')
    assert (len(found), set(found) <= set(pending)) == (49, True)

    bulk = [{"record_id": record, **answer_body([LABELS[1]])} for record in found]
    assert {item["error"] for item in post(browser, "/me/responses/bulk", {"items": bulk})["items"]} == {None}
    submitted, drafted, discarded = [record for record in pending if record not in found][:3]
    post(browser, f"/records/{submitted}/responses", answer_body([LABELS[2]]))
    response = post(browser, f"/records/{drafted}/responses", answer_body([LABELS[2]], "draft"))["id"]
    post(browser, f"/records/{discarded}/responses", answer_body([LABELS[2]], "discarded"))
    post(ben, f"/records/{drafted}/responses", answer_body([LABELS[3]]))  # which completes the record

    assert set(ids(browser, dataset, "submitted")) == {*found, submitted}
    assert (ids(browser, dataset, "draft"), ids(browser, dataset, "discarded")) == ([drafted], [discarded])
    left = ids(browser, dataset, "pending")
    assert len(left) == len(set(left)) == RECORDS - len(found) - 3
    browser.put(f"/responses/{response}", json=answer_body([LABELS[2]])).raise_for_status()
    metrics = browser.get(f"/me/datasets/{dataset.id}/metrics").json()["responses"]
    assert metrics == {"total": RECORDS, "submitted": 51, "draft": 0, "discarded": 1, "pending": RECORDS - 52}
    progress = browser.get(f"/datasets/{dataset.id}/progress").json()
    assert (progress["total"], progress["completed"], progress["pending"]) == (RECORDS, 51, RECORDS - 51)

"""Argilla's REST API for these tests."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

import httpx

from marginalia.annotation.server.server_control import Account

QUESTION = 'kind "of.harm" é'  # characters with a meaning in a JSON path
LABELS = ["none", 'weapons "and" more', "drugs.sale", "self_harm"]


@dataclass(frozen=True)
class Dataset:
    """A published dataset; `records` are the server's ids in the order of the texts."""

    id: str
    question_id: str
    records: list[str]


def connect(url: str, account: Account) -> httpx.Client:
    return httpx.Client(
        base_url=f"{url}/api/v1", headers={"X-Argilla-Api-Key": account.api_key}, timeout=30, trust_env=False
    )


def post(client: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """POST that must succeed; returns the answer's JSON."""
    answer = client.post(path, json=body)
    assert answer.is_success, (path, answer.status_code, answer.text)
    content: dict[str, Any] = answer.json()
    return content


def create_dataset(
    owner: httpx.Client,
    workspace: str,
    texts: list[str],
    *,
    metadata: list[dict[str, Any]] | None = None,
    suggestions: list[list[dict[str, Any]]] | None = None,
    min_submitted: int = 2,
) -> Dataset:
    """Publish a dataset of one text field, one chat field, a required multi-label question, and metadata `form`
    (terms) and `difficulty` (integer). Suggestions go to the question."""
    workspaces = {w["name"]: w["id"] for w in owner.get("/me/workspaces").json()["items"]}
    distribution = {"strategy": "overlap", "min_submitted": min_submitted}
    name = f"dataset-{uuid.uuid4().hex[:12]}"
    dataset = post(
        owner, "/datasets", {"name": name, "workspace_id": workspaces[workspace], "distribution": distribution}
    )["id"]
    for field, kind, required in (("text", "text", True), ("context", "chat", False)):
        settings = {"type": kind, "use_markdown": False}
        body = {"name": field, "title": field, "required": required, "settings": settings}
        post(owner, f"/datasets/{dataset}/fields", body)
    options = [{"value": label, "text": label.title()} for label in LABELS]
    settings = {"type": "multi_label_selection", "options": options, "visible_options": len(options)}
    body = {"name": QUESTION, "title": "Which apply?", "required": True, "settings": settings}
    question = post(owner, f"/datasets/{dataset}/questions", body)["id"]
    for name, kind in (("form", "terms"), ("difficulty", "integer")):
        body = {"name": name, "title": name, "settings": {"type": kind}, "visible_for_annotators": True}
        post(owner, f"/datasets/{dataset}/metadata-properties", body)
    owner.put(f"/datasets/{dataset}/publish").raise_for_status()
    items = [
        {
            "external_id": f"r{number}",
            "fields": {"text": text, "context": [{"role": "user", "content": f"context of {number}"}]},
            "metadata": metadata[number] if metadata else {},
            "suggestions": [{**s, "question_id": question} for s in suggestions[number]] if suggestions else [],
        }
        for number, text in enumerate(texts)
    ]
    created = post(owner, f"/datasets/{dataset}/records/bulk", {"items": items})["items"]
    return Dataset(dataset, question, [record["id"] for record in created])


def search(client: httpx.Client, dataset: Dataset, body: dict[str, Any], **page: int) -> tuple[list[str], int]:
    """External ids found on this page, and the total. Annotators search their own queue, the owner everything."""
    prefix = "" if client.get("/me").json()["role"] == "owner" else "/me"
    answer = client.post(f"{prefix}/datasets/{dataset.id}/records/search", json=body, params=page)
    assert answer.is_success, (answer.status_code, answer.text)
    page_found = answer.json()
    return [item["record"]["external_id"] for item in page_found["items"]], page_found["total"]


def text_query(text: str, **field: str) -> dict[str, Any]:
    return {"query": {"text": {"q": text, **field}}}


def one_filter(kind: str, scope: dict[str, Any], **values: Any) -> dict[str, Any]:
    return {"filters": {"and": [{"type": kind, "scope": scope, **values}]}}


def answer_body(labels: list[str], status: str = "submitted") -> dict[str, Any]:
    return {"status": status, "values": {QUESTION: {"value": labels}}}


def respond(client: httpx.Client, record: str, labels: list[str], status: str = "submitted") -> dict[str, Any]:
    return post(client, f"/records/{record}/responses", answer_body(labels, status))

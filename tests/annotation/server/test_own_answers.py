"""What an annotator learns of the others through the API: nothing."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from tests.annotation.server.rest import LABELS, QUESTION, Dataset, respond


def test_no_reply_to_an_annotator_has_a_colleagues_name_id_or_answer(
    owner: httpx.Client, ann: httpx.Client, ben: httpx.Client, new_dataset: Callable[..., Dataset]
) -> None:
    dataset = new_dataset(["one text"])
    respond(ann, dataset.records[0], [LABELS[0]])
    respond(ben, dataset.records[0], [LABELS[3]])
    ben_id = ben.get("/me").json()["id"]
    workspace = next(item["id"] for item in owner.get("/me/workspaces").json()["items"] if item["name"] == "team")
    ids = {"dataset_id": dataset.id, "record_id": dataset.records[0], "workspace_id": workspace, "user_id": ben_id}
    ids["question_id"] = dataset.question_id
    asked = 0
    for path, methods in owner.get("/openapi.json").json()["paths"].items():
        if "get" not in methods:
            continue
        for include in ({}, {"include": "responses"}):
            reply = ann.get(_filled(path, ids), params=include)
            asked += reply.is_success
            for secret in ('"ben"', ben_id, f'"{LABELS[3]}"]'):
                assert secret not in reply.text, (path, reply.status_code)
    assert asked > 20
    search = ann.post(f"/datasets/{dataset.id}/records/search", params={"include": "responses"}, json={})
    assert search.status_code == 403


def test_own_progress_and_own_answer_are_shown_and_the_owner_sees_all(
    owner: httpx.Client, ann: httpx.Client, ben: httpx.Client, new_dataset: Callable[..., Dataset]
) -> None:
    dataset = new_dataset(["one text"])
    respond(ann, dataset.records[0], [LABELS[0]])
    respond(ben, dataset.records[0], [LABELS[3]])
    progress, record = f"/datasets/{dataset.id}/users/progress", f"/records/{dataset.records[0]}"
    assert [user["username"] for user in ann.get(progress).json()["users"]] == ["ann"]
    (own,) = ann.get(record).json()["responses"]
    assert (own["user_id"], own["values"]) == (ann.get("/me").json()["id"], {QUESTION: {"value": [LABELS[0]]}})
    assert sorted(user["username"] for user in owner.get(progress).json()["users"]) == ["ann", "ben"]
    assert len(owner.get(record).json()["responses"]) == 2


def _filled(path: str, ids: dict[str, str]) -> str:
    filled = path.removeprefix("/api/v1")
    for name, value in ids.items():
        filled = filled.replace("{" + name + "}", value)
    return filled
